//! Reading JSON: objects are objects, and what is wrong is said in the words of
//! the API.
//!
//! Serde's structs also take a list of their fields in order, and its errors
//! name our types; neither is part of the contract.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::respond::{Code, Problem};
use crate::domain::sale::RawSale;

/// A struct that is read from an object and from nothing else.
#[derive(Debug, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        from.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// A body that is one object.
pub fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    match serde_json::from_slice(body) {
        Ok(Object(value)) => Ok(value),
        Err(error) => Err(Problem::new(
            Code::MalformedBody,
            plainly(error.to_string()),
        )),
    }
}

/// The definition of a sale. Its type is the configuration's too and does not
/// know JSON, so which of its fields hold objects is checked beside it.
pub fn read_sale(body: &[u8]) -> Result<RawSale, Problem> {
    #[derive(serde::Deserialize)]
    struct Shape {
        #[serde(default, rename = "admission")]
        _admission: Object<IgnoredAny>,
        #[serde(default, rename = "skus")]
        _skus: Vec<Object<Sku>>,
    }
    #[derive(serde::Deserialize)]
    struct Sku {
        #[serde(default, rename = "grant")]
        _grant: Option<Object<IgnoredAny>>,
    }
    read::<Shape>(body)?;
    read(body)
}

/// Serde calls a number by its type in Rust; nobody else does.
fn plainly(mut said: String) -> String {
    const EXPECTED: &str = "expected ";
    if let Some(at) = said.rfind(EXPECTED) {
        let from = at + EXPECTED.len();
        let length = said[from..].find(' ').unwrap_or(said.len() - from);
        if matches!(&said[from..from + length], "i64" | "u64" | "u32" | "u16") {
            said.replace_range(from..from + length, "a whole number");
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pair<'a> {
        #[serde(borrow)]
        name: std::borrow::Cow<'a, str>,
        n: u32,
    }

    fn said(body: &str) -> String {
        read::<Pair<'_>>(body.as_bytes())
            .expect_err(body)
            .detail
            .into_owned()
    }

    #[test]
    fn objects_are_read_and_borrowed_and_nothing_else_is() {
        let body = r#"{"name":"tea","n":3}"#;
        let pair: Pair<'_> = read(body.as_bytes()).expect("valid");
        assert!(matches!(pair.name, std::borrow::Cow::Borrowed("tea")));
        assert_eq!(pair.n, 3);
        for (body, words) in [
            (
                r#"["tea",3]"#,
                "invalid type: sequence, expected an object at line 1 column 0",
            ),
            (
                "null",
                "invalid type: null, expected an object at line 1 column 4",
            ),
            (
                r#"{"name":"tea","n":-1}"#,
                "invalid value: integer `-1`, expected a whole number at line 1 column 20",
            ),
            (r#"{"name":"tea"}"#, "missing field `n` at line 1 column 14"),
            (
                r#"{"name":"expected u32","m":1}"#,
                "unknown field `m`, expected `name` or `n` at line 1 column 26",
            ),
            ("{", "EOF while parsing an object at line 1 column 1"),
            (
                r#"{"name":"tea","n":1}}"#,
                "trailing characters at line 1 column 21",
            ),
        ] {
            assert_eq!(said(body), words);
        }
    }
}
