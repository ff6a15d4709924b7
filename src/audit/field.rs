//! Every field of a record has a class, and what has none cannot be recorded.
//!
//! | Class | Type | What it is |
//! |---|---|---|
//! | public | [`Public`] | about no person: numbers, words of ours, names that the operator gave |
//! | personal | [`Personal`] | about a person, or in the words of somebody who may tell of one; made only by a [`Lens`], which writes pseudonyms where they are asked for |
//! | secret | none | tokens, codes, handles, keys and passwords have types without `Serialize`: they are no field of any class |
//!
//! Records are made by [`record!`], which takes no field of a type without a class. What is written beside a field says what it
//! is, here and in the documentation.
//!
//! [`Lens`]: super::lens::Lens

use serde::{Serialize, Serializer, ser::SerializeMap};

/// Who a field may be about.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Nobody.
    Public,
    /// A person.
    Personal,
}

impl Class {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Personal => "personal",
        }
    }
}

/// A field of events, for whoever wants to know what is recorded.
#[derive(Debug, Serialize)]
pub struct About {
    /// Where it stands, such as `actor.user.uid`; `[]` is every place of a list.
    #[serde(rename = "field")]
    pub path: String,
    /// Who it may be about.
    pub class: Class,
    /// What it is.
    #[serde(rename = "about")]
    pub text: &'static str,
}

/// All fields of events, in the order in which they are written.
pub fn fields() -> Vec<About> {
    let mut fields = Vec::new();
    super::ocsf::Ocsf::about("", "", &mut fields);
    fields
}

/// What may stand in a record: a value with a class, an object of such, one that may be absent, or a list.
pub(super) trait Field {
    /// Writes it under `name`, or its own fields if that is empty; nothing if there is nothing to tell.
    fn put<M: SerializeMap>(&self, name: &'static str, map: &mut M) -> Result<(), M::Error>;

    /// Adds what stands at `path`.
    fn about(path: &str, text: &'static str, out: &mut Vec<About>);
}

/// A value that tells of no person.
#[derive(Clone, Copy, Debug)]
pub(super) struct Public<T>(pub(super) T);

/// A value that tells of a person.
#[derive(Clone, Debug)]
pub(super) struct Personal<T>(T);

/// What a value with a class can be: numbers and texts, and no type that keeps a secret.
pub(super) trait Plain: Serialize {}

impl Plain for bool {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for usize {}
impl Plain for &str {}
impl Plain for std::borrow::Cow<'_, str> {}
impl Plain for std::net::IpAddr {}
impl Plain for super::ocsf::Hex {}

impl<T> Personal<T> {
    /// Only for the lens, which has seen to it that nothing is told that was not to be.
    pub(super) fn seen(value: T) -> Self {
        Self(value)
    }
}

impl<T: Plain> Serialize for Public<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<T: Plain> Serialize for Personal<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<T: Plain> Field for Public<T> {
    fn put<M: SerializeMap>(&self, name: &'static str, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry(name, &self.0)
    }

    fn about(path: &str, text: &'static str, out: &mut Vec<About>) {
        out.push(About { path: path.to_owned(), class: Class::Public, text: text.trim() });
    }
}

impl<T: Plain> Field for Personal<T> {
    fn put<M: SerializeMap>(&self, name: &'static str, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry(name, &self.0)
    }

    fn about(path: &str, text: &'static str, out: &mut Vec<About>) {
        out.push(About { path: path.to_owned(), class: Class::Personal, text: text.trim() });
    }
}

impl<F: Field> Field for Option<F> {
    fn put<M: SerializeMap>(&self, name: &'static str, map: &mut M) -> Result<(), M::Error> {
        self.as_ref().map_or(Ok(()), |field| field.put(name, map))
    }

    fn about(path: &str, text: &'static str, out: &mut Vec<About>) {
        F::about(path, text, out);
    }
}

impl<F: Field + Serialize> Field for Vec<F> {
    fn put<M: SerializeMap>(&self, name: &'static str, map: &mut M) -> Result<(), M::Error> {
        if self.is_empty() { Ok(()) } else { map.serialize_entry(name, self) }
    }

    fn about(path: &str, text: &'static str, out: &mut Vec<About>) {
        F::about(&format!("{path}[]"), text, out);
    }
}

/// A list that is told of even where nothing is in it.
pub(super) struct Whole<F>(pub(super) Vec<F>);

impl<F: Field + Serialize> Field for Whole<F> {
    fn put<M: SerializeMap>(&self, name: &'static str, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry(name, &self.0)
    }

    fn about(path: &str, text: &'static str, out: &mut Vec<About>) {
        F::about(&format!("{path}[]"), text, out);
    }
}

/// `path` of a field `name` of the object at `path`.
pub(super) fn below(path: &str, name: &str) -> String {
    match (path, name) {
        ("", name) => name.to_owned(),
        (path, "") => path.to_owned(),
        (path, name) => format!("{path}.{name}"),
    }
}

/// Defines an object of a record. Each field says what it is, and its type has to be a [`Field`]. `as "name"` is how it is
/// written where that is no name for Rust; an empty name writes the fields of the object in it beside the others.
macro_rules! record {
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $written:literal) => { $written };
    (
        $(#[$outer:meta])*
        $name:ident $(<$life:lifetime>)? {
            $($(#[doc = $text:literal])+ $field:ident $(as $written:literal)? : $kind:ty),* $(,)?
        }
    ) => {
        $(#[$outer])*
        pub(super) struct $name $(<$life>)? {
            $($(#[doc = $text])+ pub(super) $field: $kind,)*
        }

        impl $(<$life>)? $name $(<$life>)? {
            fn fields<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                $($crate::audit::field::Field::put(&self.$field, record!(@name $field $($written)?), map)?;)*
                Ok(())
            }
        }

        impl $(<$life>)? serde::Serialize for $name $(<$life>)? {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(None)?;
                self.fields(&mut map)?;
                map.end()
            }
        }

        impl $(<$life>)? $crate::audit::field::Field for $name $(<$life>)? {
            fn put<M: serde::ser::SerializeMap>(&self, name: &'static str, map: &mut M) -> Result<(), M::Error> {
                if name.is_empty() { self.fields(map) } else { map.serialize_entry(name, self) }
            }

            fn about(path: &str, _: &'static str, out: &mut Vec<$crate::audit::field::About>) {
                $(<$kind as $crate::audit::field::Field>::about(
                    &$crate::audit::field::below(path, record!(@name $field $($written)?)),
                    concat!($($text),+),
                    out,
                );)*
            }
        }
    };
}
pub(super) use record;
