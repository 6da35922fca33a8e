//! The codec is total and has one spelling.

use bytes::Bytes;
use floodgate_ledger::frame::{self, FrameError};
use floodgate_ledger::{ChainHash, Draft, Kind, Seq};
use proptest::prelude::*;

const PREV: ChainHash = ChainHash([3; 32]);

fn some_bytes(lengths: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), lengths).prop_map(Bytes::from)
}

fn drafts() -> impl Strategy<Value = Draft> {
    let names = (1..=255_u8, some_bytes(1..=64), some_bytes(1..=64));
    let uniques = proptest::collection::vec(some_bytes(1..=255), 0..4);
    let owner = proptest::option::of(some_bytes(1..=64));
    let numbers = (any::<u64>(), any::<bool>(), any::<u64>());
    (names, uniques, owner, numbers, some_bytes(0..=600)).prop_map(
        |((kind, group, id), uniques, owner, (version, live, at_ms), body)| Draft {
            kind: Kind(kind),
            group,
            id,
            version,
            live,
            owner,
            uniques,
            at_ms,
            body,
        },
    )
}

fn draft_of(frame: &frame::Frame<'_>) -> Draft {
    let owned = Bytes::copy_from_slice;
    Draft {
        kind: frame.key.kind,
        group: owned(frame.key.group),
        id: owned(frame.key.id),
        version: frame.state.version,
        live: frame.state.live,
        owner: frame.state.owner.map(owned),
        uniques: frame.uniques.clone().map(owned).collect(),
        at_ms: frame.state.at_ms,
        body: owned(frame.state.body),
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(draft in drafts(), seq in any::<u64>()) {
        let bytes = frame::frame_bytes(&draft, Seq(seq), &PREV).expect("within limits");
        let read = frame::decode(&bytes).expect("decodes");
        prop_assert_eq!(draft_of(&read), draft);
        prop_assert_eq!(read.state.seq, Seq(seq));
        prop_assert!(read.follows(&PREV));
    }

    #[test]
    fn any_bytes_are_a_frame_or_a_named_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = frame::decode(&bytes);
        let _ = frame::decode_entity_key(&bytes);
        let _ = frame::decode_state(&bytes);
    }

    /// Damage near a real frame reaches deeper than noise does.
    #[test]
    fn a_changed_frame_never_passes(draft in drafts(), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let mut bytes = frame::frame_bytes(&draft, Seq(9), &PREV).expect("within limits");
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(read) = frame::decode(&bytes) {
            prop_assert!(!read.follows(&PREV));
            // One spelling: what decodes encodes to the same bytes, but for the hash.
            let again = frame::frame_bytes(&draft_of(&read), read.state.seq, &PREV).expect("decoded");
            prop_assert_eq!(&again[..again.len() - 32], &bytes[..bytes.len() - 32]);
        }
    }

    #[test]
    fn a_frame_cut_short_or_too_long_is_named(draft in drafts(), cut in any::<prop::sample::Index>()) {
        let mut bytes = frame::frame_bytes(&draft, Seq(9), &PREV).expect("within limits");
        let short = frame::decode(&bytes[..cut.index(bytes.len())]);
        prop_assert!(matches!(short, Err(FrameError::Short { .. })), "{:?}", short);
        bytes.push(0);
        prop_assert_eq!(frame::decode(&bytes), Err(FrameError::Trailing { left: 1 }));
    }
}

#[test]
fn refusals_say_what_is_allowed() {
    let draft = Draft {
        kind: Kind(1),
        group: "tea".into(),
        id: "".into(),
        version: 1,
        live: true,
        owner: None,
        uniques: vec![],
        at_ms: 0,
        body: Bytes::new(),
    };
    let why = |draft: &Draft| draft.check().expect_err("refused").to_string();
    assert_eq!(why(&draft), "id: 0 given, 1 to 64 allowed");
    let kind = Draft {
        kind: Kind(0),
        ..draft.clone()
    };
    assert_eq!(why(&kind), "kind 0 is refused; kinds go from 1 to 255");
    let unique = Draft {
        id: "o".into(),
        uniques: vec![vec![0; 256].into()],
        ..draft
    };
    assert_eq!(why(&unique), "unique key: 256 given, 1 to 255 allowed");
}
