//! The first configuration, made of the example's own pieces, and in what it differs from one that is
//! there. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use super::find::{Found, Member};
use crate::config::{Address, Config, STATE_DIR_DEFAULT, TlsMode, example};
use crate::server::Identity;

/// What belongs to all servers alike.
#[derive(Debug, Clone, Copy)]
pub struct Common<'a> {
    pub credentials: &'a Path,
    pub tls: TlsMode,
    pub tls_ca: Option<&'a Path>,
    pub state_dir: &'a Path,
}

/// A commented configuration.
pub fn config_text(found: &Found, common: Common<'_>) -> String {
    let head = piece("# understudy:", "# --- The servers");
    let state_dir = format!(
        "state_dir = {}",
        quoted(&common.state_dir.display().to_string())
    );
    let mut text = head.replace(&format!("state_dir = \"{STATE_DIR_DEFAULT}\""), &state_dir);
    text.push_str(piece("# --- The servers", "[server.db1]"));
    for (number, member) in found.members.iter().enumerate() {
        text.push_str(&server(member, common));
        if found.is_pair && number > 0 {
            text.push_str(&snapshot(member));
        }
        text.push('\n');
    }
    text.push_str(piece("# --- The pairs", "[pair.lab]"));
    match found.members.as_slice() {
        [source, replicas @ ..] if found.is_pair => {
            let names: Vec<String> = replicas
                .iter()
                .map(|one| format!("\"{}\"", one.name))
                .collect();
            text.push_str(&format!(
                "[pair.{pair}]\nsource = \"{source}\"\nreplicas = [{}]\n\n",
                names.join(", "),
                pair = PAIR,
                source = source.name
            ));
            let replica = replicas.first().map_or("", |one| &one.name);
            let rest = piece("# How clients are led", "# --- Who is told");
            text.push_str(&renamed(rest, &source.name, replica));
        }
        _ => text.push_str("# [pair.lab]\n# source = \"NAME\"\n# replicas = [\"NAME\"]\n\n"),
    }
    text.push_str(tail("# --- Who is told"));
    text
}

/// As the pair is called.
const PAIR: &str = "lab";

fn server(member: &Member, common: Common<'_>) -> String {
    let mut lines = vec![
        format!("# {} ({})", member.version, member.identity),
        format!("[server.{}]", table_name(&member.name)),
        match &member.address {
            Address::Socket(path) => format!("socket = {}", quoted(&path.display().to_string())),
            address @ Address::Tcp { .. } => format!("address = {}", quoted(&address.to_string())),
        },
        format!(
            "credentials = {}",
            quoted(&common.credentials.display().to_string())
        ),
    ];
    let tls = match (common.tls, &member.address) {
        (TlsMode::Disabled, _) | (_, Address::Socket(_)) => None,
        (TlsMode::Required, _) => Some("required"),
        (TlsMode::VerifyCa, _) => Some("verify-ca"),
        (TlsMode::VerifyFull, _) => Some("verify-full"),
    };
    if let Some(tls) = tls {
        lines.push(format!("tls = \"{tls}\""));
        if let Some(ca) = common.tls_ca.filter(|_| tls != "required") {
            lines.push(format!("tls_ca = {}", quoted(&ca.display().to_string())));
        }
    }
    lines.join("\n") + "\n"
}

/// For a server that isn't here it is only shown: snapshots are taken on its own host.
fn snapshot(member: &Member) -> String {
    let table = piece("# How snapshots of this server", "[server.db2.service]");
    // Up to the comment that belongs to the next table.
    let table = table
        .split("# What stops, starts and boots")
        .next()
        .unwrap_or(table);
    let table = table.replace(
        "server.db2.",
        &format!("server.{}.", table_name(&member.name)),
    );
    if member.is_here {
        return format!("\n{table}");
    }
    let lines = table.trim_end().lines().map(|line| match line {
        "" => String::new(),
        line if line.starts_with('#') => line.to_owned(),
        line => format!("# {line}"),
    });
    let lines: Vec<String> = lines.collect();
    format!(
        "\n# Its data isn't on this host: understudy belongs there, too, for snapshots of it.\n{}\n",
        lines.join("\n")
    )
}

/// The example from one mark to before another.
fn piece(from: &str, to: &str) -> &'static str {
    let text = tail(from);
    text.find(to).map_or(text, |end| &text[..end])
}

fn tail(from: &str) -> &'static str {
    let text = example();
    text.find(from).map_or("", |start| &text[start..])
}

/// The example's servers under their own names, in what is commented out.
fn renamed(text: &str, source: &str, replica: &str) -> String {
    text.replace("pair.lab.", &format!("pair.{PAIR}."))
        .replace("{ db1 =", &format!("{{ {} =", table_name(source)))
        .replace(", db2 =", &format!(", {} =", table_name(replica)))
        .replace("[\"db2\"]", &format!("[\"{replica}\"]"))
        .replace("[\"db1\"]", &format!("[\"{source}\"]"))
}

/// A key of TOML: one with a point is quoted.
fn table_name(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match name.chars().all(is_bare) {
        true => name.to_owned(),
        false => quoted(name),
    }
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// In what a configuration that is there differs from what was found. `who` is who answers under each
/// of its names; nobody where it doesn't.
pub fn differences(
    found: &Found,
    config: &Config,
    who: &BTreeMap<String, Option<Identity>>,
) -> Vec<String> {
    let name_of = |member: &Member| {
        let same = |(_, identity): &(&String, &Option<Identity>)| {
            identity.as_ref() == Some(&member.identity)
        };
        who.iter().find(same).map(|(name, _)| name.as_str())
    };
    let mut differences = Vec::new();
    for member in &found.members {
        if name_of(member).is_none() {
            differences.push(format!(
                "{} ({}) isn't in it",
                member.address, member.identity
            ));
        }
    }
    for (name, identity) in who {
        match identity {
            None => differences.push(format!("{name} is in it, and doesn't answer")),
            Some(identity)
                if found
                    .members
                    .iter()
                    .all(|member| member.identity != *identity) =>
            {
                differences.push(format!(
                    "{name} is in it, and belongs to no server that was found"
                ));
            }
            Some(_) => {}
        }
    }
    let names: Vec<&str> = found.members.iter().filter_map(name_of).collect();
    if let ([source, replicas @ ..], true) = (names.as_slice(), found.is_pair) {
        for replica in replicas {
            let together = config.pairs.values().any(|pair| {
                let has =
                    |name: &str| pair.source == name || pair.replicas.iter().any(|one| one == name);
                has(source) && has(replica)
            });
            if !together {
                differences.push(format!("{replica} follows {source}, and no pair has both"));
            }
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn every_piece_of_the_example_is_found() {
        for mark in [
            "# understudy:",
            "# --- The servers",
            "[server.db1]",
            "# How snapshots of this server",
            "# What stops, starts and boots",
            "[server.db2.service]",
            "# --- The pairs",
            "[pair.lab]",
            "# How clients are led",
            "# --- Who is told",
        ] {
            assert!(example().contains(mark), "{mark}");
        }
    }

    #[test]
    fn names_and_paths_with_odd_characters_stay_valid() {
        let text = format!(
            "[server.{}]\nsocket = {}\n",
            table_name("db.1"),
            quoted("/a \"b\"/s")
        );
        let config = parse(&text, Path::new("u.toml")).unwrap();
        assert_eq!(
            config.servers["db.1"].address,
            Address::Socket("/a \"b\"/s".into())
        );
    }
}
