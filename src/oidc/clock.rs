//! How far a provider's clock is from ours, so that a person refused for a time can be told why.

use http::{HeaderMap, header};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds by which the sender of `headers` is ahead of `now`, by its `Date`; negative if it is behind.
///
/// Source: RFC 9110, section 6.6.1.
pub(super) fn ahead(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    let date = parse(headers.get(header::DATE)?.to_str().ok()?)?;
    let seconds = |gap: Duration| i64::try_from(gap.as_secs()).ok();
    match date.duration_since(now) {
        Ok(gap) => seconds(gap),
        Err(behind) => seconds(behind.duration()).map(|gap| -gap),
    }
}

/// Reads an `IMF-fixdate`, such as `Sun, 06 Nov 1994 08:49:37 GMT`; the obsolete forms are not worth reading.
fn parse(text: &str) -> Option<SystemTime> {
    let (_, date) = text.split_once(", ")?;
    let [day, month, year, time, "GMT"] = date.split(' ').collect::<Vec<_>>()[..] else { return None };
    let [hour, minute, second] = time.split(':').collect::<Vec<_>>()[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let number = |text: &str| text.parse::<u64>().ok();
    let (year, day) = (number(year).filter(|year| (1970..=9999).contains(year))?, number(day)?);
    let clock = number(hour)? * 3600 + number(minute)? * 60 + number(second)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(days(year, month, day) * 86_400 + clock))
}

/// Days from 1970-01-01 in the Gregorian calendar. Years begin in March, so that a leap day ends one.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before_year = year * 365 + year / 4 - year / 100 + year / 400;
    (before_year + (month * 153 + 2) / 5 + day).saturating_sub(719_469)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn dates_are_read_as_rfc_9110_writes_them() {
        let at = |text| parse(text).and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs());
        assert_eq!(at("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(at("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(at("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        for bad in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 19999999999999999999 08:49:37 GMT",
        ] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_difference_has_a_sign() {
        let headers = HeaderMap::from_iter([(header::DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"))]);
        let date = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(ahead(&headers, date - Duration::from_secs(7)), Some(7));
        assert_eq!(ahead(&headers, date + Duration::from_secs(7)), Some(-7));
        assert_eq!(ahead(&HeaderMap::new(), date), None);
    }
}
