//! The documents of the API (OpenAPI 3.1), one for each listener: written by hand,
//! compiled in, served as they are. Tests hold them against the lists of paths and of
//! codes here, and against what a running engine answers in `tests/openapi/`.

use super::call::Call;
use super::fixed::Fixed;
use super::respond::Reply;

static PUBLIC: Fixed = Fixed::new("application/json", include_bytes!("openapi/public.json"));
static ADMIN: Fixed = Fixed::new("application/json", include_bytes!("openapi/admin.json"));

pub(super) fn public(call: &Call) -> Reply {
    PUBLIC.answer(call)
}

pub(super) fn admin(call: &Call) -> Reply {
    ADMIN.answer(call)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::super::paths::Methods;
    use super::super::respond::Code;
    use super::super::{admin, routes};

    fn documents() -> [(Value, &'static [(&'static str, Methods)]); 2] {
        let read = |text| serde_json::from_str(text).expect("JSON");
        [
            (read(include_str!("openapi/public.json")), routes::PATHS),
            (read(include_str!("openapi/admin.json")), admin::PATHS),
        ]
    }

    #[test]
    fn every_path_is_described_and_no_other() {
        for (document, paths) in documents() {
            let routed: BTreeMap<&str, Vec<&str>> = paths
                .iter()
                .map(|(path, methods)| {
                    let methods = match methods {
                        Methods::Get => vec!["get"],
                        Methods::Post => vec!["post"],
                        Methods::GetAndPost => vec!["get", "post"],
                    };
                    (*path, methods)
                })
                .collect();
            let described: BTreeMap<&str, Vec<&str>> = document["paths"]
                .as_object()
                .expect("paths")
                .iter()
                .map(|(path, item)| {
                    let item = item.as_object().expect("methods");
                    (path.as_str(), item.keys().map(String::as_str).collect())
                })
                .collect();
            assert_eq!(routed, described);
        }
    }

    /// What a call of a document answers: (method and path, status, the codes it may have).
    fn answers(document: &Value) -> Vec<(String, String, Vec<String>)> {
        let mut answers = Vec::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, call) in item.as_object().expect("methods") {
                for (status, answer) in call["responses"].as_object().expect("answers") {
                    let named = answer["$ref"].as_str().and_then(|r| r.strip_prefix('#'));
                    let answer = named.map_or(answer, |r| document.pointer(r).expect(r));
                    let schema = &answer["content"]["application/problem+json"]["schema"];
                    let codes = schema["properties"]["code"]["enum"].as_array();
                    let codes = codes.into_iter().flatten().map(|c| c.as_str());
                    let codes = codes.map(|c| c.expect("text").to_owned()).collect();
                    answers.push((format!("{method} {path}"), status.clone(), codes));
                }
            }
        }
        answers
    }

    #[test]
    fn every_code_is_described_under_its_status() {
        let mut described = BTreeSet::new();
        for (document, _) in documents() {
            for (call, status, codes) in answers(&document) {
                for text in codes {
                    let code = Code::ALL.iter().find(|c| c.text() == text);
                    let code = code.unwrap_or_else(|| panic!("{call}: there is no {text}"));
                    assert_eq!(code.status().as_str(), status, "{call}: {text}");
                    described.insert(text);
                }
            }
        }
        // Told in words for all paths at once.
        let everywhere = Code::MethodNotAllowed.text();
        let known = Code::ALL.iter().map(|c| c.text().to_owned());
        let known: BTreeSet<String> = known.filter(|c| c != everywhere).collect();
        assert_eq!(described, known);
    }

    /// What both documents name is the same thing.
    #[test]
    fn the_documents_agree() {
        let [(public, _), (admin, _)] = documents();
        // An operator sees more of these.
        let own = [
            "Entitlement",
            "Order",
            "OrderPage",
            "Payment",
            "Sale",
            "SaleList",
        ];
        let mut n_shared = 0;
        for (name, schema) in public["components"]["schemas"]
            .as_object()
            .expect("schemas")
        {
            if let Some(other) = admin["components"]["schemas"].get(name)
                && !own.contains(&name.as_str())
            {
                assert_eq!(schema, other, "{name}");
                n_shared += 1;
            }
        }
        assert!(n_shared > 5);
        for document in [public, admin] {
            assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        }
    }
}
