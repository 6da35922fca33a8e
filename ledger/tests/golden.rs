//! The frame's bytes, pinned: one record of every kind the engine writes.
//!
//! A difference here means that existing ledgers can no longer be read. If the
//! format is changed on purpose, raise its version in `FORMAT.md` and write the
//! texts anew with `BLESS_GOLDEN=1`.

mod common;

use std::fmt::Write as _;
use std::path::PathBuf;

use common::bytes;
use floodgate_ledger::{ChainHash, Draft, Kind, LedgerId, Seq, frame};

/// (kind, name, draft): the bodies are stand-ins, the engine pins its own.
fn records() -> Vec<(&'static str, Draft)> {
    let plain = |kind, id: &str, version| Draft {
        kind: Kind(kind),
        group: bytes("spring-2026"),
        id: bytes(id),
        version,
        live: true,
        owner: None,
        uniques: Vec::new(),
        at_ms: 1_764_000_000_123,
        body: bytes([0x0a, 0x02, kind, 0xff]),
    };
    let uuid = "\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8}\u{9}\u{a}\u{b}\u{c}\u{d}\u{e}\u{f}\u{10}";
    vec![
        (
            "order",
            Draft {
                owner: Some(bytes("user-42")),
                ..plain(1, uuid, 0x0000_0001_0000_0002)
            },
        ),
        ("sale", plain(2, "spring-2026", 1)),
        ("allotment", plain(3, "a-1", 1)),
        (
            "transfer",
            Draft {
                live: false,
                ..plain(4, "t-1", 2)
            },
        ),
        (
            "payment",
            Draft {
                uniques: vec![bytes("mockpay\0txn-0001"), bytes("mockpay\0txn-0002")],
                ..plain(5, "p-1", 1)
            },
        ),
        (
            "entitlement",
            Draft {
                owner: Some(bytes("user-42")),
                ..plain(6, "e-1", u64::MAX)
            },
        ),
        (
            "rate",
            Draft {
                body: bytes(""),
                ..plain(7, "r", 3)
            },
        ),
        (
            "admin",
            Draft {
                group: bytes("g"),
                live: false,
                ..plain(8, "x", 0)
            },
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(32) {
        for byte in line {
            write!(text, "{byte:02x}").expect("writing to a string");
        }
        text.push('\n');
    }
    text
}

#[test]
fn frames_are_the_bytes_they_always_were() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut prev: ChainHash = LedgerId([7; 16]).genesis();
    for (i, (name, draft)) in records().into_iter().enumerate() {
        let seq = Seq(i as u64 + 1);
        let bytes = frame::frame_bytes(&draft, seq, &prev).expect("a good draft");
        let file = folder.join(format!("{}-{name}.hex", draft.kind.0));
        if std::env::var_os("BLESS_GOLDEN").is_some() {
            std::fs::write(&file, hex(&bytes)).expect("write golden text");
        }
        let golden = std::fs::read_to_string(&file).expect("golden text");
        assert_eq!(hex(&bytes), golden, "the bytes of a {name} changed");
        let read = frame::decode(&bytes).expect("decodes");
        assert!(read.follows(&prev));
        assert_eq!((read.key.kind, read.state.seq), (draft.kind, seq));
        prev = read.hash;
    }
}

#[test]
fn the_chain_starts_from_the_ledger_id() {
    assert_eq!(
        LedgerId([7; 16]).genesis().to_string(),
        // printf '\7%.0s' $(seq 16) | sha256sum
        "d761d406af2a4a5a15f67c924378ed88d1f85c13f1a37fc7366f59789b3bcd65",
    );
}
