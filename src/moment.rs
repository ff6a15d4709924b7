//! Points in time as milliseconds since 1970, written and read as in RFC 3339.

use std::time::{Duration, SystemTime};

/// A day in milliseconds.
const DAY: u64 = 86_400_000;

/// Milliseconds since 1970; 0 for what lies before.
pub fn millis(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The time that [`millis`] gave.
pub fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

/// `2026-11-23T06:38:14Z`.
pub fn to_the_second(time: SystemTime) -> String {
    format!("{}Z", cut(time, 19))
}

/// The day in UTC: `2026-11-23`.
pub fn day(time: SystemTime) -> String {
    cut(time, 10)
}

fn cut(time: SystemTime, length: usize) -> String {
    rfc3339(millis(time)).chars().take(length).collect()
}

/// `2026-11-23T06:38:14.123Z`.
pub fn rfc3339(millis: u64) -> String {
    let (days, rest) = (millis / 86_400_000, millis % 86_400_000);
    let (year, month, day) = date(days);
    let (seconds, fraction) = (rest / 1000, rest % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z")
}

/// Reads a point in time: `2026-11-23T06:38:14Z`, with a fraction or an offset if need be, or a bare date (midnight UTC); or a
/// span before `now` such as `90s`, `15m`, `1h30m`, `7d`. Without an offset it is of UTC, seconds may be left out, and `today` and
/// `yesterday` are days of UTC as well.
///
/// # Errors
/// What was expected.
pub fn parse_moment(text: &str, now: SystemTime) -> Result<u64, String> {
    if let Some(span) = parse_span(text) {
        return Ok(millis(now).saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)));
    }
    let midnight = millis(now) / DAY * DAY;
    match text {
        "today" => Ok(midnight),
        "yesterday" => Ok(midnight.saturating_sub(DAY)),
        _ => moment(text).or_else(|| moment(&whole(text)?)).ok_or_else(|| {
            format!(
                "`{text}` is no point in time: expected a day (`2026-11-23`, `today`, `yesterday`), a time (`2026-11-23 06:38`, \
                 `2026-11-23T06:38:14Z`; UTC, if no offset is named) or how long ago it is (`1h30m`, `7d`)"
            )
        }),
    }
}

/// A time with what was left out: seconds, and that it is of UTC.
fn whole(text: &str) -> Option<String> {
    let (minutes, rest) = text.split_at_checked(16)?;
    let (seconds, zone) = if rest.starts_with(':') { rest.split_at_checked(3)? } else { (":00", rest) };
    let is_plain = zone.is_empty() || zone.starts_with('.');
    Some(format!("{minutes}{seconds}{zone}{}", if is_plain { "Z" } else { "" }))
}

/// A span such as `90s`, `15m`, `1h30m`, `7d`.
pub fn parse_span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            _ => return None,
        };
        seconds = seconds.checked_add(count.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then(|| Duration::from_secs(seconds))
}

/// A point in time as in RFC 3339, or a bare date; in milliseconds since 1970.
pub fn parse_time(text: &str) -> Option<u64> {
    moment(text)
}

fn moment(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| -> Option<u64> {
        let part = text.get(from..to)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let mark = |at: usize, expected: &[u8]| text.as_bytes().get(at).is_some_and(|byte| expected.contains(byte));
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if !mark(4, b"-") || !mark(7, b"-") || year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let midnight = days(year, month, day).checked_mul(86_400_000)?;
    if date(midnight / 86_400_000) != (year, month, day) {
        return None;
    }
    if text.len() == 10 {
        return Some(midnight);
    }
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !mark(10, b"Tt ") || !mark(13, b":") || !mark(16, b":") || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, zone) = fraction(text.get(19..)?)?;
    let local = midnight + (hour * 3600 + minute * 60 + second) * 1000 + fraction;
    local.checked_add_signed(-offset(zone)?)
}

/// Milliseconds of a fraction such as `.25`, and what follows it.
fn fraction(text: &str) -> Option<(u64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let length = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, zone) = rest.split_at(length);
    (!digits.is_empty()).then_some(())?;
    format!("{digits:0<3}")[..3].parse().ok().map(|millis| (millis, zone))
}

/// Milliseconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let fits =
        hours.len() == 2 && minutes.len() == 2 && (hours.bytes().chain(minutes.bytes())).all(|b| b.is_ascii_digit());
    fits.then_some(())?;
    Some(sign * (hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?) * 60_000)
}

/// Year, month and day of the day that many days after 1970-01-01. The year is taken to begin in March, so that the leap day
/// is its last; an era is 400 years.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, of_year - (153 * from_march + 2) / 5 + 1)
}

/// The inverse of [`date`], for years from 1970.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let (era, of_era) = (year / 400, year % 400);
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * from_march + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(millis in 0..250_000_000_000_000_u64) {
            prop_assert_eq!(moment(&rfc3339(millis)), Some(millis));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = parse_moment(&text, SystemTime::UNIX_EPOCH);
        }
    }

    #[test]
    fn reads_fractions_offsets_dates_and_spans() {
        let at = Some(1_795_416_594_250);
        assert_eq!(moment("2026-11-23T06:49:54.25Z"), at);
        assert_eq!(moment("2026-11-23T07:49:54.250000+01:00"), at);
        assert_eq!(moment("2000-02-29"), Some(951_782_400_000));
        for bad in ["2025-02-29", "2026-13-01", "2026-11-23T06:49:54", "2026-11-23T06:49:54+1:00", "x"] {
            assert_eq!(moment(bad), None, "{bad}");
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        assert_eq!(parse_moment("1h30m", now), Ok(4_600_000));
        assert!(parse_moment("soon", now).is_err());
        let at = |text: &str| parse_moment(text, super::at(1_795_416_594_250)).map(rfc3339);
        for (text, expected) in [
            ("today", "2026-11-23T00:00:00.000Z"),
            ("yesterday", "2026-11-22T00:00:00.000Z"),
            ("2026-11-30", "2026-11-30T00:00:00.000Z"),
            ("2026-11-30 22:00", "2026-11-30T22:00:00.000Z"),
            ("2026-11-30T22:00", "2026-11-30T22:00:00.000Z"),
            ("2026-11-30T22:00Z", "2026-11-30T22:00:00.000Z"),
            ("2026-11-30 22:00+01:00", "2026-11-30T21:00:00.000Z"),
            ("2026-11-30 22:00:07", "2026-11-30T22:00:07.000Z"),
            ("2026-11-30T22:00:07.5", "2026-11-30T22:00:07.500Z"),
        ] {
            assert_eq!(at(text).as_deref(), Ok(expected), "{text}");
        }
        for bad in ["2026-11-30 22", "2026-11-30 22:0", "2026-11-30 24:00", "2026-11-30 22:00x", "last month", "22:00"]
        {
            assert!(at(bad).is_err_and(|said| said.contains("`yesterday`") && said.contains("`7d`")), "{bad}");
        }
        assert_eq!(rfc3339(1_795_416_594_250), "2026-11-23T06:49:54.250Z");
    }
}
