//! Every rule of the configuration, as text in and messages out.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::{
    Address, BackendChoice, Consistency, CowSize, FailoverConfig, HaproxyEntries, KeepRules,
    NotifyEvent, Reroute, Runtime, ServerBinary, ServiceControl, TlsMode, VerifyChoice, example,
};

fn errors(text: &str) -> String {
    parse(text, Path::new("u.toml")).unwrap_err().to_string()
}

/// The one message, without hint, that a text gets.
fn only_message(text: &str) -> String {
    let issues = parse(text, Path::new("u.toml")).unwrap_err().issues;
    assert_eq!(issues.len(), 1, "{text}\n{issues:#?}");
    format!(
        "{}:{}: {}",
        issues[0].line, issues[0].column, issues[0].message
    )
}

/// The one message that a line in a good server table gets; it stands in line 3.
fn in_server(line: &str) -> String {
    only_message(&format!("[server.db1]\naddress = \"db1\"\n{line}\n"))
}

/// The one message that a line in a good snapshot table gets; it stands in line 4.
fn in_snapshot(line: &str) -> String {
    only_message(&format!(
        "[server.db1]\naddress = \"db1\"\n[server.db1.snapshot]\n{line}\n"
    ))
}

fn in_service(line: &str) -> String {
    only_message(&format!(
        "[server.db1]\naddress = \"db1\"\n[server.db1.service]\n{line}\n"
    ))
}

fn in_pair(lines: &str) -> String {
    only_message(&format!(
        "server.db1.address = \"a\"\nserver.db2.address = \"b\"\nserver.db3.address = \"a:3306\"\n[pair.p]\n{lines}\n"
    ))
}

#[test]
fn the_example_passes_and_teaches_every_part() {
    let config = parse(example(), Path::new("example.toml")).unwrap();
    assert_eq!(config.servers.len(), 2);
    assert_eq!(config.pairs["lab"].replicas, ["db2"]);
    assert_eq!(config.servers["db2"].snapshot.keep.daily, 7);
    assert!(config.servers["db2"].service.is_some());
}

fn is_toml(comment: &str) -> bool {
    let key = comment.split_once(" = ").map(|(key, _)| key);
    comment.starts_with('[') || key.is_some_and(|key| !key.contains(' '))
}

#[test]
fn the_example_s_commented_lines_are_valid_too() {
    // Whoever takes the "# " away must not be told that the line is wrong.
    let text: String = example()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if is_toml(rest) => format!("{rest}\n"),
            Some(_) | None => format!("{line}\n"),
        })
        .collect();
    let issues = parse(&text, Path::new("example.toml")).unwrap_err().issues;
    let messages: Vec<_> = issues.iter().map(|issue| issue.message.as_str()).collect();
    // Alternatives exclude each other, and nothing else is wrong.
    assert_eq!(
        messages,
        [
            "[server.db1] has both an address and a socket",
            "[server.db2.service] has both a unit and commands"
        ]
    );
}

#[test]
fn every_key_arrives() {
    let text = r#"
        state_dir = "/srv/state"
        [server.db1]
        address = "db1.lab.example"
        credentials = "/etc/understudy/db.cnf"
        tls = "verify-full"
        tls_ca = "/etc/understudy/ca.pem"
        [server.db2]
        socket = "/run/mysqld/mysqld.sock"
        [server.db2.snapshot]
        backend = "reflink"
        consistency = "stop"
        max_pause = "2m"
        max_lag = "0s"
        lock_wait = "1s"
        temp_table_wait = "10s"
        cow_size = "10GiB"
        directory = "/srv/snapshots"
        keep = { last = 1, hourly = 2, daily = 3, weekly = 4, monthly = 5, yearly = 6, verified = 7, within = "14d" }
        path_map = { "/var/lib/mysql" = "/srv/db2" }
        verify = "nothing"
        verify_tables_every = "7d"
        verify_rows_every = "30d"
        [server.db2.service]
        start = ["/bin/start", "now"]
        stop = ["/bin/stop"]
        server_binary = "/usr/sbin/mysqld"
        [pair.lab]
        source = "db1"
        replicas = ["db2"]
    "#;
    let config = parse(text, Path::new("u.toml")).unwrap();
    assert_eq!(config.state_dir, Path::new("/srv/state"));
    let db1 = &config.servers["db1"];
    let host = "db1.lab.example".to_owned();
    assert_eq!(db1.address, Address::Tcp { host, port: 3306 });
    assert_eq!(db1.tls, TlsMode::VerifyFull);
    assert_eq!(
        db1.tls_ca.as_deref(),
        Some(Path::new("/etc/understudy/ca.pem"))
    );
    assert_eq!(
        db1.credentials.as_deref(),
        Some(Path::new("/etc/understudy/db.cnf"))
    );
    let db2 = &config.servers["db2"];
    assert_eq!(
        db2.address,
        Address::Socket("/run/mysqld/mysqld.sock".into())
    );
    let snapshot = &db2.snapshot;
    assert_eq!(snapshot.backend, BackendChoice::Reflink);
    assert_eq!(snapshot.consistency, Consistency::Stop);
    assert_eq!(snapshot.max_pause, Duration::from_secs(120));
    assert_eq!(snapshot.max_lag, Duration::ZERO);
    assert_eq!(snapshot.lock_wait, Duration::from_secs(1));
    assert_eq!(snapshot.temp_table_wait, Duration::from_secs(10));
    assert_eq!(snapshot.cow_size, CowSize::Bytes(10 << 30));
    assert_eq!(
        snapshot.directory.as_deref(),
        Some(Path::new("/srv/snapshots"))
    );
    assert_eq!(
        snapshot.path_map[Path::new("/var/lib/mysql")],
        Path::new("/srv/db2")
    );
    let keep = KeepRules {
        last: 1,
        hourly: 2,
        daily: 3,
        weekly: 4,
        monthly: 5,
        yearly: 6,
        verified: 7,
        within_ms: Some(14 * 86_400_000),
    };
    assert_eq!(snapshot.keep, keep);
    assert_eq!(snapshot.verify, VerifyChoice::Nothing);
    let days = |days: u64| Some(Duration::from_secs(days * 86_400));
    assert_eq!(snapshot.verify_tables_every, days(7));
    assert_eq!(snapshot.verify_rows_every, days(30));
    let service = db2.service.as_ref().unwrap();
    let control = ServiceControl::Commands {
        start: vec!["/bin/start".to_owned(), "now".to_owned()],
        stop: vec!["/bin/stop".to_owned()],
    };
    assert_eq!(service.control, Some(control));
    assert_eq!(
        service.server_binary,
        Some(ServerBinary::Path("/usr/sbin/mysqld".into()))
    );
    assert_eq!(config.pair_of("db2").unwrap().name, "lab");
}

#[test]
fn a_server_without_more_gets_the_defaults() {
    let config = parse("[server.db1]\naddress = \"db1\"\n", Path::new("u.toml")).unwrap();
    assert_eq!(config.state_dir, Path::new("/var/lib/understudy"));
    let db1 = &config.servers["db1"];
    assert_eq!(db1.tls, TlsMode::Disabled);
    assert_eq!(db1.snapshot.max_pause, Duration::from_secs(30));
    assert_eq!(db1.snapshot.keep, KeepRules::default());
}

#[test]
fn a_short_max_pause_shortens_the_default_lock_wait() {
    let text = "[server.a]\naddress = \"a\"\nsnapshot = { max_pause = \"2s\" }\n";
    let config = parse(text, Path::new("u.toml")).unwrap();
    assert_eq!(
        config.servers["a"].snapshot.lock_wait,
        Duration::from_secs(2)
    );
}

#[test]
fn all_errors_are_told_at_once_each_with_its_place_and_cure() {
    let text = r#"state_dir = "var"
colour = 1
[server.db1]
adress = "db1"
[server.db2]
socket = "/run/x"
[server.db2.snapshot]
max_puase = "3s"
max_lag = 30
keep = { dayly = 3 }
[pair.lab]
source = "db1"
replicas = ["db4"]
"#;
    let expected = r#"u.toml:1:13: state_dir: "var" is no absolute path
  hint: Write it from the root: "/…".
u.toml:2:1: unknown key "colour"
  hint: Known here: state_dir, server, pair, notify, metrics_file.
u.toml:3:9: [server.db1] has neither an address nor a socket
  hint: Add address = "HOST:PORT", or socket = "/run/mysqld/mysqld.sock".
u.toml:4:1: unknown key "adress" in [server.db1]
  hint: Did you mean "address"?
u.toml:8:1: unknown key "max_puase" in [server.db2.snapshot]
  hint: Did you mean "max_pause"?
u.toml:9:11: max_lag: expected a string, found a whole number
  hint: Write it like "90s", "2h 30m" or "14d".
u.toml:10:10: unknown key "dayly" in [server.db2.snapshot.keep]
  hint: Did you mean "daily"?
u.toml:13:13: no server "db4" is configured
  hint: Did you mean "db1"? Each server has a [server.NAME] table."#;
    assert_eq!(errors(text), expected);
}

#[test]
fn syntax_errors_stand_beside_the_others_and_cause_none() {
    let text = "[server.db1]\naddress = \"x\"\ncolour = 1\n[server.db1.snapshot]\nmax_pause = 3s\nmax_lag =\n[pair.p]\nsource = \"db1\"\n";
    let lines: Vec<_> = parse(text, Path::new("u.toml"))
        .unwrap_err()
        .issues
        .iter()
        .map(|issue| issue.line)
        .collect();
    // The pair's missing replicas aren't told: they may have been lost with the syntax.
    assert_eq!(lines, [3, 5, 6]);
}

#[test]
fn syntax_errors_have_their_place() {
    for (text, expected) in [
        ("max = ", "1:7: "),
        ("[server.db1\naddress = \"a\"\n", "1:12: unclosed table"),
        (
            "[server.a]\naddress = \"a\"\naddress = \"b\"\n",
            "3:1: duplicate key",
        ),
        (
            "[server.a]\naddress = \"a\"\n[server.a]\n",
            "3:9: duplicate key",
        ),
        ("a = [", "1:6: unclosed array"),
    ] {
        let first = &parse(text, Path::new("u.toml")).unwrap_err().issues[0];
        let found = format!("{}:{}: {}", first.line, first.column, first.message);
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
}

#[test]
fn columns_count_characters_also_after_a_byte_order_mark_and_carriage_returns() {
    let text = "\u{feff}\"ö\" = 1 # ö\r\n[server.a]\r\naddress = \"ö\"\r\n";
    let issues = parse(text, Path::new("u.toml")).unwrap_err().issues;
    let places: Vec<_> = issues.iter().map(|one| (one.line, one.column)).collect();
    assert_eq!(places, [(1, 1), (3, 11)]);
}

#[test]
fn the_file_of_metrics_is_one_that_is_read() {
    let text = |file: &str| format!("metrics_file = \"{file}\"\nserver.a.address = \"a\"\n");
    let config = parse(&text("/var/lib/x/u.prom"), Path::new("u.toml")).unwrap();
    assert_eq!(
        config.metrics_file.as_deref(),
        Some(Path::new("/var/lib/x/u.prom"))
    );
    let wrong = only_message(&text("/var/lib/x/u.txt"));
    assert_eq!(
        wrong,
        "1:16: metrics_file: \"/var/lib/x/u.txt\" doesn't end in .prom"
    );
}

#[test]
fn nothing_to_do_is_told() {
    assert_eq!(only_message(""), "1:1: no server is configured");
    assert_eq!(only_message("[server]"), "1:2: no server is configured");
    assert_eq!(
        only_message("server = 3"),
        "1:1: expected the table [server], found a whole number"
    );
    assert_eq!(
        only_message("[[server]]"),
        "1:3: expected the table [server], found a list"
    );
}

#[test]
fn server_mistakes_are_told() {
    for (line, expected) in [
        (
            "socket = \"/x\"",
            "3:1: [server.db1] has both an address and a socket",
        ),
        (
            "credentials = \"db.cnf\"",
            "3:15: credentials: \"db.cnf\" is no absolute path",
        ),
        (
            "tls = \"verify_ca\"",
            "3:7: tls: unknown word \"verify_ca\"",
        ),
        (
            "tls = true",
            "3:7: tls: expected a string, found true or false",
        ),
        (
            "tls = \"verify-ca\"",
            "3:1: nothing to verify the certificate with: tls_ca is missing",
        ),
        (
            "tls_ca = \"/ca.pem\"",
            "3:1: tls_ca is given, but nothing is verified with it",
        ),
        (
            "snapshot = 1",
            "3:1: expected the table [server.db1.snapshot], found a whole number",
        ),
        (
            "password = \"x\"",
            "3:1: unknown key \"password\" in [server.db1]",
        ),
    ] {
        assert_eq!(in_server(line), expected);
    }
    let text = "[server.a]\nsocket = \"/x\"\ntls = \"required\"\n";
    assert_eq!(
        only_message(text),
        "3:1: TLS isn't spoken over a Unix socket"
    );
    let text = "[server.\"../a\"]\naddress = \"a\"\n";
    assert_eq!(
        only_message(text),
        "1:9: the name \"../a\" isn't safe in a file name"
    );
}

#[test]
fn snapshot_mistakes_are_told() {
    for (line, expected) in [
        ("backend = \"zsf\"", "4:11: backend: unknown word \"zsf\""),
        (
            "backend = \"copy\"",
            "4:1: this back-end needs a directory for its copies",
        ),
        (
            "consistency = \"stop\"",
            "3:13: consistency \"stop\" needs a service that can be stopped",
        ),
        (
            "max_pause = \"0s\"",
            "4:13: max_pause must be longer than zero",
        ),
        (
            "max_pause = \"25h\"",
            "4:13: max_pause must be at most a day",
        ),
        (
            "lock_wait = \"31s\"",
            "4:13: lock_wait is longer than max_pause (30s)",
        ),
        (
            "lock_wait = \"0s\"",
            "4:13: lock_wait must be longer than zero",
        ),
        (
            "cow_size = \"0%\"",
            "4:12: cow_size: \"0%\" is no share: it goes from 1% to 100%, in whole numbers",
        ),
        (
            "directory = \"x\"",
            "4:13: directory: \"x\" is no absolute path",
        ),
        (
            "keep = 3",
            "4:1: expected the table [server.db1.snapshot.keep], found a whole number",
        ),
        (
            "keep = { last = -1 }",
            "4:17: last: -1 isn't between 0 and 100000",
        ),
        (
            "keep = { last = 1.5 }",
            "4:17: last: expected a whole number, found a decimal number",
        ),
        (
            "keep = { within = \"0s\" }",
            "4:19: within must be longer than zero, and of this world",
        ),
        (
            "path_map = { \"/a\" = 3 }",
            "4:21: [server.db1.snapshot.path_map]: expected a path for \"/a\"",
        ),
        (
            "path_map = { a = \"/b\" }",
            "4:14: path_map: \"a\" is no absolute path",
        ),
        ("verify = \"none\"", "4:10: verify: unknown word \"none\""),
        (
            "verify_tables_every = \"0s\"",
            "4:23: verify_tables_every must be longer than zero",
        ),
        (
            "verify_rows_every = 7",
            "4:21: verify_rows_every: expected a string, found a whole number",
        ),
    ] {
        assert_eq!(in_snapshot(line), expected);
    }
    let wrong = in_snapshot("max_pause = \"3 parsecs\"");
    assert!(
        wrong.starts_with("4:13: max_pause: \"3 parsecs\" is no duration: "),
        "{wrong}"
    );
}

#[test]
fn service_mistakes_are_told() {
    for (line, expected) in [
        (
            "unit = \"x\"\nstart = [\"/a\"]\nstop = [\"/a\"]",
            "4:1: [server.db1.service] has both a unit and commands",
        ),
        (
            "start = [\"/a\"]",
            "4:1: [server.db1.service] has start but no stop",
        ),
        (
            "stop = [\"/a\"]",
            "4:1: [server.db1.service] has stop but no start",
        ),
        (
            "start = []\nstop = [\"/a\"]",
            "4:9: start: the command is empty",
        ),
        (
            "start = [\"/a\"]\nstop = [\"systemctl\"]",
            "5:9: stop: \"systemctl\" is no absolute path",
        ),
        (
            "start = [\"/a\", 1]\nstop = [\"/a\"]",
            "4:16: start: expected a string, found a whole number",
        ),
        (
            "start = \"/a\"\nstop = [\"/a\"]",
            "4:9: start: expected a list of strings, found a string",
        ),
        (
            "unit = \"--force\"",
            "4:8: unit: \"--force\" is no unit name",
        ),
    ] {
        assert_eq!(in_service(line), expected);
    }
}

#[test]
fn pair_mistakes_are_told() {
    for (lines, expected) in [
        ("source = \"db1\"", "4:7: [pair.p] has no replicas"),
        ("replicas = [\"db1\"]", "4:7: [pair.p] has no source"),
        (
            "source = \"db1\"\nreplicas = []",
            "6:12: a pair needs at least one replica",
        ),
        (
            "source = \"db1\"\nreplicas = [\"db1\"]",
            "6:13: \"db1\" is also this pair's source",
        ),
        (
            "source = \"db1\"\nreplicas = [\"db2\", \"db2\"]",
            "6:20: \"db2\" stands here twice",
        ),
        (
            "source = \"db1\"\nreplicas = [\"db3\"]",
            "6:13: \"db3\" has the same address as this pair's source",
        ),
        (
            "source = \"dbx\"\nreplicas = [\"db2\"]",
            "5:10: no server \"dbx\" is configured",
        ),
    ] {
        assert_eq!(in_pair(lines), expected);
    }
}

#[test]
fn keys_are_located_for_later_checks() {
    let text = "[server.a]\naddress = \"a\"\n  credentials = \"/x\"\n";
    assert_eq!(locate(text, &["server", "a", "credentials"]), Some((3, 17)));
    assert_eq!(locate(text, &["server", "b", "credentials"]), None);
}

/// The one message that lines in a `[[pair.p.reroute]]` get; they begin in line 7.
fn in_reroute(lines: &str) -> String {
    only_message(&format!(
        "server.db1.address = \"192.0.2.1\"\nserver.db2.address = \"db2:3307\"\n\
         [pair.p]\nsource = \"db1\"\nreplicas = [\"db2\"]\n[[pair.p.reroute]]\n{lines}\n"
    ))
}

const VIP: &str = "way = \"vip\"\naddress = \"192.0.2.10/24\"\ninterface = \"eth0\"\n\
     hosts = { db1 = [\"/bin/ssh\", \"db1\"], db2 = [] }";
const HAPROXY: &str = "way = \"haproxy\"\nsocket = \"/run/h\"\nbackend = \"b\"\nserver = \"s\"\n\
     addresses = { db2 = \"192.0.2.2:3307\" }";
const DNS: &str = "way = \"dns\"\nserver = \"[2001:db8::53]:5353\"\nzone = \"lab.example.\"\n\
     name = \"DB.lab.example\"\nttl = \"1m\"\nkey_file = \"/k\"\naddresses = { db2 = \"192.0.2.2\" }";
const FILE: &str =
    "way = \"file\"\npath = \"/f\"\nformat = \"ini\"\nkey = \"a.b\"\nport_key = \"a.c\"";
const EXEC: &str =
    "way = \"exec\"\nargv = [\"/bin/x\", \"y\"]\ntimeout = \"30s\"\nthrough = \"db:3306\"";

#[test]
fn every_way_to_reroute_arrives() {
    let ways = [VIP, HAPROXY, DNS, FILE, EXEC].map(|way| format!("[[pair.p.reroute]]\n{way}\n"));
    let text = format!(
        "server.db1.address = \"192.0.2.1\"\nserver.db2.address = \"db2:3307\"\n\
         [pair.p]\nsource = \"db1\"\nreplicas = [\"db2\"]\n{}",
        ways.concat()
    );
    let config = parse(&text, Path::new("u.toml")).unwrap();
    let reroutes = &config.pairs["p"].reroutes;
    let names: Vec<String> = reroutes.iter().map(|one| one.way.name()).collect();
    assert_eq!(
        names,
        [
            "vip 192.0.2.10",
            "haproxy b/s",
            "dns db.lab.example",
            "file /f a.b",
            "exec /bin/x"
        ]
    );
    let Reroute::Haproxy {
        entries: HaproxyEntries::One { addresses, .. },
        ..
    } = &reroutes[1].way
    else {
        panic!("{reroutes:?}")
    };
    assert_eq!(addresses["db1"], ("192.0.2.1".parse().unwrap(), 3306));
    assert_eq!(addresses["db2"], ("192.0.2.2".parse().unwrap(), 3307));
    let Reroute::Dns {
        server,
        port,
        ttl_s,
        zone,
        ..
    } = &reroutes[2].way
    else {
        panic!("{reroutes:?}")
    };
    assert_eq!(
        (&**server, *port, *ttl_s, &**zone),
        ("2001:db8::53", 5353, 60, "lab.example")
    );
    let Reroute::File { addresses, .. } = &reroutes[3].way else {
        panic!("{reroutes:?}")
    };
    assert_eq!(addresses["db2"], ("db2".to_owned(), 3307));
    assert_eq!(reroutes[0].timeout, Duration::from_secs(10));
    assert_eq!(reroutes[4].timeout, Duration::from_secs(30));
    let place = locate(&text, &["pair", "p", "reroute", "2", "key_file"]);
    let line = text
        .lines()
        .position(|line| line.starts_with("key_file"))
        .unwrap();
    assert_eq!(place, Some((line + 1, 12)));
}

#[test]
fn rerouting_mistakes_are_told() {
    let without = |way: &str, key: &str| {
        let lines: Vec<&str> = way.lines().filter(|line| !line.starts_with(key)).collect();
        lines.join("\n")
    };
    for (lines, expected) in [
        (
            "timeout = \"3s\"".to_owned(),
            "6:1: [[pair.p.reroute]] has no way",
        ),
        ("way = \"vpi\"".to_owned(), "7:7: way: unknown word \"vpi\""),
        (
            format!("{EXEC}\ncolour = 1"),
            "11:1: unknown key \"colour\" in [[pair.p.reroute]]",
        ),
        (
            format!("{VIP}\ntimeout = \"0s\""),
            "11:11: timeout goes from a second to ten minutes",
        ),
        (
            without(VIP, "hosts"),
            "6:1: [[pair.p.reroute]] has no hosts",
        ),
        (
            VIP.replace("/24", ""),
            "8:11: address: \"192.0.2.10\" is no address with its prefix: the \"/\" is missing",
        ),
        (
            VIP.replace("/24", "/33"),
            "8:11: address: \"192.0.2.10/33\" is no address with its prefix: the prefix goes from 1 to 32",
        ),
        (
            VIP.replace("eth0", "-f"),
            "9:13: interface: \"-f\" is no interface's name",
        ),
        (
            VIP.replace("/bin/ssh", "ssh"),
            "10:18: db1: \"ssh\" is no absolute path",
        ),
        (
            VIP.replace(", db2 = []", ""),
            "10:1: [pair.p.reroute.hosts] has nothing for \"db2\"",
        ),
        (
            format!("{HAPROXY}\nservers = {{ db1 = \"a\", db2 = \"b\" }}"),
            "12:1: [[pair.p.reroute]] has both server and servers",
        ),
        (
            without(&without(HAPROXY, "server"), "addresses"),
            "6:1: [[pair.p.reroute]] has neither server nor servers",
        ),
        (
            HAPROXY.replace("\"s\"", "\"s;t\""),
            "10:10: server: \"s;t\" is no name of HAProxy's",
        ),
        (
            without(HAPROXY, "addresses"),
            "6:1: [[pair.p.reroute]]: no address for clients of \"db2\": \"db2\" is no IP address",
        ),
        (
            DNS.replace("DB.lab", "DB.bal"),
            "10:1: the name \"db.bal.example\" isn't in the zone \"lab.example\"",
        ),
        (
            DNS.replace("1m", "500ms"),
            "11:7: ttl is in whole seconds, from one to a week",
        ),
        (
            DNS.replace("192.0.2.2", "2001:db8::2"),
            "13:1: addresses of IPv4 and of IPv6 can't take each other's place in a record",
        ),
        (
            DNS.replace("192.0.2.2", "192.0.2.2:1"),
            "13:21: db2: \"192.0.2.2:1\": a record has no port, only an address",
        ),
        (
            DNS.replace("\"/k\"", "\"k\""),
            "12:12: key_file: \"k\" is no absolute path",
        ),
        (
            format!("{DNS}\nsecret = \"x\""),
            "14:1: unknown key \"secret\" in [[pair.p.reroute]]",
        ),
        (
            FILE.replace("ini", "yaml"),
            "9:10: format: unknown word \"yaml\"",
        ),
        (
            without(FILE, "port_key"),
            "6:1: the pair's servers have different ports, and nothing says where the port is",
        ),
        (
            EXEC.replace("/bin/x", "x"),
            "8:9: argv: \"x\" is no absolute path",
        ),
    ] {
        let found = in_reroute(&lines);
        assert!(
            found.starts_with(expected),
            "{lines}\nfound:    {found}\nexpected: {expected}"
        );
    }
}

#[test]
fn the_program_is_a_path_or_that_of_the_container() {
    let with = |value: &str| {
        format!("[server.a]\naddress = \"a\"\n[server.a.service]\nserver_binary = {value:?}\n")
    };
    let config = parse(&with("container"), Path::new("u.toml")).unwrap();
    let service = config.servers["a"].service.as_ref().unwrap();
    assert_eq!(service.server_binary, Some(ServerBinary::Container));
    for wrong in ["Container", "docker", "mysqld", ""] {
        let text = errors(&with(wrong));
        assert!(text.contains("u.toml:4:17"), "{text}");
        assert!(text.contains("\"container\""), "{text}");
    }
}

#[test]
fn a_container_needs_its_runtime_and_nothing_else() {
    let with = |lines: &str| format!("[server.a]\naddress = \"a\"\n[server.a.service]\n{lines}\n");
    let good = with("container = \"db_2.x\"\nruntime = \"podman\"");
    let config = parse(&good, Path::new("u.toml")).unwrap();
    let wanted = ServiceControl::Container {
        runtime: Runtime::Podman,
        name: "db_2.x".to_owned(),
    };
    let service = config.servers["a"].service.as_ref().unwrap();
    assert_eq!(service.control, Some(wanted));
    for wrong in [
        "container = \"db2\"",
        "runtime = \"docker\"",
        "container = \"-f\"\nruntime = \"docker\"",
        "container = \"a b\"\nruntime = \"docker\"",
        "runtime = \"lxc\"\ncontainer = \"db2\"",
        "container = \"db2\"\nruntime = \"docker\"\nunit = \"mysql.service\"",
        "container = \"db2\"\nruntime = \"docker\"\nstart = [\"/s\"]\nstop = [\"/t\"]",
    ] {
        let text = errors(&with(wrong));
        assert!(text.contains("u.toml:4:"), "{wrong}: {text}");
    }
}

/// The one message of a `[pair.p.failover]` with these lines, of which the first is line 7.
fn in_failover(lines: &str) -> String {
    only_message(&with_failover(lines))
}

fn with_failover(lines: &str) -> String {
    format!(
        "server.db1.address = \"db1\"\nserver.db2.address = \"db2\"\n\
         [pair.p]\nsource = \"db1\"\nreplicas = [\"db2\"]\n[pair.p.failover]\n{lines}\n"
    )
}

#[test]
fn how_a_pair_fails_over_arrives() {
    let lines = "prefer = [\"db2\"]\nnever = [\"db1\"]\nfence = [\"/f\", \"x y\"]\nsalvage = [\"/s\"]\nconfirm = \"2s\"\n\
                 cooldown = \"1h\"\nmax_loss = 7\ndrain = \"3m\"";
    let config = parse(&with_failover(lines), Path::new("u.toml")).unwrap();
    let expected = FailoverConfig {
        prefer: vec!["db2".to_owned()],
        never: vec!["db1".to_owned()],
        fence: Some(vec!["/f".to_owned(), "x y".to_owned()]),
        salvage: Some(vec!["/s".to_owned()]),
        confirm: Duration::from_secs(2),
        cooldown: Duration::from_secs(3600),
        max_loss: Some(7),
        drain: Duration::from_secs(180),
    };
    assert_eq!(config.pairs["p"].failover, expected);
    let config = parse(&with_failover(""), Path::new("u.toml")).unwrap();
    assert_eq!(config.pairs["p"].failover, FailoverConfig::default());
}

#[test]
fn mistakes_in_how_a_pair_fails_over_are_told() {
    for (lines, expected) in [
        (
            "preffer = [\"db2\"]",
            "7:1: unknown key \"preffer\" in [pair.p.failover]",
        ),
        (
            "prefer = [\"db2\", \"db3\"]",
            "7:18: prefer: \"db3\" isn't a server of this pair",
        ),
        (
            "never = [\"db2\", \"db2\"]",
            "7:17: never: \"db2\" stands here twice",
        ),
        (
            "never = \"db2\"",
            "7:9: never: expected a list of strings, found a string",
        ),
        (
            "prefer = [\"db2\"]\nnever = [\"db2\"]",
            "7:11: \"db2\" is in prefer and in never",
        ),
        (
            "never = [\"db2\", \"db1\"]",
            "7:1: never has all servers of the pair",
        ),
        ("fence = []", "7:9: fence: the command is empty"),
        (
            "fence = [\"fence-server\"]",
            "7:10: fence: \"fence-server\" is no absolute path",
        ),
        ("confirm = 5", "7:11: confirm: expected a string"),
        (
            "cooldown = \"ten\"",
            "7:12: cooldown: \"ten\" is no duration",
        ),
        ("drain = \"60\"", "7:9: drain: \"60\" is no duration"),
        ("max_loss = -1", "7:12: max_loss: -1 isn't between 0 and"),
        (
            "max_loss = \"1\"",
            "7:12: max_loss: expected a whole number, found a string",
        ),
    ] {
        let found = in_failover(lines);
        assert!(
            found.starts_with(expected),
            "{lines}\nfound:    {found}\nexpected: {expected}"
        );
    }
    let found = only_message(
        "server.a.address = \"a\"\nserver.b.address = \"b\"\n\
         [pair.p]\nsource = \"a\"\nreplicas = [\"b\"]\nfailover = 1\n",
    );
    assert_eq!(
        found,
        "6:1: expected the table [pair.p.failover], found a whole number"
    );
}

/// The one message that lines in a good file's [notify] get; they begin in line 4.
fn in_notify(lines: &str) -> String {
    only_message(&format!(
        "[server.db1]\naddress = \"db1\"\n[notify]\n{lines}\n"
    ))
}

#[test]
fn who_is_told_arrives() {
    let text = r#"server.db1.address = "db1"
        [notify]
        on_failure = ["/bin/page", "me"]
        webhook = "https://hooks.example/T0KEN?x=1"
        webhook_events = ["failure"]
        ping = "http://[::1]:8000/u"
        mail = "root"
        sendmail = "/usr/bin/msmtp"
        timeout = "3s"
    "#;
    let notify = parse(text, Path::new("u.toml")).unwrap().notify;
    let argv = ["/bin/page", "me"].map(str::to_owned);
    assert_eq!(notify.on_failure.as_deref(), Some(&argv[..]));
    let webhook = notify.webhook.as_ref().unwrap().reveal();
    assert_eq!(webhook, "https://hooks.example/T0KEN?x=1");
    assert_eq!(notify.webhook_events, [NotifyEvent::Failure]);
    assert_eq!(notify.mail.as_deref(), Some("root"));
    assert_eq!(notify.sendmail, Path::new("/usr/bin/msmtp"));
    assert_eq!(notify.timeout, Duration::from_secs(3));
    assert!(!format!("{notify:?}").contains("T0KEN"));
}

#[test]
fn mistakes_in_who_is_told_are_told_without_the_address() {
    for (line, expected) in [
        (
            "webhook = \"hooks.example/T0KEN\"",
            "4:11: webhook: it is no address of the web: it begins with neither https:// nor http://",
        ),
        (
            "ping = \"https:///T0KEN\"",
            "4:8: ping: it is no address of the web: it names no host",
        ),
        (
            "ping = \"https://h/T0KEN x\"",
            "4:8: ping: it is no address of the web: it has characters that no address has",
        ),
        (
            "webhook_events = [\"failures\"]",
            "4:19: webhook_events: unknown word \"failures\"",
        ),
        (
            "on_failure = [\"page\"]",
            "4:15: on_failure: \"page\" is no absolute path",
        ),
        (
            "mail = \"-f x\"",
            "4:8: mail: \"-f x\" is no address of mail",
        ),
        (
            "mail = \"a\\nBcc: b\"",
            "4:8: mail: \"a\\nBcc: b\" is no address of mail",
        ),
        (
            "timeout = \"1h\"",
            "4:11: timeout: it isn't between 1s and 5m",
        ),
        ("webhok = \"x\"", "4:1: unknown key \"webhok\" in [notify]"),
    ] {
        assert_eq!(in_notify(line), expected);
    }
}
