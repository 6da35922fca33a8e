//! TLS to the stock, of one server and of a cluster.

use std::path::Path;
use std::process::Command;

use floodgate_engine::config::{RedisServer, RedisTls};

use super::cluster::{BUCKETS, Cluster};
use super::host::{audit, bucket, connect, open, refused};
use crate::common::redis::{self, Redis};

fn openssl(folder: &Path, args: &str) -> bool {
    let run = Command::new("openssl")
        .args(args.split(' '))
        .current_dir(folder)
        .output();
    run.is_ok_and(|output| output.status.success())
}

/// Puts `ca.pem`, `cert.pem` and `key.pem` there, for 127.0.0.1.
fn certificates(folder: &Path) -> bool {
    let made = [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca",
        "req -newkey rsa:2048 -nodes -keyout key.pem -out req.pem -subj /CN=stock \
         -addext subjectAltName=IP:127.0.0.1",
        "x509 -req -in req.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
         -copy_extensions copy -out cert.pem",
    ];
    let made = made.iter().all(|args| openssl(folder, args));
    if !made {
        eprintln!("SKIPPED: openssl is not installed");
    }
    made
}

#[tokio::test]
async fn tls_is_spoken_with_a_server_whose_certificate_fits() {
    let Some(binary) = redis::binaries().into_iter().next() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    if !certificates(folder.path()) {
        return;
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let server = Redis::start(
        &binary,
        &[
            ("tls-port", redis::SECOND_PORT),
            ("tls-cert-file", &path("cert.pem")),
            ("tls-key-file", &path("key.pem")),
            ("tls-auth-clients", "no"),
        ],
    );
    let ca = std::fs::read(path("ca.pem")).expect("a certificate");
    let mut config = server.config();
    config.servers = vec![RedisServer {
        port: server.second_port,
        ..server.server()
    }];
    config.tls = Some(RedisTls { ca: Some(ca) });
    let host = connect(&config).await.expect("the certificate is known");
    open(&host, &bucket(0)).await;
    // The system's certificates do not know it.
    config.tls = Some(RedisTls { ca: None });
    let why = refused(&config).await;
    assert!(why.to_lowercase().contains("certificate"), "{why}");
}

/// Its members name each other by their TLS ports, and are found there.
#[tokio::test]
async fn tls_is_spoken_with_every_server_of_a_cluster() {
    let folder = tempfile::tempdir().expect("a folder");
    if !certificates(folder.path()) {
        return;
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (ca, cert, key) = (path("ca.pem"), path("cert.pem"), path("key.pem"));
    let options = [
        ("tls-port", redis::THIRD_PORT),
        ("tls-cluster", "yes"),
        ("tls-ca-cert-file", &ca),
        ("tls-cert-file", &cert),
        ("tls-key-file", &key),
        ("tls-auth-clients", "no"),
    ];
    let Some(cluster) = Cluster::with(&options, |server| server.third_port) else {
        return;
    };
    let mut config = cluster.config();
    config.servers[0].port = cluster.0[0].third_port;
    let ca = std::fs::read(ca).expect("a certificate");
    config.tls = Some(RedisTls { ca: Some(ca) });
    let host = connect(&config).await.expect("every server is known");
    for no in 0..BUCKETS {
        open(&host, &bucket(no)).await;
        audit(&host, &bucket(no), 3).await.expect("answered");
    }
    for server in &cluster.0 {
        assert_ne!(server.spent("evalsha").1, 0, "one has no bucket");
    }
}
