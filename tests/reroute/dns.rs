//! With a real name server and signed updates.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use understudy::reroute::{Seen, check, perform, see};

use super::lab::scratch::Scratch;
use super::lab::server::Flavour;
use super::lab::trio::Trio;
use super::lab::{eventually, sh, try_sh};
use super::{Ended, act, checked, lab_program, later, performs, start, undoes, write};

/// Asks that name server and keeps its answers for their TTL, as resolvers do; that of one name it has.
fn resolver(of: &NameServer, knows: &str) -> NameServer {
    let scratch = Scratch::new();
    let base = scratch.path.display().to_string();
    let port = free_port();
    write(
        &scratch.path.join("named.conf"),
        &format!(
            "options {{ directory \"{base}\"; pid-file \"{base}/pid\"; session-keyfile \"{base}/session\";\n\
             lock-file none; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
             recursion yes; dnssec-validation no; forward only;\n\
             forwarders {{ 127.0.0.1 port {}; }}; }};\ncontrols {{ }};\n",
            of.port
        ),
        0o600,
    );
    let config = scratch.path.join("named.conf").display().to_string();
    let log = scratch.path.join("log");
    let process = start(&lab_program("named"), &["-g", "-c", &config], &log);
    let resolver = NameServer {
        port,
        scratch,
        process,
    };
    resolver.wait_ready(knows);
    resolver
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

struct NameServer {
    port: u16,
    scratch: Scratch,
    process: Ended,
}

/// Nobody's secret: made for this test.
const SECRET: &str = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IQ==";

impl NameServer {
    fn start() -> Self {
        let scratch = Scratch::new();
        let base = scratch.path.display().to_string();
        let port = free_port();
        let key = |name: &str, secret: &str| {
            format!("key \"{name}\" {{ algorithm hmac-sha256; secret \"{secret}\"; }};\n")
        };
        let file = |name: &str| scratch.path.join(name);
        write(&file("key"), &key("understudy", SECRET), 0o600);
        write(&file("open.key"), &key("understudy", SECRET), 0o644);
        write(&file("other.key"), &key("other", SECRET), 0o600);
        write(
            &file("wrong.key"),
            &key("understudy", &SECRET.replace("c2", "d2")),
            0o600,
        );
        write(
            &file("named.conf"),
            &format!(
                "include \"{base}/key\"; include \"{base}/other.key\";\n\
                 options {{ directory \"{base}\"; pid-file \"{base}/pid\"; session-keyfile \"{base}/session\";\n\
                 lock-file none; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
                 recursion no; dnssec-validation no; }};\ncontrols {{ }};\n\
                 zone \"lab.example\" {{ type primary; file \"{base}/zone\";\n\
                 update-policy {{ grant understudy name db.lab.example A AAAA; }}; }};\n"
            ),
            0o600,
        );
        write(
            &file("zone"),
            "$TTL 300\n@ IN SOA ns root ( 1 3600 600 86400 60 )\n@ IN NS ns\nns IN A 127.0.0.1\n\
             db IN A 192.0.2.1\nalias IN CNAME db\n",
            0o600,
        );
        let config = file("named.conf").display().to_string();
        let args = ["-g", "-c", &config];
        let process = start(&lab_program("named"), &args, &file("log"));
        let server = Self {
            port,
            scratch,
            process,
        };
        server.wait_ready("db.lab.example");
        server
    }

    fn wait_ready(&self, name: &str) {
        let argv = self.dig_argv();
        let mut argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        argv.pop();
        argv.push(name);
        eventually(Duration::from_secs(20), "the name server", || {
            try_sh(&argv).is_ok_and(|said| !said.is_empty())
        });
    }

    fn dig_argv(&self) -> Vec<String> {
        let port = self.port.to_string();
        [
            "dig",
            "@127.0.0.1",
            "-p",
            &port,
            "+noall",
            "+answer",
            "+time=1",
            "+tries=1",
            "db.lab.example",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// TTL and address.
    fn answer(&self) -> String {
        let argv = self.dig_argv();
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let answer = sh(&argv);
        let words: Vec<&str> = answer.split_whitespace().collect();
        format!("{} {}", words[1], words[4])
    }

    fn lines(&self, key: &str, name: &str) -> String {
        format!(
            "way = \"dns\"\nserver = \"127.0.0.1:{}\"\nzone = \"lab.example\"\nname = \"{name}\"\nttl = \"30s\"\n\
             key_file = \"{}\"\naddresses = {{ db1 = \"192.0.2.1\", db2 = \"192.0.2.2\" }}\ntimeout = \"3s\"",
            self.port,
            self.scratch.path.join(key).display()
        )
    }
}

#[test]
fn a_name_leads_to_the_new_source_and_back_with_its_old_ttl() {
    let server = NameServer::start();
    let mut act = act(&server.lines("key", "db.lab.example"), [1, 2]);
    let found = checked(&mut act);
    assert!(found.warnings[0].contains("for 300 s more"), "{found:?}");
    assert_eq!(server.answer(), "300 192.0.2.1");
    assert!(see(&act).is_err());
    performs(&act);
    assert_eq!(server.answer(), "30 192.0.2.2");
    assert!(matches!(see(&act).unwrap(), Seen::Asked(_)));
    undoes(&act);
    assert_eq!(server.answer(), "300 192.0.2.1");
    assert!(!serde_json::to_string(&act).unwrap().contains(SECRET));
    assert!(!format!("{:?}", later(&act)).contains(SECRET));
}

#[test]
fn what_the_name_server_will_not_do_is_refused_beforehand() {
    let mut server = NameServer::start();
    for (key, name, expected, cure) in [
        ("open.key", "db.lab.example", "others may read", "chmod 600"),
        ("no.key", "db.lab.example", "No such file", "ls -l"),
        ("other.key", "db.lab.example", "REFUSED", "update-policy"),
        ("wrong.key", "db.lab.example", "BADSIG", "The key isn't"),
        ("key", "new.lab.example", "REFUSED", "update-policy"),
        ("key", "alias.lab.example", "is another name for", "dig"),
    ] {
        let act = act(&server.lines(key, name), [1, 2]);
        let error = check(&act).unwrap_err();
        assert!(error.message.contains(expected), "{key} {name}: {error}");
        assert!(error.hint.contains(cure), "{key} {name}: {}", error.hint);
        assert!(perform(&act).is_err(), "{key} {name}");
        assert_eq!(server.answer(), "300 192.0.2.1");
    }
    drop(server.process.0.kill());
    drop(server.process.0.wait());
    let act = act(&server.lines("key", "db.lab.example"), [1, 2]);
    let error = perform(&act).unwrap_err();
    assert!(
        error.message.contains("no servers could be reached"),
        "{error}"
    );
}

/// Given resolvers that keep what they were told, when the roles move there and back and there again
/// within the TTL, expect that the name server leads to the source at each moment, that what is said of
/// the TTL is what they answer by, and that one that asked after the first change ends at the right one.
#[test]
fn roles_that_move_twice_within_the_ttl_end_at_the_right_address() {
    let server = NameServer::start();
    let early = resolver(&server, "db.lab.example");
    let resolver = resolver(&server, "ns.lab.example");
    let mut trio = Trio::start(Flavour::Mariadb, 2);
    let lines = server.lines("key", "db.lab.example");
    let lines = lines.replace("db1", "a").replace("db2", "b");
    trio.more = format!("[[pair.lab.reroute]]\n{}", lines.replace("30s", "4s"));
    trio.configure();
    let told = |to: &str| {
        let args = ["switchover", "lab", "--to", to, "--dry-run"];
        trio.tool.run(&args).ok().stdout
    };
    assert!(told("b").contains("for 300 s more"), "{}", told("b"));
    trio.switchover("b").ok();
    assert_eq!(server.answer(), "4 192.0.2.2");
    assert!(resolver.answer().ends_with(" 192.0.2.2"));
    for (to, address) in [("a", "192.0.2.1"), ("b", "192.0.2.2")] {
        let words = told(to);
        assert!(words.contains("for 4 s more"), "{words}");
        assert!(words.contains("keeps to the TTL of then"), "{words}");
        trio.switchover(to).ok();
        assert_eq!(server.answer(), format!("4 {address}"));
    }
    let moved = Instant::now();
    eventually(Duration::from_secs(6), "the resolver leads there", || {
        resolver.answer().ends_with(" 192.0.2.2")
    });
    assert!(moved.elapsed() < Duration::from_millis(5500));
    assert!(early.answer().ends_with(" 192.0.2.1"), "the TTL of then");
    trio.assert_source("b", &["a"]);
}
