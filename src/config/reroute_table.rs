//! `[[pair.NAME.reroute]]`: how clients are led to the new source.
//!
//! On a mistake there is no value: the issue already stops the configuration.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::issue::{Complaint, Issues};
use super::model::Address;
use super::reroute::{FileFormat, HaproxyEntries, Reroute, RerouteConfig};
use super::reroute_values::{
    client_ip, parse_client_address, parse_dns_name, parse_entry, parse_interface, parse_key,
    parse_name_server, parse_network, parse_socket,
};
use super::table::{At, Table};
use super::values::{parse_absolute_path, parse_address, parse_word};

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// More than a week is no TTL for something that may fail over.
const TTL_S_MAX: u64 = 7 * 86_400;

const FORMATS: [(&str, FileFormat); 3] = [
    ("json", FileFormat::Json),
    ("toml", FileFormat::Toml),
    ("ini", FileFormat::Ini),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Vip,
    Haproxy,
    Dns,
    File,
    Exec,
}

const WAYS: [(&str, Word); 5] = [
    ("vip", Word::Vip),
    ("haproxy", Word::Haproxy),
    ("dns", Word::Dns),
    ("file", Word::File),
    ("exec", Word::Exec),
];

/// A pair's servers, each with its address where that is known.
pub(super) type Members<'s> = BTreeMap<&'s str, Option<&'s Address>>;

/// Reads one way.
pub(super) fn read_reroute(
    mut table: Table<'_, '_>,
    members: &Members<'_>,
    issues: &mut Issues<'_>,
) -> Option<RerouteConfig> {
    let word = required(&mut table, "way", "\"vip\"", issues, |text| {
        parse_word(text, &WAYS)
    });
    let through = table.parsed("through", issues, parse_address);
    let timeout = read_timeout(&mut table, issues);
    let Some(word) = word else {
        // Which keys belong here nobody knows; without a complaint of this one there is none.
        return None;
    };
    if let Some((text, _)) = WAYS.iter().find(|(_, one)| *one == word) {
        table.goes(text);
    }
    let way = match word {
        Word::Vip => read_vip(&mut table, members, issues),
        Word::Haproxy => read_haproxy(&mut table, members, issues),
        Word::Dns => read_dns(&mut table, members, issues),
        Word::File => read_file(&mut table, members, issues),
        Word::Exec => read_exec(&mut table, issues),
    };
    table.finish(issues);
    Some(RerouteConfig {
        way: way?,
        through: through.map(|at| at.value),
        timeout: timeout?,
    })
}

fn read_timeout(table: &mut Table<'_, '_>, issues: &mut Issues<'_>) -> Option<Duration> {
    if !table.has("timeout") {
        table.take("timeout");
        return Some(TIMEOUT_DEFAULT);
    }
    let timeout = table.duration("timeout", issues)?;
    if timeout.value < Duration::from_secs(1) || timeout.value > TIMEOUT_MAX {
        let message = "timeout goes from a second to ten minutes";
        issues.report(timeout.span, Complaint::new(message));
        return None;
    }
    Some(timeout.value)
}

fn read_vip(
    table: &mut Table<'_, '_>,
    members: &Members<'_>,
    issues: &mut Issues<'_>,
) -> Option<Reroute> {
    let address = required(table, "address", "\"192.0.2.10/24\"", issues, parse_network);
    let interface = required(table, "interface", "\"eth0\"", issues, parse_interface);
    let hosts = read_hosts(table, members, issues);
    let (address, prefix) = address?;
    Some(Reroute::Vip {
        address,
        prefix,
        interface: interface?,
        hosts: hosts?,
    })
}

fn read_haproxy(
    table: &mut Table<'_, '_>,
    members: &Members<'_>,
    issues: &mut Issues<'_>,
) -> Option<Reroute> {
    let example = "\"/run/haproxy/admin.sock\"";
    let socket = required(table, "socket", example, issues, parse_socket);
    let backend = required(table, "backend", "\"mysql\"", issues, parse_entry);
    let one = table.parsed("server", issues, parse_entry);
    let each = named(table, "servers", members, issues, parse_entry);
    let entries = match (table.has("server"), table.has("servers")) {
        (true, true) => {
            table.take("addresses");
            let message = format!("{} has both server and servers", table.title);
            let hint =
                "Keep server for one entry whose address changes, or servers for one of each.";
            issues.report(
                table.key_span("servers"),
                Complaint::new(message).hint(hint),
            );
            None
        }
        (false, false) => {
            table.take("addresses");
            let message = format!("{} has neither server nor servers", table.title);
            let hint = "Add server = \"current\" (its address is changed), or servers = { db1 = \"s1\", … }.";
            issues.missing(table.span.clone(), Complaint::new(message).hint(hint));
            None
        }
        (true, false) => {
            let addresses = addresses(table, members, true, issues, |host, port| {
                Ok((client_ip(host)?, port))
            });
            one.zip(addresses)
                .map(|(one, addresses)| HaproxyEntries::One {
                    entry: one.value,
                    addresses,
                })
        }
        (false, true) => each.map(HaproxyEntries::Each),
    };
    Some(Reroute::Haproxy {
        socket: socket?,
        backend: backend?,
        entries: entries?,
    })
}

fn read_dns(
    table: &mut Table<'_, '_>,
    members: &Members<'_>,
    issues: &mut Issues<'_>,
) -> Option<Reroute> {
    let server = required(table, "server", "\"192.0.2.53\"", issues, parse_name_server);
    let zone = required(table, "zone", "\"lab.example\"", issues, parse_dns_name);
    let name = required(table, "name", "\"db.lab.example\"", issues, parse_dns_name);
    let ttl_s = read_ttl(table, issues);
    let example = "\"/etc/understudy/dns.key\"";
    let key_file = required(table, "key_file", example, issues, parse_absolute_path);
    let addresses = addresses(table, members, false, issues, |host, _| client_ip(host));
    if let (Some(zone), Some(name)) = (&zone, &name)
        && name != zone
        && !name.ends_with(&format!(".{zone}"))
    {
        let message = format!("the name {name:?} isn't in the zone {zone:?}");
        issues.report(table.key_span("name"), Complaint::new(message));
    }
    let addresses = addresses?;
    let families: Vec<bool> = addresses.values().map(IpAddr::is_ipv4).collect();
    if families.windows(2).any(|two| two[0] != two[1]) {
        let message = "addresses of IPv4 and of IPv6 can't take each other's place in a record";
        issues.report(table.key_span("addresses"), Complaint::new(message));
        return None;
    }
    let (server, port) = server?;
    Some(Reroute::Dns {
        server,
        port,
        zone: zone?,
        name: name?,
        ttl_s: ttl_s?,
        key_file: key_file?,
        addresses,
    })
}

fn read_ttl(table: &mut Table<'_, '_>, issues: &mut Issues<'_>) -> Option<u32> {
    if !table.has("ttl") {
        table.take("ttl");
        missing(table, "ttl", "\"30s\"", issues);
        return None;
    }
    let ttl = table.duration("ttl", issues)?;
    let seconds = ttl.value.as_secs();
    if seconds == 0 || seconds > TTL_S_MAX || ttl.value.subsec_nanos() > 0 {
        let message = "ttl is in whole seconds, from one to a week";
        issues.report(ttl.span, Complaint::new(message));
        return None;
    }
    u32::try_from(seconds).ok()
}

fn read_file(
    table: &mut Table<'_, '_>,
    members: &Members<'_>,
    issues: &mut Issues<'_>,
) -> Option<Reroute> {
    let example = "\"/home/lab/dj_local_conf.json\"";
    let path = required(table, "path", example, issues, parse_absolute_path);
    let format = required(table, "format", "\"json\"", issues, |text| {
        parse_word(text, &FORMATS)
    });
    let key = required(table, "key", "\"database.host\"", issues, parse_key);
    let port_key = table.parsed("port_key", issues, parse_key);
    let has_port_key = table.has("port_key");
    let addresses = addresses(table, members, true, issues, |host, port| {
        Ok((host.to_owned(), port))
    })?;
    let ports: Vec<u16> = addresses.values().map(|(_, port)| *port).collect();
    if !has_port_key && ports.windows(2).any(|two| two[0] != two[1]) {
        let message = "the pair's servers have different ports, and nothing says where the port is";
        let hint = "Add port_key = \"database.port\".";
        issues.missing(table.span.clone(), Complaint::new(message).hint(hint));
        return None;
    }
    Some(Reroute::File {
        path: path?,
        format: format?,
        key: key?,
        port_key: port_key.map(|at| at.value),
        addresses,
    })
}

fn read_exec(table: &mut Table<'_, '_>, issues: &mut Issues<'_>) -> Option<Reroute> {
    if !table.has("argv") {
        table.take("argv");
        missing(table, "argv", "[\"/usr/local/sbin/reroute\"]", issues);
        return None;
    }
    let argv = table.strings("argv", issues)?;
    let argv = super::table::argv_of("argv", &argv, issues)?;
    Some(Reroute::Exec { argv })
}

fn read_hosts(
    table: &mut Table<'_, '_>,
    members: &Members<'_>,
    issues: &mut Issues<'_>,
) -> Option<BTreeMap<String, Vec<String>>> {
    const EXAMPLE: &str =
        "{ db1 = [\"/usr/bin/ssh\", \"-o\", \"BatchMode=yes\", \"db1\"], db2 = [] }";
    let inner = inner_table(table, "hosts", EXAMPLE, issues)?;
    let mut hosts = BTreeMap::new();
    let mut whole = true;
    for (name, _) in inner.entries() {
        whole &= check_member(&name, members, issues);
        let argv =
            inner
                .strings_of(name.value, issues)
                .and_then(|argv| match argv.value.is_empty() {
                    true => Some(Vec::new()),
                    false => super::table::argv_of(name.value, &argv, issues),
                });
        match argv {
            Some(argv) => drop(hosts.insert(name.value.to_owned(), argv)),
            None => whole = false,
        }
    }
    whole &= check_all_there(&inner, members, issues);
    whole.then_some(hosts)
}

/// A table of one value for each server of the pair.
fn named<T>(
    table: &mut Table<'_, '_>,
    key: &'static str,
    members: &Members<'_>,
    issues: &mut Issues<'_>,
    parse: impl Fn(&str) -> Result<T, Complaint>,
) -> Option<BTreeMap<String, T>> {
    let inner = table.table(key, issues)?;
    let mut values = BTreeMap::new();
    let mut whole = true;
    for (name, _) in inner.entries() {
        whole &= check_member(&name, members, issues);
        match inner.parsed_of(name.value, issues, &parse) {
            Some(at) => drop(values.insert(name.value.to_owned(), at.value)),
            None => whole = false,
        }
    }
    whole &= check_all_there(&inner, members, issues);
    whole.then_some(values)
}

/// Where clients find each server: what `addresses` says, else its own address.
fn addresses<T>(
    table: &mut Table<'_, '_>,
    members: &Members<'_>,
    with_port: bool,
    issues: &mut Issues<'_>,
    make: impl Fn(&str, u16) -> Result<T, Complaint>,
) -> Option<BTreeMap<String, T>> {
    let parse = |text: &str| match with_port || text.parse::<IpAddr>().is_err() {
        true => parse_client_address(text, with_port).and_then(|(host, port)| make(&host, port)),
        false => make(text, 0),
    };
    let mut found = BTreeMap::new();
    let mut whole = true;
    if let Some(inner) = table.table("addresses", issues) {
        for (name, _) in inner.entries() {
            whole &= check_member(&name, members, issues);
            match inner.parsed_of(name.value, issues, parse) {
                Some(at) => drop(found.insert(name.value.to_owned(), at.value)),
                None => whole = false,
            }
        }
    }
    for (name, address) in members {
        let (false, Some(address)) = (found.contains_key(*name) || !whole, address) else {
            continue;
        };
        let own = match address {
            Address::Tcp { host, port } => make(host, *port),
            Address::Socket(_) => Err(Complaint::new("it is reached by a socket")),
        };
        match own {
            Ok(value) => drop(found.insert((*name).to_owned(), value)),
            Err(complaint) => {
                whole = false;
                let message = format!(
                    "{}: no address for clients of {name:?}: {}",
                    table.title, complaint.message
                );
                let hint = format!("Add addresses = {{ {name} = \"192.0.2.1\" }}.");
                issues.missing(table.span.clone(), Complaint::new(message).hint(hint));
            }
        }
    }
    whole.then_some(found)
}

fn inner_table<'t, 'i>(
    table: &mut Table<'t, 'i>,
    key: &'static str,
    example: &str,
    issues: &mut Issues<'_>,
) -> Option<Table<'t, 'i>> {
    if !table.has(key) {
        table.take(key);
        missing(table, key, example, issues);
        return None;
    }
    table.table(key, issues)
}

fn check_member(name: &At<&str>, members: &Members<'_>, issues: &mut Issues<'_>) -> bool {
    if members.contains_key(name.value) {
        return true;
    }
    let known: Vec<&str> = members.keys().copied().collect();
    let message = format!("{:?} is no server of this pair", name.value);
    let hint = format!("Its servers: {}.", known.join(", "));
    issues.missing(name.span.clone(), Complaint::new(message).hint(hint));
    false
}

fn check_all_there(inner: &Table<'_, '_>, members: &Members<'_>, issues: &mut Issues<'_>) -> bool {
    let mut whole = true;
    for name in members.keys().filter(|name| !inner.has(name)) {
        let message = format!("{} has nothing for {name:?}", inner.title);
        let hint = "Each server of the pair may become the source, so each is named here.";
        issues.missing(inner.span.clone(), Complaint::new(message).hint(hint));
        whole = false;
    }
    whole
}

/// A string that must stand there.
fn required<T>(
    table: &mut Table<'_, '_>,
    key: &'static str,
    example: &str,
    issues: &mut Issues<'_>,
    parse: impl FnOnce(&str) -> Result<T, Complaint>,
) -> Option<T> {
    if !table.has(key) {
        table.take(key);
        missing(table, key, example, issues);
        return None;
    }
    table.parsed(key, issues, parse).map(|at| at.value)
}

fn missing(table: &Table<'_, '_>, key: &str, example: &str, issues: &mut Issues<'_>) {
    let message = format!("{} has no {key}", table.title);
    let hint = format!("Add {key} = {example}.");
    issues.missing(table.span.clone(), Complaint::new(message).hint(hint));
}
