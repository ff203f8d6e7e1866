//! A whole configuration text in, a validated configuration or everything wrong with it out.
//!
//! Pure: looks at no file, no server and no environment.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::failover::FailoverConfig;
use super::failover_table::read_failover;
use super::issue::{Complaint, ConfigErrors, Issues, position};
use super::model::{Config, PairConfig, ServerConfig};
use super::notify::NotifyConfig;
use super::notify_table::read_notify;
use super::reference::{PAIR, SERVER};
use super::reroute_table::{Members, read_reroute};
use super::server_table::read_server;
use super::table::{At, Table};
use super::values::{check_name, closest, parse_absolute_path};

/// Where state lives when the file doesn't say.
pub const STATE_DIR_DEFAULT: &str = "/var/lib/understudy";

/// Reads a configuration text; `path` is what the messages call it.
///
/// # Errors
/// Everything that is wrong with it at once, in the order of the file.
pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigErrors> {
    let mut issues = Issues::new(text, path);
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    for error in syntax_errors {
        let offset = error.span().map_or(text.len(), |span| span.start);
        issues.syntax(offset, Complaint::new(lower_first(error.message())));
    }
    let mut root = Table::root(document.as_ref());
    let state_dir = root.parsed("state_dir", &mut issues, parse_absolute_path);
    let servers = read_servers(&mut root, &mut issues);
    let pairs = read_pairs(&mut root, &servers, &mut issues);
    let notify = match root.table("notify", &mut issues) {
        Some(table) => read_notify(table, &mut issues),
        None => NotifyConfig::default(),
    };
    let metrics_file = root.parsed("metrics_file", &mut issues, parse_metrics_file);
    root.finish(&mut issues);
    issues.finish()?;
    #[cfg(test)]
    super::reference::tests::hold(text);
    Ok(Config {
        path: path.to_owned(),
        state_dir: state_dir.map_or_else(|| PathBuf::from(STATE_DIR_DEFAULT), |at| at.value),
        servers: servers
            .into_iter()
            .filter_map(|(name, server)| Some((name, server?)))
            .collect(),
        pairs,
        notify,
        metrics_file: metrics_file.map(|at| at.value),
    })
}

/// The collector reads no other files.
fn parse_metrics_file(text: &str) -> Result<PathBuf, Complaint> {
    let path = parse_absolute_path(text)?;
    match path
        .extension()
        .is_some_and(|extension| extension == "prom")
    {
        true => Ok(path),
        false => Err(Complaint::new(format!("{text:?} doesn't end in .prom"))
            .hint("node_exporter reads only such files of its directory.")),
    }
}

/// Where a key stands, by the names of its tables, and the numbers (from 0) of those in lists; `None`
/// when the text has no such key.
pub(super) fn locate(text: &str, keys: &[&str]) -> Option<(usize, usize)> {
    let (document, _) = DeTable::parse_recoverable(text);
    let (last, tables) = keys.split_last()?;
    let mut table = document.as_ref();
    let mut names = tables.iter();
    while let Some(name) = names.next() {
        let value = table.get(*name)?.as_ref();
        table = match value.as_array() {
            Some(array) => array.get(names.next()?.parse::<usize>().ok()?)?.as_ref(),
            None => value,
        }
        .as_table()?;
    }
    let (_, value) = table.get_key_value(*last)?;
    Some(position(text, value.span().start))
}

/// Servers by name; the ones that are wrong have their name there and no value.
type Servers = BTreeMap<String, Option<ServerConfig>>;

fn read_servers(root: &mut Table<'_, '_>, issues: &mut Issues<'_>) -> Servers {
    let stands_there = root.has("server");
    let entries = match root.table("server", issues) {
        Some(table) => table.entries(),
        None => Vec::new(),
    };
    if entries.is_empty() && (!stands_there || root.has_table("server")) {
        issues.missing(
            root.key_span("server"),
            Complaint::new("no server is configured").hint(
                "Add a [server.NAME] table with its address; `understudy config example` shows one.",
            ),
        );
    }
    let mut servers = Servers::new();
    for (name, value) in entries {
        check_name_at(&name, issues);
        let title = title("server", name.value);
        let table = Table::of(title, name.span, value, Some(&SERVER), issues);
        let server = table.and_then(|table| read_server(name.value, table, issues));
        servers.insert(name.value.to_owned(), server);
    }
    servers
}

fn check_name_at(name: &At<&str>, issues: &mut Issues<'_>) {
    if let Err(complaint) = check_name(name.value) {
        issues.report(name.span.clone(), complaint);
    }
}

/// A table's header as it stands in the file.
fn title(kind: &str, name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match !name.is_empty() && name.chars().all(bare) {
        true => format!("[{kind}.{name}]"),
        false => format!("[{kind}.{name:?}]"),
    }
}

fn read_pairs(
    root: &mut Table<'_, '_>,
    servers: &Servers,
    issues: &mut Issues<'_>,
) -> BTreeMap<String, PairConfig> {
    let mut pairs = BTreeMap::new();
    let Some(table) = root.table("pair", issues) else {
        return pairs;
    };
    for (name, value) in table.entries() {
        check_name_at(&name, issues);
        let title = title("pair", name.value);
        let pair = Table::of(title, name.span, value, Some(&PAIR), issues)
            .and_then(|table| read_pair(name.value, table, servers, issues));
        if let Some(pair) = pair {
            pairs.insert(pair.name.clone(), pair);
        }
    }
    pairs
}

fn read_pair(
    name: &str,
    mut table: Table<'_, '_>,
    servers: &Servers,
    issues: &mut Issues<'_>,
) -> Option<PairConfig> {
    let source = table.string("source", issues);
    let replicas = table.strings("replicas", issues);
    for (key, example) in [("source", "\"db1\""), ("replicas", "[\"db2\"]")] {
        if !table.has(key) {
            let message = format!("{} has no {key}", table.title);
            issues.missing(
                table.span.clone(),
                Complaint::new(message).hint(format!("Add {key} = {example}.")),
            );
        }
    }
    let mut members = Members::new();
    let names = replicas.iter().flat_map(|replicas| &replicas.value);
    for name in source.iter().chain(names) {
        let server = servers.get(name.value).and_then(Option::as_ref);
        members.insert(name.value, server.map(|server| &server.address));
    }
    let reroutes = table.tables("reroute", issues);
    let reroutes = reroutes
        .into_iter()
        .filter_map(|reroute| read_reroute(reroute, &members, issues))
        .collect();
    let failover = match table.table("failover", issues) {
        Some(failover) => read_failover(failover, &members, issues),
        None => FailoverConfig::default(),
    };
    table.finish(issues);
    if let Some(source) = &source {
        check_known(source, servers, issues);
    }
    if let Some(replicas) = &replicas {
        check_replicas(source.as_ref(), replicas, servers, issues);
    }
    Some(PairConfig {
        name: name.to_owned(),
        source: source?.value.to_owned(),
        replicas: replicas?
            .value
            .iter()
            .map(|at| at.value.to_owned())
            .collect(),
        reroutes,
        failover,
    })
}

fn check_known(name: &At<&str>, servers: &Servers, issues: &mut Issues<'_>) {
    if servers.contains_key(name.value) {
        return;
    }
    let known: Vec<_> = servers.keys().map(String::as_str).collect();
    let hint = match closest(name.value, &known) {
        Some(known) => format!("Did you mean {known:?}? Each server has a [server.NAME] table."),
        None => format!("Add a [server.{}] table, or name another one.", name.value),
    };
    let message = format!("no server {:?} is configured", name.value);
    issues.missing(name.span.clone(), Complaint::new(message).hint(hint));
}

fn check_replicas(
    source: Option<&At<&str>>,
    replicas: &At<Vec<At<&str>>>,
    servers: &Servers,
    issues: &mut Issues<'_>,
) {
    let mut complain =
        |span: &Range<usize>, message: String| issues.report(span.clone(), Complaint::new(message));
    if replicas.value.is_empty() {
        complain(
            &replicas.span,
            "a pair needs at least one replica".to_owned(),
        );
    }
    let address = |name: &str| Some(&servers.get(name)?.as_ref()?.address);
    let source_address = source.and_then(|source| address(source.value));
    for (index, replica) in replicas.value.iter().enumerate() {
        let name = replica.value;
        if source.is_some_and(|source| source.value == name) {
            complain(
                &replica.span,
                format!("{name:?} is also this pair's source"),
            );
        } else if replicas.value[..index].iter().any(|one| one.value == name) {
            complain(&replica.span, format!("{name:?} stands here twice"));
        } else if source_address.is_some() && source_address == address(name) {
            let message = format!("{name:?} has the same address as this pair's source");
            complain(&replica.span, message);
        }
    }
    for replica in &replicas.value {
        check_known(replica, servers, issues);
    }
}

/// The parser's sentences begin upper case in places; ours are fragments.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => "it is no TOML".to_owned(),
    }
}

#[cfg(test)]
mod tests;
