//! Sessions on real servers: time limits, identity, TLS, log-ins.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(
    dead_code,
    reason = "shared with the snapshot tests, which use other parts"
)]
#[path = "../lab/mod.rs"]
mod lab;

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use lab::scratch::Scratch;
use lab::server::{Flavour, Server, Start};
use lab::sh;
use understudy::config::{Address, Secret, TlsMode};
use understudy::server::session::CONNECT_LIMIT;
use understudy::server::{Session, SessionError, Target};

fn server(flavour: Flavour, scratch: &Scratch, extra: &[String]) -> Server {
    let start = Start {
        server_id: 7,
        extra: extra.to_vec(),
        aloof: false,
    };
    let data_dir = scratch.path.join("data");
    let mut server = Server::fresh(flavour, &data_dir, &scratch.path, start);
    server.spawn();
    server.wait_ready();
    server
}

fn by_tcp(server: &Server, host: &str) -> Target {
    Target {
        server: "db".to_owned(),
        address: Address::Tcp {
            host: host.to_owned(),
            port: server.port,
        },
        user: "u".to_owned(),
        password: Secret::new("secret"),
        tls: TlsMode::Disabled,
        tls_ca: None,
    }
}

fn by_socket(server: &Server) -> Target {
    Target {
        address: Address::Socket(server.socket()),
        user: "root".to_owned(),
        password: Secret::default(),
        ..by_tcp(server, "127.0.0.1")
    }
}

/// An authority, another one, and a certificate for 127.0.0.1 and localhost by the first.
fn make_certificates(dir: &Path) {
    let path = |name: &str| dir.join(name).display().to_string();
    for authority in ["ca", "other"] {
        let (key, cert) = (
            path(&format!("{authority}.key")),
            path(&format!("{authority}.pem")),
        );
        let name = format!("/CN={authority}");
        sh(&[
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
            &name, "-keyout", &key, "-out", &cert,
        ]);
    }
    sh(&[
        "openssl",
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=lab",
        "-keyout",
        &path("server.key"),
        "-out",
        &path("server.csr"),
    ]);
    std::fs::write(
        dir.join("san"),
        "subjectAltName=IP:127.0.0.1,DNS:not-this-host\n",
    )
    .unwrap();
    sh(&[
        "openssl",
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        &path("server.csr"),
        "-CA",
        &path("ca.pem"),
        "-CAkey",
        &path("ca.key"),
        "-CAcreateserial",
        "-extfile",
        &path("san"),
        "-out",
        &path("server.pem"),
    ]);
}

fn tls_flags(dir: &Path) -> Vec<String> {
    let path = |name: &str| dir.join(name).display().to_string();
    vec![
        format!("--ssl-ca={}", path("ca.pem")),
        format!("--ssl-cert={}", path("server.pem")),
        format!("--ssl-key={}", path("server.key")),
    ]
}

fn cipher(session: Session) -> String {
    let (_, rows) = session
        .query(
            "SHOW SESSION STATUS LIKE 'Ssl_version'",
            Duration::from_secs(5),
        )
        .unwrap();
    rows[0].at(1).unwrap_or_default().to_owned()
}

#[test]
fn tls_modes_hold_what_they_promise() {
    for flavour in [Flavour::Mariadb, Flavour::Mysql97] {
        let scratch = Scratch::new();
        make_certificates(&scratch.path);
        let server = server(flavour, &scratch, &tls_flags(&scratch.path));
        server.execute("CREATE USER u@'%' IDENTIFIED BY 'secret' REQUIRE SSL");
        let ca = |name: &str| Some(scratch.path.join(name));
        let try_with = |host: &str, tls: TlsMode, tls_ca: Option<PathBuf>| {
            Session::connect(&Target {
                tls,
                tls_ca,
                ..by_tcp(&server, host)
            })
        };
        let name = flavour.name();
        for (tls, tls_ca) in [
            (TlsMode::Required, None),
            (TlsMode::VerifyCa, ca("ca.pem")),
            (TlsMode::VerifyFull, ca("ca.pem")),
        ] {
            let session = try_with("127.0.0.1", tls, tls_ca).unwrap();
            assert!(cipher(session).starts_with("TLS"), "{name} {tls:?}");
        }
        // The certificate is for the address, not for this name.
        assert!(
            try_with("localhost", TlsMode::VerifyCa, ca("ca.pem")).is_ok(),
            "{name}"
        );
        assert!(
            try_with("localhost", TlsMode::VerifyFull, ca("ca.pem")).is_err(),
            "{name}"
        );
        for tls in [TlsMode::VerifyCa, TlsMode::VerifyFull] {
            assert!(
                try_with("127.0.0.1", tls, ca("other.pem")).is_err(),
                "{name} {tls:?}"
            );
        }
        // The account insists on TLS, so a silent fallback would show here.
        assert!(
            try_with("127.0.0.1", TlsMode::Disabled, None).is_err(),
            "{name}"
        );
    }
}

#[test]
fn tls_asked_of_a_plaintext_server_is_an_error() {
    let scratch = Scratch::new();
    let server = server(Flavour::Mariadb, &scratch, &["--skip-ssl".to_owned()]);
    server.execute("CREATE USER u@'%' IDENTIFIED BY 'secret'");
    assert!(Session::connect(&by_tcp(&server, "127.0.0.1")).is_ok());
    for tls in [TlsMode::Required, TlsMode::VerifyCa, TlsMode::VerifyFull] {
        let target = Target {
            tls,
            ..by_tcp(&server, "127.0.0.1")
        };
        assert!(Session::connect(&target).is_err(), "{tls:?}");
    }
}

#[test]
fn an_answer_that_is_late_ends_the_session() {
    for flavour in [Flavour::Mariadb, Flavour::Mysql97] {
        let scratch = Scratch::new();
        let server = server(flavour, &scratch, &[]);
        let session = Session::connect(&by_socket(&server)).unwrap();
        let since = Instant::now();
        let result = session.query("SELECT SLEEP(20)", Duration::from_millis(300));
        assert!(matches!(result, Err(SessionError::Lost { .. })));
        assert!(since.elapsed() < Duration::from_secs(10));

        // A refusal is an answer: the session lives on, and answers the next question rightly.
        let session = Session::connect(&by_socket(&server)).unwrap();
        let limit = Duration::from_secs(5);
        let (session, refused) = session
            .attempt("SELECT nothing_of_that_name", limit)
            .unwrap();
        assert!(refused.is_err());
        let (_, value) = session.value("SELECT 43", limit).unwrap();
        assert_eq!(value.as_deref(), Some("43"));
    }
}

#[test]
fn another_server_at_the_same_address_is_refused() {
    let scratch = Scratch::new();
    let mut first = server(Flavour::Mysql97, &scratch, &[]);
    let target = by_socket(&first);
    let identity = Session::connect(&target).unwrap().identity().clone();
    assert!(Session::connect_to(&target, &identity).is_ok());
    first.shut_down();
    // The same data and address, but another identity: as after a restore gone wrong.
    std::fs::remove_file(scratch.path.join("data/auto.cnf")).unwrap();
    first.spawn();
    first.wait_ready();
    let result = Session::connect_to(&target, &identity);
    assert!(matches!(result, Err(SessionError::WrongServer { .. })));
}

#[test]
fn silence_and_garbage_are_errors_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let babbling = TcpListener::bind("127.0.0.1:0").unwrap();
    let babbler = babbling.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in babbling.incoming().take(1) {
            stream
                .unwrap()
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .unwrap();
        }
    });
    for port in [silent.local_addr().unwrap().port(), babbler] {
        let since = Instant::now();
        let result = Session::connect(&Target {
            server: "db".to_owned(),
            address: Address::Tcp {
                host: "127.0.0.1".to_owned(),
                port,
            },
            user: "u".to_owned(),
            password: Secret::default(),
            tls: TlsMode::Disabled,
            tls_ca: None,
        });
        assert!(matches!(result, Err(SessionError::Connect { .. })));
        assert!(since.elapsed() < CONNECT_LIMIT * 3);
    }
}
