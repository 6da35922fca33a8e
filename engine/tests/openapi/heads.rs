//! Requests that are none yet: what every call answers alike.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use super::common::{self, Answer, Engine, raw};
use super::contract::Contract;
use super::errands::{Errands, NO_ORDER, token};

impl Errands {
    /// Every call, and the head of a request to it without the empty line.
    fn heads_of_all(&self, engine: &Engine) -> Vec<Head> {
        let token = &token(engine);
        let listeners = [(&self.public, &engine.public), (&self.admin, &engine.admin)];
        let calls = listeners.map(|(contract, at)| {
            contract
                .calls()
                .into_iter()
                .map(move |(method, path)| Head {
                    at: at.clone(),
                    text: format!(
                        "{} {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                     authorization: {token}\r\nx-user-id: ana\r\nidempotency-key: k\r\n\
                     content-type: application/json\r\n",
                        method.to_uppercase(),
                        path.replace("{id}", NO_ORDER).replace(['{', '}'], "")
                    ),
                    method,
                    path,
                })
        });
        calls.into_iter().flatten().collect()
    }

    fn contract(&mut self, of: &Head, engine: &Engine) -> &mut Contract {
        if of.at == engine.public {
            &mut self.public
        } else {
            &mut self.admin
        }
    }

    /// Heads that are no request, or two at once, and bodies that are not waited for.
    pub fn heads(&mut self, engine: &Engine) {
        for head in self.heads_of_all(engine) {
            let (method, path) = (head.method.as_str(), head.path.as_str());
            let contract = self.contract(&head, engine);
            let two_hosts = raw(&head.at, format!("{}host: y\r\n\r\n", head.text).as_bytes());
            assert_eq!(two_hosts.code(), (400, "INVALID_FIELD"), "{two_hosts:?}");
            contract.hold(method, path, &two_hosts);

            // As much as is read of a head, so that nothing is on its way at the end.
            let mut large = format!("{}x-large: ", head.text).into_bytes();
            large.resize(16 * 1024, b'x');
            let large = raw(&head.at, &large);
            assert_eq!(large.status, 431, "{large:?}");
            contract.hold_bare(method, path, &large);

            if head.method == "post" {
                let text = format!("{}content-length: 5000000\r\n\r\n", head.text);
                let large = raw(&head.at, text.as_bytes());
                assert_eq!(large.code(), (413, "BODY_TOO_LARGE"), "{path}: {large:?}");
                contract.hold(method, path, &large);
            }
        }
    }

    /// Heads and bodies that do not end; all at once, because operators have ten seconds.
    pub fn late(&mut self, engine: &Engine) {
        let heads = self.heads_of_all(engine);
        let body = |head: &Head| format!("{}content-length: 9\r\n\r\n", head.text);
        let answers: Vec<Answer> = thread::scope(|scope| {
            let asking: Vec<_> = heads
                .iter()
                .map(|head| match &*head.method {
                    "post" => (head, body(head)),
                    _ => (head, head.text.clone()),
                })
                .map(|(head, text)| scope.spawn(move || unfinished(&head.at, &text)))
                .collect();
            let answers = asking.into_iter().map(|a| a.join().expect("no panic"));
            answers.collect()
        });
        for (head, answer) in heads.iter().zip(answers) {
            let (method, path) = (head.method.as_str(), head.path.as_str());
            let contract = self.contract(head, engine);
            assert_eq!(answer.status, 408, "{method} {path}: {answer:?}");
            if method == "post" {
                contract.hold(method, path, &answer);
            } else {
                contract.hold_bare(method, path, &answer);
            }
        }
    }
}

struct Head {
    at: String,
    method: String,
    path: String,
    text: String,
}

fn unfinished(at: &str, text: &str) -> Answer {
    let mut line = TcpStream::connect(at).expect("connect");
    line.write_all(text.as_bytes()).expect("write");
    let mut answer = Vec::new();
    line.read_to_end(&mut answer).expect("an answer");
    common::parsed(&answer)
}
