//! Behind a gateway that says who asks: nobody else may say so.

use crate::common::{Engine, open_sale};
use crate::{ONE, problem};

fn trusting(peer: &str) -> (tempfile::TempDir, Engine) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 10, 10, "").replace(
        "mode = \"demo\"",
        &format!("mode = \"header\"\ntrusted_peers = [\"{peer}\"]"),
    );
    let engine = Engine::start(&folder, &config);
    (folder, engine)
}

#[test]
fn a_name_counts_from_the_gateway_and_from_nobody_else() {
    let (_folder, engine) = trusting("127.0.0.2");
    problem(&engine.buy("ana", "k", ONE), 401, "UNAUTHENTICATED");
    problem(&engine.get("ana", "/v1/me/orders"), 401, "UNAUTHENTICATED");
    assert_eq!(engine.remaining("tea"), 10, "nothing was sold");

    let (_folder, engine) = trusting("127.0.0.1");
    assert_eq!(engine.buy("ana", "k", ONE).status, 201);
    assert_eq!(engine.remaining("tea"), 9);
}
