//! Values of `[[pair.NAME.reroute]]`: networks, interfaces, sockets, names. Pure.

use std::net::IpAddr;

use super::issue::Complaint;
use super::model::Address;
use super::values::{parse_absolute_path, parse_address};

const DNS_PORT: u16 = 53;
/// The kernel's IFNAMSIZ, without its NUL.
const INTERFACE_CHARS_MAX: usize = 15;

pub(super) fn parse_network(text: &str) -> Result<(IpAddr, u8), Complaint> {
    let wrong = |why: &str| {
        Complaint::new(format!("{text:?} is no address with its prefix: {why}"))
            .hint("Write it like \"192.0.2.10/24\" or \"2001:db8::10/64\".")
    };
    let (address, prefix) = text
        .split_once('/')
        .ok_or_else(|| wrong("the \"/\" is missing"))?;
    let address: IpAddr = address
        .parse()
        .map_err(|_| wrong("what stands before the \"/\" is no IP address"))?;
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err(wrong("no client could connect to it"));
    }
    let bits = if address.is_ipv4() { 32 } else { 128 };
    match prefix.parse::<u8>() {
        Ok(prefix) if (1..=bits).contains(&prefix) => Ok((address, prefix)),
        Ok(_) | Err(_) => Err(wrong(&format!("the prefix goes from 1 to {bits}"))),
    }
}

pub(super) fn parse_interface(text: &str) -> Result<String, Complaint> {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    let fits = !text.is_empty()
        && text.len() <= INTERFACE_CHARS_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(known);
    match fits {
        true => Ok(text.to_owned()),
        false => Err(Complaint::new(format!("{text:?} is no interface's name"))
            .hint("`ip link` lists them.")),
    }
}

pub(super) fn parse_socket(text: &str) -> Result<Address, Complaint> {
    match text.starts_with('/') {
        true => parse_absolute_path(text).map(Address::Socket),
        false if text.contains(':') => parse_address(text),
        false => Err(Complaint::new(format!("{text:?} is no runtime socket"))
            .hint("Write its path, or \"HOST:PORT\".")),
    }
}

/// HAProxy's own rule for names.
pub(super) fn parse_entry(text: &str) -> Result<String, Complaint> {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    match !text.is_empty() && text.chars().all(known) {
        true => Ok(text.to_owned()),
        false => Err(Complaint::new(format!("{text:?} is no name of HAProxy's"))
            .hint("They have letters, digits, '-', '_', '.' and ':'.")),
    }
}

pub(super) fn parse_name_server(text: &str) -> Result<(String, u16), Complaint> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok((text.to_owned(), DNS_PORT));
    }
    let has_port = match text.strip_prefix('[') {
        Some(rest) => rest.contains("]:"),
        None => text.contains(':'),
    };
    match parse_address(text)? {
        Address::Tcp { host, port } if has_port => Ok((host, port)),
        Address::Tcp { host, .. } => Ok((host, DNS_PORT)),
        Address::Socket(_) => Err(Complaint::new(format!("{text:?} is no name server"))),
    }
}

/// Lower case, without the dot at the end.
pub(super) fn parse_dns_name(text: &str) -> Result<String, Complaint> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let known = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && !label.starts_with('-') && label.chars().all(known)
    };
    match name.len() <= 253 && name.split('.').all(is_label) {
        true => Ok(name),
        false => Err(Complaint::new(format!("{text:?} is no domain name"))
            .hint("Write it whole, like \"db.lab.example\".")),
    }
}

pub(super) fn parse_key(text: &str) -> Result<String, Complaint> {
    match text.is_empty() || text.chars().any(char::is_control) {
        true => Err(Complaint::new("the key is empty or has control characters")
            .hint("Write it like \"database.host\".")),
        false => Ok(text.to_owned()),
    }
}

pub(super) fn parse_client_address(
    text: &str,
    with_port: bool,
) -> Result<(String, u16), Complaint> {
    match parse_address(text)? {
        Address::Tcp { host, port } if with_port || !text.contains(':') => Ok((host, port)),
        Address::Tcp { .. } | Address::Socket(_) => Err(Complaint::new(format!(
            "{text:?}: a record has no port, only an address"
        ))),
    }
}

/// One that a client can connect to. Loopback is one too, where the client is on the same host.
pub(super) fn client_ip(host: &str) -> Result<IpAddr, Complaint> {
    let address: IpAddr = host
        .parse()
        .map_err(|_| Complaint::new(format!("{host:?} is no IP address")))?;
    match address.is_unspecified() || address.is_multicast() {
        true => Err(Complaint::new(format!("nobody can connect to {host}"))),
        false => Ok(address),
    }
}
