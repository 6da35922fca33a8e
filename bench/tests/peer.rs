//! The peer must sell as a shop would, or its figure compares with nothing.

use floodgate_bench::peer::{Peer, missing};
use floodgate_bench::shoot::{Line, run};

#[test]
fn the_peer_sells_refuses_and_replays() {
    let packages = missing();
    if !packages.is_empty() {
        eprintln!("skipped: not installed: {}", packages.join(" "));
        return;
    }
    let peer = Peer::start(2).expect("the peer starts");
    let mut line = Line::to(&peer.url).expect("an address");
    let said = run(async {
        let mut said = Vec::new();
        for (user, key) in [
            ("ana", "k1"), // Won.
            ("ana", "k1"), // The same order again.
            ("ana", "k2"), // Over the limit.
            ("bob", "k1"), // Keys are each buyer's own: the last unit.
            ("cid", "k1"), // Sold out.
        ] {
            let request = line.purchase(user, key);
            let status = line.call(&request).await.expect("an answer");
            let body: serde_json::Value =
                serde_json::from_slice(line.body()).expect("a JSON answer");
            said.push((status, body));
        }
        said
    })
    .expect("a runtime");
    let statuses: Vec<u16> = said.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [201, 200, 422, 201, 422], "{said:?}");
    assert!(said[0].1["orderId"].is_string(), "{said:?}");
    assert_eq!(said[0].1["orderId"], said[1].1["orderId"]);
    assert_ne!(said[0].1["orderId"], said[3].1["orderId"]);
    assert_eq!(said[0].1["payAmountCent"], 100);
    assert_eq!(said[2].1["code"], "LIMIT_EXCEEDED");
    assert_eq!(said[4].1["code"], "STOCK_NOT_ENOUGH");
}
