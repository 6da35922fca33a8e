//! A start that waits for somebody (here an order store that takes the line and says
//! nothing) hears what else happens: a word to stop, and damage in the ledger.

mod common;

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Engine, open_sale};

/// Takes every line, and answers nobody.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let store = format!(
        "[store]\nkind = \"postgres\"\nport = {port}\nsslmode = \"disable\"\n\
         connect_ms = 60000\n"
    );
    (listener, store)
}

fn start(folder: &Path, config: &str) -> Child {
    let file = folder.join("waiting.toml");
    std::fs::write(&file, config).expect("written");
    Command::new(env!("CARGO_BIN_EXE_floodgate"))
        .args(["serve", "--http-listen", "127.0.0.1:0"])
        .args(["--admin-listen", "127.0.0.1:0", "--config"])
        .arg(file)
        .arg("--data-dir")
        .arg(folder.join("data"))
        .env("RUST_LOG", "info")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

/// Waits until the engine has asked its store.
fn asked(listener: &TcpListener, mut child: Child) -> (TcpStream, Child) {
    listener.set_nonblocking(true).expect("a flag");
    loop {
        if let Ok((line, _)) = listener.accept() {
            return (line, child);
        }
        if child.try_wait().expect("a child").is_some() {
            panic!("it did not wait: {}", ended(child).1);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// How it ended, and what it said.
fn ended(mut child: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("piped");
    stderr.read_to_string(&mut said).expect("text");
    (child.wait().expect("it ends").code(), said)
}

#[test]
fn a_word_to_stop_is_heard_before_the_engine_is_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let (listener, store) = silent();
    let child = start(
        folder.path(),
        &format!("{}{store}", open_sale("tea", 5, 1, "")),
    );
    let (line, child) = asked(&listener, child);
    let pid = child.id().to_string();
    let told = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(told.expect("kill runs").success());
    let (code, said) = ended(child);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("told to stop before it was open"), "{said}");
    drop(line);
    let engine = Engine::start(&folder, &open_sale("tea", 5, 1, ""));
    assert_eq!(engine.remaining("tea"), 5);
}

/// A start reads only the newest records back; what rots elsewhere is found beside it.
#[test]
fn damage_is_heard_before_the_engine_is_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = open_sale("tea", 5, 1, "");
    let engine = Engine::start(&folder, &config);
    let one = r#"{"saleId":"tea","items":[{"skuId":"unit","quantity":1}]}"#;
    assert_eq!(engine.buy("buyer", "k", one).status, 201);
    assert!(engine.stop());
    let (_listener, store) = silent();
    let config = config + &store;
    let tables = folder.path().join("data/ledger/db");
    let mut beside = 0;
    for table in std::fs::read_dir(tables).expect("tables") {
        let table = table.expect("an entry").path();
        if table.extension().is_none_or(|kind| kind != "sst") {
            continue;
        }
        let whole = std::fs::read(&table).expect("a table");
        let mut spoiled = whole.clone();
        spoiled[10] ^= 1;
        std::fs::write(&table, spoiled).expect("spoiled");
        let (code, said) = ended(start(folder.path(), &config));
        assert_eq!(code, Some(1), "{}: {said}", table.display());
        assert!(said.contains("damaged"), "{said}");
        beside += usize::from(said.contains("the ledger is shut"));
        std::fs::write(&table, whole).expect("mended");
        // Nobody tells the engine that it is.
        let _ = std::fs::remove_file(folder.path().join("data/ledger/damage"));
    }
    assert!(beside > 0, "all of it was found by the start itself");
}
