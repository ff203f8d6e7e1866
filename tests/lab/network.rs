//! Hosts of a network: each is a network namespace with an interface on one bridge, an address and a
//! name of its own.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

use super::scratch::Scratch;
use super::{sh, try_sh};

/// `s` is the bridge's, the others are hosts.
const NAMES: [&str; 4] = ["s", "1", "2", "3"];
pub struct Network {
    name: String,
}

impl Network {
    pub fn start(scratch: &Scratch) -> Self {
        let network = Self {
            name: scratch.name.clone(),
        };
        for name in NAMES {
            sh(&["ip", "netns", "add", &network.host(name)]);
            network.ip(name, "link set lo up");
        }
        network.ip("s", "link add br0 type bridge");
        network.ip("s", "link set br0 up");
        for name in ["1", "2", "3"] {
            let host = network.host(name);
            network.ip(
                "s",
                &format!("link add v{name} type veth peer name eth0 netns {host}"),
            );
            network.ip("s", &format!("link set v{name} master br0 up"));
            network.ip(name, "link set eth0 up");
            network.ip(name, &format!("addr add 192.0.2.{name}/24 dev eth0"));
            network.ip(
                name,
                &format!("addr add 2001:db8::{name}/64 dev eth0 nodad"),
            );
        }
        network
    }

    pub fn host(&self, name: &str) -> String {
        format!("{}{name}", self.name)
    }

    pub fn ip(&self, name: &str, words: &str) -> String {
        let host = self.host(name);
        let mut argv = vec!["ip", "-n", &host];
        argv.extend(words.split(' '));
        sh(&argv)
    }

    /// This thread, and what it starts, is there from now on.
    pub fn enter(&self, name: &str) {
        let path = Path::new("/run/netns").join(self.host(name));
        setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// What `body` starts is on that host, by its address and its name.
    pub fn on<R>(&self, name: &str, body: impl FnOnce() -> R) -> R {
        let own = ["net", "uts"].map(|kind| {
            let path = format!("/proc/thread-self/ns/{kind}");
            File::open(path).unwrap()
        });
        self.enter(name);
        unshare(CloneFlags::CLONE_NEWUTS).unwrap();
        nix::unistd::sethostname(format!("host{name}")).unwrap();
        let result = body();
        let [net, uts] = own;
        setns(net, CloneFlags::CLONE_NEWNET).unwrap();
        setns(uts, CloneFlags::CLONE_NEWUTS).unwrap();
        result
    }

    /// Runs the program that is added to it on that host.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new("/usr/sbin/ip");
        let script = format!("hostname host{name} && exec \"$@\"");
        command.args(["netns", "exec", &self.host(name)]);
        command.args(["/usr/bin/unshare", "--uts", "/bin/sh", "-c", &script, "sh"]);
        command
    }

    /// Two hosts don't hear each other any more, and get no answer at all; everybody else hears both.
    pub fn part(&self, one: &str, other: &str) {
        for name in [one, other] {
            self.bridge(name, "on");
        }
    }

    pub fn heal(&self, one: &str, other: &str) {
        for name in [one, other] {
            self.bridge(name, "off");
        }
    }

    fn bridge(&self, name: &str, isolated: &str) {
        let host = self.host("s");
        let port = format!("v{name}");
        sh(&[
            "bridge", "-n", &host, "link", "set", "dev", &port, "isolated", isolated,
        ]);
    }

    /// A host's cable is pulled, or back.
    pub fn cable(&self, name: &str, word: &str) {
        self.ip("s", &format!("link set v{name} {word}"));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in NAMES {
            drop(try_sh(&["ip", "netns", "del", &self.host(name)]));
        }
    }
}
