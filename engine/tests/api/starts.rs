//! An engine that cannot start says why.

use crate::common::{Engine, open_sale};
use crate::tea;

#[test]
fn a_second_engine_is_told_plainly_what_is_in_use() {
    let (folder, engine) = tea(1, 1);
    let config = open_sale("tea", 1, 1, "");
    let folder_taken = Engine::start_on(&folder, &config, "127.0.0.1:0", "127.0.0.1:0", "")
        .err()
        .expect("refused");
    assert!(folder_taken.contains("in use"), "{folder_taken}");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let port_taken = Engine::start_on(&elsewhere, &config, &engine.public, "127.0.0.1:0", "")
        .err()
        .expect("refused");
    assert!(
        port_taken.contains(&format!("listen on {}", engine.public)),
        "{port_taken}"
    );
}

#[test]
fn a_configuration_cannot_change_a_sale_that_exists() {
    let (folder, engine) = tea(1, 1);
    assert!(engine.stop());
    let config = open_sale("tea", 2, 1, "");
    // Often: a process that ends beside its threads may fall over them, now and then.
    for _ in 0..30 {
        let error = Engine::start_on(&folder, &config, "127.0.0.1:0", "127.0.0.1:0", "");
        let error = error.err().expect("refused");
        assert!(
            error.contains("the configuration changes a sale that exists")
                && error.contains("skus"),
            "{error}"
        );
        assert!(error.contains("exit status: 1"), "{error}");
    }
}
