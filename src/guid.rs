//! GUIDs, by which Microsoft Entra names tenants, people and groups.

use std::{fmt, str::FromStr, sync::Arc};

/// A GUID in lower case, such as `72f988bf-86f1-41af-91ab-2d7cd011db47`.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Guid(Arc<str>);

/// A text that is not a [`Guid`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a GUID, such as `72f988bf-86f1-41af-91ab-2d7cd011db47`")]
pub struct GuidError;

impl Guid {
    /// The GUID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Guid {
    type Err = GuidError;

    fn from_str(text: &str) -> Result<Self, GuidError> {
        let fits = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        if fits { Ok(Self(text.to_ascii_lowercase().into())) } else { Err(GuidError) }
    }
}

/// What a person of Entra is known by, `TENANT.OBJECT`, in lower case. `None`: the text is something else.
pub fn person(text: &str) -> Option<String> {
    let (tenant, object) = text.split_once('.')?;
    Some(format!("{}.{}", tenant.parse::<Guid>().ok()?, object.parse::<Guid>().ok()?))
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_has_one_spelling() {
        let read = |text: &str| text.parse::<Guid>().map(|guid| guid.to_string());
        let guid = "72f988bf-86f1-41af-91ab-2d7cd011db47";
        assert_eq!(read(guid).as_deref(), Ok(guid));
        assert_eq!(read(&guid.to_ascii_uppercase()).as_deref(), Ok(guid));
        for other in
            ["", "common", &guid[1..], &format!("{{{guid}}}"), &guid.replace('-', "0"), &guid.replace('7', "g")]
        {
            assert_eq!(read(other), Err(GuidError), "{other}");
        }
    }
}
