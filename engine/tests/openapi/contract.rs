//! A document of the API as a judge: it is given every answer, and notes what it does
//! not describe. Answers may not have fields or headers beyond it, although
//! readers outside are asked to pass over such.

use std::collections::BTreeSet;

use jsonschema::{Registry, Validator};
use serde_json::{Map, Value, json};

use super::common::Answer;

/// Every answer has these, or HTTP itself gives them.
const OF_HTTP: [&str; 4] = ["content-length", "content-type", "date", "connection"];

pub struct Contract {
    name: &'static str,
    document: Value,
    /// `post /v1/orders 422 LIMIT_EXCEEDED`, or `post /v1/orders 201`.
    seen: BTreeSet<String>,
    /// Answers that are not as described, and why.
    pub wrong: Vec<String>,
}

impl Contract {
    pub fn new(name: &'static str, mut document: Value) -> Self {
        close(&mut document);
        Self {
            name,
            document,
            seen: BTreeSet::new(),
            wrong: Vec::new(),
        }
    }

    /// Each call with the names its path gives to segments: (method, path).
    pub fn calls(&self) -> Vec<(String, String)> {
        let paths = self.document["paths"].as_object().expect("paths");
        let calls = paths.iter().flat_map(|(path, item)| {
            let methods = item.as_object().expect("methods").keys();
            methods.map(|method| (method.clone(), path.clone()))
        });
        calls.collect()
    }

    /// The description that a target falls under: words go before names.
    fn template(&self, target: &str) -> Option<&str> {
        let path = target.split('?').next().unwrap_or(target);
        let segments: Vec<&str> = path.split('/').collect();
        let paths = self.document["paths"].as_object().expect("paths");
        let fits = paths.keys().filter(|template| {
            let parts: Vec<&str> = template.split('/').collect();
            parts.len() == segments.len()
                && parts.iter().zip(&segments).all(|(part, segment)| {
                    part == segment || (part.starts_with('{') && !segment.is_empty())
                })
        });
        fits.min_by_key(|t| t.matches('{').count())
            .map(String::as_str)
    }

    fn find<'a>(&'a self, at: &'a Value) -> &'a Value {
        match at["$ref"].as_str() {
            Some(to) => {
                let to = to.strip_prefix('#').expect("a reference within");
                self.document.pointer(to).expect(to)
            }
            None => at,
        }
    }

    fn described(&self, method: &str, path: &str, status: u16) -> Option<&Value> {
        let call = &self.document["paths"][path][method.to_lowercase()];
        let answer = call["responses"].get(status.to_string())?;
        Some(self.find(answer))
    }

    fn validator(&self, schema: &Value) -> Validator {
        const URI: &str = "urn:document";
        let registry = Registry::new()
            .add(URI, self.document.clone())
            .expect("a URI")
            .prepare()
            .expect("a document");
        jsonschema::options()
            .with_registry(&registry)
            .should_validate_formats(true)
            .should_ignore_unknown_formats(true)
            .build(&absolute(schema, URI))
            .expect("a schema")
    }

    fn unlike(&self, schema: &Value, value: &Value) -> Vec<String> {
        let validator = self.validator(schema);
        let errors = validator.iter_errors(value);
        errors
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect()
    }

    /// An answer to a request: status, code, type, body and headers are as described.
    pub fn hold(&mut self, method: &str, target: &str, answer: &Answer) {
        let Some(path) = self.template(target).map(ToOwned::to_owned) else {
            self.note("not described", method, target, answer);
            return;
        };
        let Some(described) = self.described(method, &path, answer.status) else {
            self.note("the status is not described", method, target, answer);
            return;
        };
        let mut wrong = self.wrong_body(described, answer);
        wrong.extend(self.wrong_headers(described, answer));
        for why in wrong {
            self.note(&why, method, target, answer);
        }
        let code = answer.json["code"].as_str().unwrap_or_default();
        self.saw(method, &path, answer.status, code);
    }

    /// An answer to what never became a request: a status, and nothing more.
    pub fn hold_bare(&mut self, method: &str, path: &str, answer: &Answer) {
        let bare = answer.body.is_empty()
            && answer.header("connection") == Some("close")
            && answer.header("x-request-id").is_none();
        if !bare || self.described(method, path, answer.status).is_none() {
            self.note("more than a status, or not described", method, path, answer);
        }
        self.saw(method, path, answer.status, "");
    }

    /// Whether it is the answer that this request was made for.
    pub fn is(&mut self, call: (&str, &str), answer: &Answer, is: (u16, &str)) {
        if answer.code() != is {
            self.note(&format!("not {is:?}"), call.0, call.1, answer);
        }
    }

    fn note(&mut self, why: &str, method: &str, target: &str, answer: &Answer) {
        let note = format!("{}: {method} {target}: {why}\n{answer:?}", self.name);
        self.wrong.push(note);
    }

    fn wrong_body(&self, described: &Value, answer: &Answer) -> Vec<String> {
        let given = answer.header("content-type");
        let given = given.map(|t| t.split(';').next().unwrap_or(t).trim());
        match (described["content"].as_object(), given) {
            (None, None) if answer.body.is_empty() => Vec::new(),
            (Some(content), Some(given)) => match content.get(given) {
                Some(of_type) if given.ends_with("json") => {
                    self.unlike(&of_type["schema"], &answer.json)
                }
                Some(of_type) => self.unlike(&of_type["schema"], &answer.body.as_str().into()),
                None => vec![format!("it is {given}")],
            },
            (None, None | Some(_)) => vec!["there should be no body".to_owned()],
            (Some(_), None) => vec!["there should be a body".to_owned()],
        }
    }

    fn wrong_headers(&self, described: &Value, answer: &Answer) -> Vec<String> {
        let mut wrong = Vec::new();
        let nothing = Map::new();
        let headers = described["headers"].as_object().unwrap_or(&nothing);
        for (name, header) in headers {
            let header = self.find(header);
            let Some(text) = answer.header(name) else {
                if header["required"] == json!(true) {
                    wrong.push(format!("{name} is missing"));
                }
                continue;
            };
            let value = match self.find(&header["schema"])["type"].as_str() {
                Some("integer") => text
                    .parse::<i64>()
                    .map_or_else(|_| text.into(), Value::from),
                Some(_) | None => text.into(),
            };
            let unlike = self.unlike(&header["schema"], &value);
            wrong.extend(unlike.iter().map(|why| format!("{name}: {why}")));
        }
        for line in answer.head.lines().skip(1) {
            let name = line.split(':').next().unwrap_or(line).to_lowercase();
            let known = headers.keys().any(|n| n.eq_ignore_ascii_case(&name));
            if !known && !OF_HTTP.contains(&name.as_str()) {
                wrong.push(format!("{name} is not described"));
            }
        }
        wrong
    }

    fn saw(&mut self, method: &str, path: &str, status: u16, code: &str) {
        let seen = format!("{} {path} {status} {code}", method.to_lowercase());
        self.seen.insert(seen.trim_end().to_owned());
    }

    /// What is described and was in no answer.
    pub fn unseen(&self) -> BTreeSet<String> {
        let mut described = BTreeSet::new();
        for (method, path) in self.calls() {
            let answers = &self.document["paths"][&path][&method]["responses"];
            for (status, answer) in answers.as_object().expect("answers") {
                let content = &self.find(answer)["content"];
                let problem = &content["application/problem+json"]["schema"];
                let codes = problem["properties"]["code"]["enum"].as_array();
                let at = format!("{method} {path} {status}");
                match codes {
                    None => drop(described.insert(at)),
                    Some(codes) => described.extend(codes.iter().map(|code| {
                        let code = code.as_str().expect("a code");
                        format!("{at} {code}")
                    })),
                }
            }
        }
        described.difference(&self.seen).cloned().collect()
    }
}

/// No object of an answer has fields that its schema does not name.
fn close(at: &mut Value) {
    match at {
        Value::Object(fields) => {
            if fields.get("type") == Some(&json!("object")) && fields.contains_key("properties") {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// With references into the document at this address.
fn absolute(schema: &Value, uri: &str) -> Value {
    match schema {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| match value {
                Value::String(to) if name == "$ref" => (name.clone(), format!("{uri}{to}").into()),
                other => (name.clone(), absolute(other, uri)),
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(|i| absolute(i, uri)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => schema.clone(),
    }
}
