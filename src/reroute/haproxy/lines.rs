//! What is said to HAProxy's runtime socket, and what it answers. Pure.

use std::net::IpAddr;

use super::super::act::{Admin, Entry};

/// srv_admin_state: forced, inherited, by DNS, by a changed name.
const MAINT_BITS: u32 = 0x01 | 0x02 | 0x20 | 0x40;
/// Forced and inherited. (0x04 only says that the configuration has it disabled.)
const DRAIN_BITS: u32 = 0x08 | 0x10;

pub fn show(backend: &str) -> String {
    format!("show servers state {backend}")
}

pub const SHOW_LEVEL: &str = "show cli level";

pub fn set_admin(backend: &str, entry: &str, admin: Admin) -> String {
    let word = match admin {
        Admin::Ready => "ready",
        Admin::Drain => "drain",
        Admin::Maint => "maint",
    };
    format!("set server {backend}/{entry} state {word}")
}

pub fn set_address(backend: &str, entry: &str, address: IpAddr, port: u16) -> String {
    format!("set server {backend}/{entry} addr {address} port {port}")
}

pub fn shut_sessions(backend: &str, entry: &str) -> String {
    format!("shutdown sessions server {backend}/{entry}")
}

/// The entries of a back-end; the error is a fragment that says what was answered instead.
pub fn parse_state(answer: &str) -> Result<Vec<Entry>, String> {
    let mut lines = answer.lines();
    let unknown = || {
        format!(
            "it answered {:?}",
            answer.trim().lines().next().unwrap_or("")
        )
    };
    if lines.next() != Some("1") {
        return Err(unknown());
    }
    let header = lines.next().and_then(|line| line.strip_prefix("# "));
    let names: Vec<&str> = header.ok_or_else(unknown)?.split(' ').collect();
    let column = |name: &str| {
        let found = names.iter().position(|one| *one == name);
        found.ok_or_else(|| format!("its list of servers has no {name}"))
    };
    let (entry, address) = (column("srv_name")?, column("srv_addr")?);
    let (admin, port) = (column("srv_admin_state")?, column("srv_port")?);
    lines
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let field = |at: usize| fields.get(at).copied().unwrap_or_default();
            let parsed = (|| {
                Some(Entry {
                    name: field(entry).to_owned(),
                    address: field(address).parse().ok()?,
                    port: field(port).parse().ok()?,
                    admin: admin_of(field(admin).parse().ok()?),
                })
            })();
            parsed.ok_or_else(|| format!("its list of servers has the line {line:?}"))
        })
        .collect()
}

fn admin_of(bits: u32) -> Admin {
    match (bits & MAINT_BITS, bits & DRAIN_BITS) {
        (0, 0) => Admin::Ready,
        (0, _) => Admin::Drain,
        (_, _) => Admin::Maint,
    }
}

/// The steps to where the entries shall be, in their order: first those that must not be used any
/// more lose their sessions, then the others are opened. Nothing when all is so.
///
/// An entry whose address changes goes through maintenance: a run that was killed in between leaves it
/// there, and the next one goes on.
pub fn steps(backend: &str, now: &[Entry], wanted: &[Entry]) -> Vec<String> {
    let mut closing = Vec::new();
    let mut opening = Vec::new();
    for want in wanted {
        let Some(is) = now.iter().find(|entry| entry.name == want.name) else {
            continue;
        };
        if is == want {
            continue;
        }
        let moves = (is.address, is.port) != (want.address, want.port);
        if moves || want.admin == Admin::Maint {
            closing.push(set_admin(backend, &want.name, Admin::Maint));
            closing.push(shut_sessions(backend, &want.name));
        }
        if moves {
            opening.push(set_address(backend, &want.name, want.address, want.port));
        }
        if want.admin != Admin::Maint {
            opening.push(set_admin(backend, &want.name, want.admin));
        }
    }
    closing.extend(opening);
    closing
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str =
        include_str!("../../../tests/fixtures/reroute/haproxy-2.6.12.servers-state");

    fn entry(name: &str, address: &str, port: u16, admin: Admin) -> Entry {
        Entry {
            name: name.to_owned(),
            address: address.parse().unwrap(),
            port,
            admin,
        }
    }

    #[test]
    fn states_are_read() {
        let entries = parse_state(STATE).unwrap();
        assert_eq!(
            entries,
            [
                entry("current", "::1", 23002, Admin::Ready),
                entry("s1", "127.0.0.1", 23001, Admin::Drain),
                // Disabled in the configuration, made ready since.
                entry("s2", "127.0.0.1", 23002, Admin::Ready),
                entry("s3", "127.0.0.1", 23003, Admin::Maint),
            ]
        );
        assert_eq!(
            parse_state("Can't find backend.\n\n").unwrap_err(),
            "it answered \"Can't find backend.\""
        );
        assert!(parse_state("").is_err());
        assert!(parse_state("1\n# srv_name\nx\n").is_err());
        assert!(parse_state(&STATE.replace(" 23001 ", " x ")).is_err());
    }

    #[test]
    fn the_old_one_is_closed_before_the_new_one_opens() {
        let (ready, maint) = (Admin::Ready, Admin::Maint);
        let now = [entry("a", "::1", 1, ready), entry("b", "::1", 2, maint)];
        let wanted = [entry("b", "::1", 2, ready), entry("a", "::1", 1, maint)];
        assert_eq!(
            steps("m", &now, &wanted),
            [
                "set server m/a state maint",
                "shutdown sessions server m/a",
                "set server m/b state ready"
            ]
        );
        assert_eq!(steps("m", &wanted, &wanted), Vec::<String>::new());
    }

    #[test]
    fn an_entry_that_moves_has_no_sessions_meanwhile() {
        let now = [entry("a", "127.0.0.1", 1, Admin::Ready)];
        let wanted = [entry("a", "127.0.0.2", 2, Admin::Ready)];
        let whole = [
            "set server m/a state maint",
            "shutdown sessions server m/a",
            "set server m/a addr 127.0.0.2 port 2",
            "set server m/a state ready",
        ];
        assert_eq!(steps("m", &now, &wanted), whole);
        // Killed after the address was set.
        let now = [entry("a", "127.0.0.2", 2, Admin::Maint)];
        assert_eq!(steps("m", &now, &wanted), whole[3..]);
    }

    proptest::proptest! {
        #[test]
        fn what_is_answered_is_never_a_panic(answer in ".{0,300}") {
            drop(parse_state(&answer));
            drop(parse_state(&format!("1\n# srv_name srv_addr srv_admin_state srv_port\n{answer}")));
        }
    }
}
