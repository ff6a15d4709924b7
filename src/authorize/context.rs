//! The context of a request: built for Cedar on a cache miss, compared by value on a hit.

use super::words::{Action, Attribute, Reads};
use crate::{
    canonical::{Class, ClientCertificate, Fields, Host, Inspected, Judged},
    principal::Strength,
};
use cedar_policy::{Context, RestrictedExpression};
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Longer texts are not kept: a decision about them is made anew each time.
const TEXT: usize = 1024;

/// Everything of a request that can change what a slice decides. Equal inputs, equal decision.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Inputs {
    action: Action,
    host: Option<Host>,
    path: Option<Arc<str>>,
    folded: Option<Arc<str>>,
    query: Option<Arc<str>>,
    client: Option<IpAddr>,
    class: Option<Class>,
    certificate: Option<Arc<ClientCertificate>>,
    amr: Option<Arc<[String]>>,
    acr: Option<Arc<str>>,
    auth_time: Option<SystemTime>,
    body: Option<Fields>,
}

impl Inputs {
    /// What a slice that `reads` so much depends on; `None` if its decisions cannot be kept.
    ///
    /// An attribute that is read and absent looks like one that is not read: whether it is read is the slice's alone.
    pub(super) fn of(reads: Reads, action: Action, judged: &Judged, strength: Option<&Strength>) -> Option<Self> {
        if reads.time() {
            return None;
        }
        let read = |attribute| reads.contains(attribute);
        let asked = &judged.asked;
        let inputs = Self {
            action,
            host: read(Attribute::Host).then(|| asked.host.clone()),
            path: read(Attribute::Path).then(|| asked.target.path.clone()),
            folded: read(Attribute::PathFolded).then(|| asked.target.folded.clone()),
            query: asked.target.query.clone().filter(|query| read(Attribute::Query) && !query.is_empty()),
            client: read(Attribute::ClientIp).then_some(asked.client),
            class: read(Attribute::Class).then_some(asked.class),
            certificate: (asked.certificate.clone())
                .filter(|_| read(Attribute::TlsSubject) || read(Attribute::TlsSpiffeId)),
            amr: strength.filter(|_| read(Attribute::Amr)).map(|strength| strength.amr.clone()),
            acr: strength.filter(|_| read(Attribute::Acr)).and_then(|strength| strength.acr.clone()),
            auth_time: strength.filter(|_| read(Attribute::AuthTime)).and_then(|strength| strength.auth_time),
            body: match &judged.body {
                Inspected::Read(_, fields) if read(Attribute::Body) => Some(fields.clone()),
                Inspected::Read(..) | Inspected::Unnamed | Inspected::Unread => None,
            },
        };
        let texts = [&inputs.path, &inputs.folded, &inputs.query].into_iter().flatten();
        let values = inputs.body.iter().flat_map(|fields| fields.iter().map(|(_, value)| value));
        let short = texts.chain(values).all(|text| text.len() <= TEXT);
        short.then_some(inputs)
    }
}

/// The attributes that are read; the others could change nothing. `None` for a time that no calendar has.
pub(super) fn context(reads: Reads, judged: &Judged, strength: Option<&Strength>, now: SystemTime) -> Option<Context> {
    let read = Attribute::ALL.into_iter().filter(|attribute| reads.contains(*attribute));
    let values = read.filter_map(|attribute| {
        value(attribute, judged, strength, now).map(|value| (attribute.as_str().to_owned(), value))
    });
    Context::from_pairs(values).ok()
}

/// The value of one attribute, if the request has it.
fn value(
    attribute: Attribute,
    judged: &Judged,
    strength: Option<&Strength>,
    now: SystemTime,
) -> Option<RestrictedExpression> {
    let asked = &judged.asked;
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    Some(match attribute {
        Attribute::Host => text(asked.host.as_str()),
        Attribute::Path => text(&asked.target.path),
        Attribute::PathFolded => text(&asked.target.folded),
        Attribute::Query => text(asked.target.query.as_deref().unwrap_or_default()),
        Attribute::ClientIp => RestrictedExpression::new_ip(address(asked.client)),
        Attribute::Now => RestrictedExpression::new_datetime(datetime(now)),
        Attribute::SessionAge => {
            let age = now.duration_since(strength?.created?).unwrap_or_default().as_secs();
            RestrictedExpression::new_long(i64::try_from(age).unwrap_or(i64::MAX))
        }
        Attribute::Amr => {
            let methods = strength.map_or(&[][..], |strength| &strength.amr);
            RestrictedExpression::new_set(methods.iter().map(|method| text(method)))
        }
        Attribute::Acr => text(strength?.acr.as_deref()?),
        Attribute::AuthTime => RestrictedExpression::new_datetime(datetime(strength?.auth_time?)),
        Attribute::Class => text(asked.class.as_str()),
        Attribute::TlsSubject => text(&asked.certificate.as_ref()?.subject),
        Attribute::TlsSpiffeId => text(asked.certificate.as_ref()?.spiffe_id.as_deref()?),
        Attribute::Body => {
            let fields = judged.body.fields().iter().map(|(name, value)| (name.to_string(), text(value)));
            RestrictedExpression::new_record(fields).ok()?
        }
    })
}

/// An address as Cedar reads it: an IPv4 address in IPv6 clothes is the IPv4 address, and no dots in IPv6.
fn address(client: IpAddr) -> String {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => address.segments().map(|segment| format!("{segment:x}")).join(":"),
    }
}

/// A time as Cedar reads it, in milliseconds: `2026-03-01T12:00:00.000Z`. Times before 1970 become 1970.
fn datetime(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second, milli) = (second / 3600, second / 60 % 60, second % 60, since.subsec_millis());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// The date that is so many days after 1970-01-01, counted in years that begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorize::testing::asked;

    #[test]
    fn writes_times_as_the_calendar_has_them() {
        let at = |seconds: u64| datetime(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59.000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59.000Z");
    }

    #[test]
    fn every_attribute_can_be_built() {
        let mut asked = asked("GET", "/a?b=c");
        for client in ["10.0.0.1", "::1", "::ffff:10.0.0.1", "2001:db8::1.2.3.4"] {
            asked.client = client.parse().expect("an address");
            let strength = Strength {
                created: Some(UNIX_EPOCH),
                auth_time: Some(UNIX_EPOCH),
                amr: Arc::new(["pwd".into(), "otp".into()]),
                acr: Some("2".into()),
            };
            let judged = Judged::from(asked.clone());
            assert!(context(Reads::ALL, &judged, Some(&strength), SystemTime::now()).is_some(), "{client}");
            assert!(context(Reads::ALL, &judged, None, SystemTime::now()).is_some(), "{client}");
        }
        assert_eq!(address("::ffff:10.0.0.1".parse().expect("an address")), "10.0.0.1");
    }

    #[test]
    fn inputs_hold_exactly_what_is_read() {
        let key = |reads, target| Inputs::of(reads, Action::Get, &asked("GET", target).into(), None);
        assert_eq!(key(Reads::default(), "/a"), key(Reads::default(), "/b"));
        assert_eq!(key(Reads::ALL, "/a"), None);
        assert_ne!(key(Reads::PATH, "/a"), key(Reads::PATH, "/b"));
        assert_eq!(key(Reads::PATH, "/a?b"), key(Reads::PATH, "/a?c"));
        let long = format!("/{}", "a".repeat(TEXT));
        assert!(key(Reads::default(), &long).is_some());
        assert_eq!(key(Reads::PATH, &long), None);
    }
}
