//! Rules of the house that no compiler holds.

use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
    found
}

/// Each room and what it may import from its own crate.
const MAY_IMPORT: [(&str, &[&str]); 10] = [
    ("domain", &["domain"]),
    ("config", &["config", "domain"]),
    ("stock", &["stock", "config", "domain", "workers"]),
    ("stream", &["stream", "config", "domain"]),
    ("admission", &["admission", "config", "domain"]),
    ("sale", &["sale", "admission", "stock", "config", "domain"]),
    ("grant", &["grant", "sale", "config", "domain"]),
    (
        "payment",
        &[
            "payment",
            "sale",
            "admission",
            "stream",
            "stock",
            "config",
            "domain",
        ],
    ),
    (
        "reconcile",
        &[
            "reconcile",
            "sale",
            "admission",
            "stream",
            "stock",
            "config",
            "domain",
        ],
    ),
    (
        "http",
        &[
            "http",
            "reconcile",
            "payment",
            "grant",
            "sale",
            "admission",
            "stream",
            "stock",
            "config",
            "domain",
            "workers",
        ],
    ),
];

#[test]
fn imports_go_down_only() {
    for (room, allowed) in MAY_IMPORT {
        for file in files(&Path::new(ROOT).join("engine/src").join(room), "rs") {
            let text = std::fs::read_to_string(&file).expect("a source file");
            for path in text.split("crate::").skip(1) {
                let name: String = path
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                assert!(
                    allowed.contains(&name.as_str()) || name.is_empty(),
                    "{} imports crate::{name}; {room} may import {allowed:?}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn only_rooms_with_a_ledger_know_it() {
    for room in ["domain", "config", "stock", "admission"] {
        for file in files(&Path::new(ROOT).join("engine/src").join(room), "rs") {
            let text = std::fs::read_to_string(&file).expect("a source file");
            assert!(
                !text.contains("floodgate_ledger"),
                "{} knows the ledger",
                file.display()
            );
        }
    }
}

#[test]
fn every_script_is_loaded() {
    let loader = Path::new(ROOT).join("engine/src/stock/script.rs");
    let loader = std::fs::read_to_string(loader).expect("the loader");
    for script in files(&Path::new(ROOT).join("lua"), "lua") {
        let name = script.file_name().and_then(|n| n.to_str()).expect("a name");
        assert!(
            loader.contains(&format!("lua/{name}")),
            "{name} is loaded by nobody"
        );
    }
}

#[test]
fn every_configuration_is_valid() {
    for file in files(&Path::new(ROOT).join("config"), "toml") {
        let text = std::fs::read_to_string(&file).expect("a file");
        let name = file.display().to_string();
        let overrides = floodgate_engine::config::Overrides::default();
        if let Err(error) = floodgate_engine::config::Config::parse(&name, &text, &overrides) {
            panic!("{error}");
        }
    }
}
