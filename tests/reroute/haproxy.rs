//! Behind a real HAProxy.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

use understudy::reroute::{Seen, check, perform, see};

use super::lab::eventually;
use super::lab::scratch::Scratch;
use super::lab::server::Server;
use super::{
    Ended, act, act_on, checked, lab_program, performs, start, two_servers, undoes, write,
};

struct Proxy {
    /// Where clients connect.
    port: u16,
    /// The runtime socket by TCP.
    admin_port: u16,
    scratch: Scratch,
    _process: Ended,
}

impl Proxy {
    fn start(ports: [u16; 2]) -> Self {
        let scratch = Scratch::new();
        let free = || {
            TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port()
        };
        let (port, admin_port) = (free(), free());
        let base = scratch.path.display();
        let [one, two] = ports;
        let text = format!(
            "global\n stats socket {base}/admin.sock level admin\n stats socket {base}/user.sock level user\n \
             stats socket ipv4@127.0.0.1:{admin_port} level admin\n\
             defaults\n mode tcp\n timeout connect 2s\n timeout client 1h\n timeout server 1h\n\
             frontend clients\n bind 127.0.0.1:{port}\n default_backend one\n\
             frontend others\n bind 127.0.0.1:{}\n default_backend each\n\
             backend one\n server current 127.0.0.1:{one}\n\
             backend each\n server s1 127.0.0.1:{one}\n server s2 127.0.0.1:{two} disabled\n",
            free()
        );
        let config = scratch.path.join("haproxy.cfg");
        write(&config, &text, 0o600);
        let args = ["-db", "-f", config.to_str().unwrap()];
        let process = start(&lab_program("haproxy"), &args, &scratch.path.join("log"));
        let socket = scratch.path.join("admin.sock");
        eventually(Duration::from_secs(10), "HAProxy's socket", || {
            socket.exists()
        });
        Self {
            port,
            admin_port,
            scratch,
            _process: process,
        }
    }

    fn socket(&self, name: &str) -> String {
        self.scratch.path.join(name).display().to_string()
    }
}

fn client(port: u16) -> Result<Conn, mysql::Error> {
    Conn::new(
        OptsBuilder::new()
            .ip_or_hostname(Some("127.0.0.1"))
            .tcp_port(port)
            .prefer_socket(false)
            .user(Some("understudy"))
            .pass(Some("secret word"))
            .read_timeout(Some(Duration::from_secs(5))),
    )
}

fn id_through(port: u16) -> u32 {
    let mut client = client(port).unwrap();
    client.query_first("SELECT @@server_id").unwrap().unwrap()
}

fn ports(servers: &[Server; 2]) -> [u16; 2] {
    [servers[0].port, servers[1].port]
}

#[test]
fn one_entry_leads_to_the_new_source_and_back_and_its_old_sessions_end() {
    let scratch = Scratch::new();
    let servers = two_servers(&scratch);
    let proxy = Proxy::start(ports(&servers));
    for socket in [
        proxy.socket("admin.sock"),
        format!("127.0.0.1:{}", proxy.admin_port),
    ] {
        let lines = format!(
            "way = \"haproxy\"\nsocket = \"{socket}\"\nbackend = \"one\"\nserver = \"current\"\n\
             through = \"127.0.0.1:{}\"\ntimeout = \"4s\"",
            proxy.port
        );
        let mut act = act_on(&lines, &servers, &scratch);
        let mut old = client(proxy.port).unwrap();
        assert_eq!(
            old.query_first::<u32, _>("SELECT @@server_id").unwrap(),
            Some(1)
        );
        checked(&mut act);
        let error = see(&act).unwrap_err();
        assert!(error.message.contains("doesn't lead to db2"), "{error}");
        performs(&act);
        assert!(
            old.query_drop("DO 1").is_err(),
            "a session of the old source lives on"
        );
        assert_eq!(id_through(proxy.port), 2);
        let through = super::address(proxy.port);
        assert_eq!(see(&act).unwrap(), Seen::Reached { through });
        undoes(&act);
        assert_eq!(id_through(proxy.port), 1);
    }
}

#[test]
fn one_entry_for_each_server_is_ready_and_the_others_are_not() {
    let scratch = Scratch::new();
    let proxy = Proxy::start([1, 2]);
    let lines = format!(
        "way = \"haproxy\"\nsocket = \"{}\"\nbackend = \"each\"\nservers = {{ db1 = \"s1\", db2 = \"s2\" }}",
        proxy.socket("admin.sock")
    );
    let mut act = act(&lines, [1, 2]);
    checked(&mut act);
    performs(&act);
    assert!(matches!(see(&act).unwrap(), Seen::Asked(_)));
    undoes(&act);
    assert!(see(&act).is_err());
    drop(scratch);
}

#[test]
fn what_cannot_be_changed_is_refused_beforehand() {
    let proxy = Proxy::start([1, 2]);
    let lines = |socket: &str, backend: &str, server: &str| {
        format!(
            "way = \"haproxy\"\nsocket = \"{}\"\nbackend = \"{backend}\"\nserver = \"{server}\"\ntimeout = \"2s\"",
            proxy.socket(socket)
        )
    };
    for (lines, expected) in [
        (
            lines("user.sock", "one", "current"),
            "has the level \"user\"",
        ),
        (lines("admin.sock", "none", "current"), "Can't find backend"),
        (lines("admin.sock", "one", "none"), "has no server none"),
        (lines("no.sock", "one", "current"), "No such file"),
    ] {
        let act = act(&lines, [1, 2]);
        let error = check(&act).unwrap_err();
        assert!(error.message.contains(expected), "{error}");
        assert!(error.name.starts_with("haproxy "), "{error}");
        assert!(!error.hint.is_empty());
    }
    // A socket that is silent.
    let silent = std::os::unix::net::UnixListener::bind(proxy.socket("silent")).unwrap();
    let act = act(&lines("silent", "one", "current"), [1, 2]);
    let began = Instant::now();
    assert!(perform(&act).unwrap_err().message.contains("time limit"));
    assert!(began.elapsed() < Duration::from_secs(5));
    drop(silent);
}
