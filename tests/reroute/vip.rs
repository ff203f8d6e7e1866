//! An address that moves between two hosts of a network, seen by a client on a third. Each is a network
//! namespace with an interface on one bridge.

use understudy::config::Address;
use understudy::reroute::{Outcome, RerouteAct, Seen, check, perform, see, undo};

use super::lab::network::Network;
use super::lab::scratch::Scratch;
use super::lab::server::{Flavour, Server, Start};
use super::lab::try_sh;
use super::{act, checked, credentials, identity, performs, undoes};

/// `1` and `2` are the hosts of db1 and db2, `3` is the client's.
const PORT: u16 = 23306;

impl Network {
    fn hardware_address(&self, name: &str) -> String {
        let link = self.ip(name, "-o link show eth0");
        let mut words = link.split(' ').skip_while(|word| *word != "link/ether");
        words.nth(1).unwrap().to_owned()
    }

    fn has(&self, name: &str, address: &str) -> bool {
        self.ip(name, "addr show").contains(&format!(" {address}/"))
    }

    fn lines(&self, network: &str) -> String {
        let run = |name: &str| {
            format!(
                "[\"/usr/sbin/ip\", \"netns\", \"exec\", \"{}\"]",
                self.host(name)
            )
        };
        format!(
            "way = \"vip\"\naddress = \"{network}\"\ninterface = \"eth0\"\ntimeout = \"9s\"\n\
             hosts = {{ db1 = {}, db2 = {} }}",
            run("1"),
            run("2")
        )
    }

    /// The host of db1 can't be asked any more.
    fn lines_without_db1(&self, network: &str) -> String {
        let run = format!(
            "[\"/usr/sbin/ip\", \"netns\", \"exec\", \"{}\"], db2",
            self.host("1")
        );
        self.lines(network).replace(&run, "[\"/bin/false\"], db2")
    }
}

fn on_hosts(lines: &str) -> RerouteAct {
    let mut act = act(lines, [1, PORT]);
    let host = "192.0.2.2".to_owned();
    act.to.address = Address::Tcp { host, port: PORT };
    act
}

#[test]
fn clients_of_an_address_reach_the_new_source_and_back() {
    let scratch = Scratch::new();
    let network = Network::start(&scratch);
    let servers = [(Flavour::Mariadb, "1"), (Flavour::Mysql97, "2")].map(|(flavour, name)| {
        let place = scratch.path.join(format!("db{name}"));
        let start = Start {
            server_id: name.parse().unwrap(),
            extra: vec!["--bind-address=*".to_owned()],
            aloof: false,
        };
        let mut server = Server::fresh(flavour, &place.join("data"), &place, start);
        server.port = PORT;
        network.enter(name);
        server.spawn();
        server.wait_ready();
        server.execute_unlogged(&super::lab::couple::account());
        server
    });
    network.enter("3");
    for (address, prefix) in [("192.0.2.10", 24), ("2001:db8::10", 64)] {
        let text = format!("{address}/{prefix}");
        network.ip("1", &format!("addr add {text} dev eth0 nodad"));
        let mut act = on_hosts(&network.lines(&text));
        act.to.credentials = Some(credentials(&scratch));
        act.to.identity = identity(&servers[1]);
        // The client knows where the address is, and would go on sending there.
        let target = (address.to_owned(), PORT);
        let connect = || std::net::TcpStream::connect((target.0.as_str(), target.1));
        drop(connect().unwrap());
        let known = || network.ip("3", &format!("neigh show {address}"));
        assert!(
            known().contains(&network.hardware_address("1")),
            "{}",
            known()
        );

        let found = checked(&mut act);
        assert!(found.warnings.is_empty(), "{found:?}");
        assert!(see(&act).is_err());
        performs(&act);
        assert!(!network.has("1", address) && network.has("2", address));
        assert!(
            known().contains(&network.hardware_address("2")),
            "not announced: {}",
            known()
        );
        let host = address.to_owned();
        let through = Address::Tcp { host, port: PORT };
        assert_eq!(see(&act).unwrap(), Seen::Reached { through });
        undoes(&act);
        assert!(network.has("1", address) && !network.has("2", address));
        assert!(
            known().contains(&network.hardware_address("1")),
            "not announced: {}",
            known()
        );
        network.ip("1", &format!("addr del {text} dev eth0"));
    }
}

#[test]
fn an_address_that_another_host_still_has_is_not_brought_up_twice() {
    let scratch = Scratch::new();
    let network = Network::start(&scratch);
    for (address, prefix) in [("192.0.2.10", 24), ("2001:db8::10", 64)] {
        let text = format!("{address}/{prefix}");
        network.ip("1", &format!("addr add {text} dev eth0 nodad"));
        let mut act = on_hosts(&network.lines_without_db1(&text));
        let found = checked(&mut act);
        assert!(
            found.warnings[0].contains("can't be taken off db1"),
            "{found:?}"
        );
        let error = perform(&act).unwrap_err();
        assert!(
            error.message.contains("another host still answers for"),
            "{error}"
        );
        assert!(!network.has("2", address));
        // That host is dead; that it couldn't be asked is still told.
        network.ip("1", "link set eth0 down");
        let done = perform(&act).unwrap();
        assert!(matches!(done.outcome, Outcome::Changed(_)));
        assert!(
            done.warnings[0].contains("couldn't be taken off db1"),
            "{done:?}"
        );
        assert!(network.has("2", address));
        let done = undo(&act).unwrap();
        assert!(matches!(done.outcome, Outcome::Changed(_)));
        assert!(!network.has("2", address));
        network.ip("1", "link set eth0 up");
        drop(try_sh(&[
            "ip",
            "-n",
            &network.host("1"),
            "addr",
            "del",
            &text,
            "dev",
            "eth0",
        ]));
    }
}

#[test]
fn a_host_that_hangs_costs_its_share_of_the_time() {
    let scratch = Scratch::new();
    let network = Network::start(&scratch);
    let text = "192.0.2.10/24";
    let hangs = scratch.path.join("hangs");
    super::write(&hangs, "#!/bin/sh\nexec sleep 60\n", 0o700);
    let lines = network.lines_without_db1(text);
    let lines = lines.replace("/bin/false", hangs.to_str().unwrap());
    let act = on_hosts(&lines);
    let began = std::time::Instant::now();
    let done = perform(&act).unwrap();
    assert!(began.elapsed() < std::time::Duration::from_secs(9));
    assert!(done.warnings[0].contains("didn't end within"), "{done:?}");
    assert!(network.has("2", "192.0.2.10"));
    // The new source's own host must be reached, and have the interface.
    let error = check(&on_hosts(&network.lines(text).replace("eth0", "eth7"))).unwrap_err();
    assert!(error.message.contains("has no interface eth7"), "{error}");
}
