//! Each rule against a server that answers every piece with the same piece.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::{Proxy, Rule, Way};

const CALL: &[u8] = b"*2\r\n$7\r\nEVALSHA\r\n$3\r\nabc\r\n";

/// Says everything again; tells how many bytes it heard.
fn echo() -> (u16, std::sync::mpsc::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in listener.incoming() {
            let (mut line, told) = (line.unwrap(), told.clone());
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(n @ 1..) = line.read(&mut bytes) {
                    let _ = told.send(n);
                    let _ = line.write_all(&bytes[..n]);
                }
            });
        }
    });
    (port, heard)
}

struct World {
    proxy: Proxy,
    heard: std::sync::mpsc::Receiver<usize>,
}

fn world() -> World {
    let (port, heard) = echo();
    let proxy = Proxy::open().unwrap();
    proxy.lead_to(port);
    World { proxy, heard }
}

impl World {
    fn line(&self) -> TcpStream {
        let line = TcpStream::connect(("127.0.0.1", self.proxy.port)).unwrap();
        line.set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        line
    }
}

/// What came back before the line was closed, at most as much as was sent.
fn said(line: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    if line.write_all(bytes).is_err() {
        return Vec::new();
    }
    let mut back = vec![0; bytes.len()];
    let mut n = 0;
    while n < back.len() {
        match line.read(&mut back[n..]) {
            Ok(more @ 1..) => n += more,
            Ok(0) | Err(_) => break,
        }
    }
    back.truncate(n);
    back
}

#[test]
fn what_passes_comes_back_whole() {
    let world = world();
    let mut line = world.line();
    assert_eq!(said(&mut line, b"hello"), b"hello");
    world.proxy.rule(Rule::Slow(Duration::from_millis(1)));
    assert_eq!(said(&mut line, b"again"), b"again");
}

#[test]
fn a_cut_ends_what_there_is_and_nothing_else() {
    let world = world();
    let mut line = world.line();
    assert_eq!(said(&mut line, b"hello"), b"hello");
    world.proxy.cut();
    assert_eq!(line.read(&mut [0; 8]).unwrap_or(0), 0);
    assert_eq!(said(&mut world.line(), b"hello"), b"hello");
}

#[test]
fn closed_is_closed_until_it_is_opened() {
    let world = world();
    let mut line = world.line();
    assert_eq!(said(&mut line, b"hello"), b"hello");
    world.proxy.rule(Rule::Closed);
    assert_eq!(said(&mut line, b"hello"), b"");
    assert_eq!(said(&mut world.line(), b"hello"), b"");
    world.proxy.rule(Rule::Pass);
    assert_eq!(said(&mut world.line(), b"hello"), b"hello");
}

#[test]
fn so_many_bytes_pass_and_no_more() {
    for way in [Way::Up, Way::Down] {
        let world = world();
        world.proxy.rule(Rule::CutAfter(way, 3));
        assert!(b"hello".starts_with(&said(&mut world.line(), b"hello")));
        // Up, the server hears three; down, it hears all of them.
        let n = world.heard.recv_timeout(Duration::from_secs(60));
        assert_eq!(n, Ok(if way == Way::Up { 3 } else { 5 }));
    }
}

#[test]
fn a_lost_reply_was_heard_by_the_server_and_its_line_does_not_live_on() {
    let world = world();
    let mut line = world.line();
    assert_eq!(said(&mut line, b"hello"), b"hello");
    assert_eq!(world.heard.recv(), Ok(5));
    world.proxy.rule(Rule::Lost(Way::Down));
    line.write_all(b"lost").unwrap();
    assert_eq!(world.heard.recv_timeout(Duration::from_secs(60)), Ok(4));
    line.set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    assert!(
        line.read(&mut [0; 8]).is_err(),
        "it stands, and says nothing"
    );
    world.proxy.rule(Rule::Pass);
    line.set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    assert_eq!(line.read(&mut [0; 8]).unwrap_or(0), 0);
}

#[test]
fn half_closed_the_server_still_hears() {
    let world = world();
    let mut line = world.line();
    assert_eq!(said(&mut line, b"hello"), b"hello");
    assert_eq!(world.heard.recv(), Ok(5));
    world.proxy.rule(Rule::HalfClosed(Way::Down));
    assert_eq!(line.read(&mut [0; 8]).unwrap(), 0);
    line.write_all(b"more").unwrap();
    assert_eq!(world.heard.recv_timeout(Duration::from_secs(60)), Ok(4));
}

#[test]
fn a_repeated_call_is_heard_three_times_more() {
    let world = world();
    world.proxy.repeat(1);
    let mut line = world.line();
    assert_eq!(said(&mut line, CALL), CALL);
    assert_eq!(
        said(&mut line, b"*1\r\n$4\r\nPING\r\n"),
        b"*1\r\n$4\r\nPING\r\n"
    );
    let mut n = 0;
    while n < CALL.len() * 4 + 14 {
        n += world.heard.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    while world.proxy.n_repeated() < 3 {
        std::thread::yield_now();
    }
}

#[test]
fn it_may_lead_elsewhere_later() {
    let world = world();
    let (port, _heard) = echo();
    world.proxy.lead_to(port);
    assert_eq!(said(&mut world.line(), b"hello"), b"hello");
    assert!(world.heard.try_recv().is_err(), "the old server heard it");
}
