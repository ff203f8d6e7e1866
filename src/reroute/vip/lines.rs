//! What `ip` and `arping` are told, and what `ip` answers. Pure.

use std::net::IpAddr;

use serde_json::Value;

/// How an address is on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum There {
    No,
    /// The kernel still looks whether another host has it.
    Tentative,
    /// Another host has it.
    Duplicate,
    Yes,
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

pub fn show() -> Vec<String> {
    owned(&["-j", "addr", "show"])
}

pub fn change(verb: &str, address: IpAddr, prefix: u8, interface: &str) -> Vec<String> {
    owned(&[
        "addr",
        verb,
        &format!("{address}/{prefix}"),
        "dev",
        interface,
    ])
}

/// Asks whether another host has it; fails when one answers. For two seconds.
pub fn is_free(address: IpAddr, interface: &str) -> Vec<String> {
    owned(&[
        "-D",
        "-q",
        "-c",
        "2",
        "-w",
        "2",
        "-I",
        interface,
        &address.to_string(),
    ])
}

/// As a request ("-U") or an answer ("-A") that nobody asked for: some heed only one of them.
pub fn announce(kind: &str, address: IpAddr, interface: &str) -> Vec<String> {
    owned(&[kind, "-q", "-c", "1", "-I", interface, &address.to_string()])
}

/// Whether the kernel announces an IPv6 address that is new.
pub fn notify(interface: &str) -> Vec<String> {
    owned(&[
        "-q",
        "-w",
        &format!("net/ipv6/conf/{interface}/ndisc_notify=1"),
    ])
}

/// Whether the interface is there, and how the address is on any of them; the error is a fragment.
pub fn parse_show(answer: &str, address: IpAddr, interface: &str) -> Result<(bool, There), String> {
    let links: Vec<Value> = serde_json::from_str(answer)
        .map_err(|error| format!("ip's answer is no list in JSON: {error}"))?;
    let has_interface = links.iter().any(|link| link["ifname"] == interface);
    let there = links
        .iter()
        .filter_map(|link| link["addr_info"].as_array())
        .flatten()
        .find(|info| {
            let local = info["local"].as_str();
            local.and_then(|local| local.parse().ok()) == Some(address)
        });
    let there = match there {
        None => There::No,
        Some(info) if info["dadfailed"] == true => There::Duplicate,
        Some(info) if info["tentative"] == true => There::Tentative,
        Some(_) => There::Yes,
    };
    Ok((has_interface, there))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_with_their_state() {
        let answer = include_str!("../../../tests/fixtures/reroute/iproute2-6.1.0.addr.json");
        for (address, expected) in [
            ("192.0.2.10", There::Yes),
            ("192.0.2.1", There::No),
            ("2001:db8::10", There::Duplicate),
            ("2001:db8:0::11", There::No),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(parse_show(answer, address, "eth0"), Ok((true, expected)));
            assert_eq!(parse_show(answer, address, "eth1"), Ok((false, expected)));
        }
        let tentative = answer.replace("\"dadfailed\":true,", "");
        let address = "2001:db8::10".parse().unwrap();
        assert_eq!(
            parse_show(&tentative, address, "eth0"),
            Ok((true, There::Tentative))
        );
        assert!(parse_show("Usage: ip", address, "eth0").is_err());
    }

    #[test]
    fn an_address_is_given_with_its_prefix() {
        let address = "192.0.2.10".parse().unwrap();
        let argv = change("add", address, 24, "eth0");
        assert_eq!(argv.join(" "), "addr add 192.0.2.10/24 dev eth0");
        assert_eq!(
            announce("-U", address, "eth0").join(" "),
            "-U -q -c 1 -I eth0 192.0.2.10"
        );
    }
}
