//! Reading back: pages, owners, views, letters, trimming.

mod common;

use common::*;
use floodgate_ledger::{DeadLetter, Draft, Kind, OpenError, ReadError, Reader, Seq};

#[tokio::test]
async fn the_tail_is_read_in_pages_bounded_by_records_and_bytes() {
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(folder.path());
    for i in 0..10 {
        let body = vec![i; 1_000].into();
        commit(
            &ledger,
            group([Draft {
                body,
                ..order(&format!("o{i}"), 1)
            }]),
        )
        .await;
    }
    let seqs = |from, max_records, max_bytes| -> Vec<u64> {
        let page = ledger
            .tail(Seq(from), max_records, max_bytes)
            .expect("reads");
        page.iter().map(|record| record.seq.0).collect()
    };
    assert_eq!(seqs(1, 4, usize::MAX), [1, 2, 3, 4]);
    assert_eq!(seqs(5, 4, usize::MAX), [5, 6, 7, 8]);
    assert_eq!(seqs(9, 4, usize::MAX), [9, 10]);
    assert_eq!(seqs(11, 4, usize::MAX), [0_u64; 0], "nothing written yet");
    assert_eq!(
        seqs(3, 9, 2_000),
        [3, 4],
        "stops once the bytes passed the bound"
    );
    assert_eq!(seqs(3, 9, 1), [3], "never starves on a large record");
    assert_eq!(seqs(0, 1, usize::MAX), [1]);
    assert_eq!(seqs(1, 0, usize::MAX), [0_u64; 0]);
}

#[tokio::test]
async fn a_record_says_everything_its_draft_said() {
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(folder.path());
    let draft = Draft {
        live: false,
        owner: Some(bytes("bob")),
        ..payment("p1", &["a", "b"])
    };
    commit(&ledger, group([draft.clone()])).await;
    let record = ledger.tail(Seq(1), 1, 1).expect("reads").remove(0);
    let again = Draft {
        kind: record.kind,
        group: record.group,
        id: record.id,
        version: record.version,
        live: record.live,
        owner: record.owner,
        uniques: record.uniques,
        at_ms: record.at_ms,
        body: record.body,
    };
    assert_eq!(again, draft);
}

#[tokio::test]
async fn an_owner_lists_newest_first_and_only_its_own() {
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(folder.path());
    let of = |owner: &str, id: u64, kind| Draft {
        owner: Some(bytes(owner)),
        id: bytes(id.to_be_bytes()),
        kind,
        ..order("x", 1)
    };
    // Out of order, a name that is a prefix of another, another kind, a second version.
    for id in [3, 1, 0x0102, 2, 5] {
        commit(
            &ledger,
            group([of("ana", id, ORDER), of("anabel", id + 100, ORDER)]),
        )
        .await;
    }
    commit(
        &ledger,
        group([
            of("ana", 4, Kind(6)),
            of("ana", 3, ORDER),
            of("an", 9, ORDER),
        ]),
    )
    .await;
    let list = |owner: &str, kind, before: Option<u64>, limit| -> Vec<u64> {
        let before = before.map(u64::to_be_bytes);
        let before = before.as_ref().map(|id| &id[..]);
        let found = ledger
            .by_owner(owner.as_bytes(), kind, before, limit)
            .expect("reads");
        found
            .iter()
            .map(|entity| u64::from_be_bytes(entity.id[..].try_into().expect("id")))
            .collect()
    };
    assert_eq!(list("ana", ORDER, None, 10), [0x0102, 5, 3, 2, 1]);
    assert_eq!(list("ana", ORDER, None, 2), [0x0102, 5]);
    assert_eq!(
        list("ana", ORDER, Some(5), 2),
        [3, 2],
        "the cursor itself is not repeated"
    );
    assert_eq!(list("ana", ORDER, Some(1), 2), [0; 0]);
    assert_eq!(list("ana", Kind(6), None, 10), [4]);
    assert_eq!(list("an", ORDER, None, 10), [9]);
    assert_eq!(list("nobody", ORDER, None, 10), [0; 0]);
    let found = ledger.by_owner(b"an", ORDER, None, 1).expect("reads");
    assert_eq!((&found[0].group, found[0].kind), (&bytes("tea"), ORDER));
}

#[tokio::test]
async fn entities_are_listed_by_group_kind_and_life() {
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(folder.path());
    let of = |group: &str, kind, id: &str, live| Draft {
        group: bytes(group),
        kind,
        live,
        ..order(id, 1)
    };
    let drafts = [
        of("tea", ORDER, "b", true),
        of("tea", ORDER, "a", false),
        of("tea", PAYMENT, "a", true),
        of("coffee", ORDER, "z", true),
        of("te", ORDER, "a1", true),
    ];
    commit(&ledger, group(drafts)).await;
    let list = |group: Option<&str>, kind, live| -> Vec<String> {
        let found = ledger.entities(group.map(str::as_bytes), kind, live);
        let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        found
            .map(|entity| entity.expect("reads"))
            .map(|entity| {
                format!(
                    "{}/{}/{}",
                    name(&entity.group),
                    entity.kind.0,
                    name(&entity.id)
                )
            })
            .collect()
    };
    assert_eq!(
        list(None, None, false),
        ["te/1/a1", "tea/1/a", "tea/1/b", "tea/5/a", "coffee/1/z"]
    );
    assert_eq!(
        list(None, None, true),
        ["te/1/a1", "tea/1/b", "tea/5/a", "coffee/1/z"]
    );
    assert_eq!(list(None, Some(PAYMENT), false), ["tea/5/a"]);
    assert_eq!(
        list(Some("tea"), None, false),
        ["tea/1/a", "tea/1/b", "tea/5/a"]
    );
    assert_eq!(list(Some("tea"), Some(ORDER), true), ["tea/1/b"]);
    assert_eq!(list(Some("milk"), None, false), [""; 0]);
}

#[tokio::test]
async fn entities_are_paged_without_gap_or_repeat() {
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(folder.path());
    let ids: Vec<String> = (0..25).map(|i| format!("o{i:02}")).collect();
    // One id that begins with another: the page must not skip it.
    let drafts = ids.iter().map(|id| order(id, 1)).chain([order("o03x", 1)]);
    commit(&ledger, group(drafts)).await;
    let mut found: Vec<String> = Vec::new();
    loop {
        let after = found.last().map(String::as_bytes);
        let page = ledger
            .entities_page(b"tea", ORDER, after, 4)
            .expect("reads");
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 4);
        found.extend(
            page.iter()
                .map(|entity| String::from_utf8_lossy(&entity.id).into_owned()),
        );
    }
    let mut expected = ids;
    expected.insert(4, "o03x".into());
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_view_stays_at_its_moment() {
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(folder.path());
    commit(&ledger, group([order("o1", 1), order("o2", 1)])).await;
    let view = ledger.view().expect("view");
    commit(&ledger, group([order("o1", 2), order("o3", 1)])).await;
    let versions: Vec<u64> = view
        .entities(None, None, false)
        .map(|entity| entity.expect("reads").version)
        .collect();
    assert_eq!((view.tip().seq, versions), (Seq(2), vec![1, 1]));
    assert_eq!(ledger.entities(None, None, false).count(), 3);
}

#[tokio::test]
async fn letters_are_buried_listed_and_taken_back() {
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(folder.path());
    let letter = |seq| DeadLetter {
        seq: Seq(seq),
        note: bytes(format!("row {seq} refused")),
    };
    let buried = ledger
        .bury([7, 300, 8].map(letter).into())
        .await
        .expect("room");
    buried.await.expect("durable");
    drop(ledger);
    let ledger = open(folder.path());
    assert_eq!(
        ledger.dead_letters(Seq(0), 2).expect("reads"),
        [letter(7), letter(8)]
    );
    assert_eq!(
        ledger.dead_letters(Seq(8), 2).expect("reads"),
        [letter(300)]
    );
    ledger
        .unbury(&[Seq(8)])
        .await
        .expect("room")
        .await
        .expect("durable");
    assert_eq!(
        ledger.dead_letters(Seq(0), 9).expect("reads"),
        [letter(7), letter(300)]
    );
}

#[tokio::test]
async fn trimming_lets_go_of_records_and_keeps_entities() {
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(folder.path());
    for i in 1..=9 {
        commit(
            &ledger,
            group([payment(&format!("p{i}"), &[&format!("t{i}")])]),
        )
        .await;
    }
    ledger
        .trim(Seq(4))
        .await
        .expect("room")
        .await
        .expect("trimmed");
    // Backwards and beyond the tip are harmless.
    ledger
        .trim(Seq(2))
        .await
        .expect("room")
        .await
        .expect("nothing to do");
    let check = |ledger: &floodgate_ledger::Ledger| {
        let error = ledger.tail(Seq(4), 9, usize::MAX).expect_err("trimmed");
        assert!(
            matches!(
                error,
                ReadError::Trimmed {
                    from: Seq(4),
                    oldest: Seq(5)
                }
            ),
            "{error}"
        );
        assert_eq!(ledger.tail(Seq(5), 9, usize::MAX).expect("reads").len(), 5);
        assert_eq!(ledger.entities(None, None, false).count(), 9);
        assert!(ledger.unique(b"t1").expect("reads").is_some());
        assert_eq!(
            ledger.reader().verify().expect("the chain holds").records,
            5
        );
    };
    check(&ledger);
    drop(ledger);
    let ledger = open(folder.path());
    check(&ledger);
    ledger
        .trim(Seq(99))
        .await
        .expect("room")
        .await
        .expect("trimmed");
    assert_eq!(
        ledger.reader().identity().expect("reads").floor,
        ledger.tip()
    );
    assert_eq!(commit(&ledger, group([order("next", 1)])).await, Seq(10));
    drop(ledger);
    let ledger = open(folder.path());
    assert_eq!(ledger.tail(Seq(10), 9, usize::MAX).expect("reads").len(), 1);
}

#[tokio::test]
async fn a_reader_looks_in_without_owning() {
    let folder = tempfile::tempdir().expect("folder");
    let missing = Reader::open_read_only(folder.path())
        .err()
        .expect("nothing there");
    assert!(matches!(missing, OpenError::Io { .. }), "{missing}");
    let ledger = open(folder.path());
    commit(&ledger, group([order("o1", 1)])).await;
    let reader = Reader::open_read_only(folder.path()).expect("beside the owner");
    let seen = reader.identity().expect("reads");
    assert_eq!(
        (seen.id, seen.incarnation, seen.tip),
        (ledger.id(), 1, ledger.tip())
    );
    assert_eq!(reader.verify().expect("the chain holds").records, 1);
    assert_eq!(
        reader
            .entity(b"tea", ORDER, b"o1")
            .expect("reads")
            .expect("there")
            .version,
        1
    );
}

#[tokio::test]
async fn the_last_id_is_the_greatest_of_its_group_and_kind() {
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(folder.path());
    let last = |name: &[u8], kind| ledger.last_id(name, kind).expect("reads");
    assert_eq!(last(b"tea", ORDER), None);
    let elsewhere = Draft {
        group: bytes("teb"),
        ..order("z", 1)
    };
    let drafts = [
        order("b", 1),
        order("c", 1),
        order("a", 1),
        payment("x", &[]),
    ];
    commit(&ledger, group(drafts.into_iter().chain([elsewhere]))).await;
    assert_eq!(last(b"tea", ORDER), Some(bytes("c")));
    assert_eq!(last(b"tea", PAYMENT), Some(bytes("x")));
    assert_eq!(last(b"te", ORDER), None);
}
