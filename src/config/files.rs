//! What a valid configuration points at: are those files there, and fit for use?
//!
//! Reads only; asks no server.

use std::fs::File;
use std::path::Path;

use super::credentials;
use super::failover::FailoverConfig;
use super::issue::{Complaint, ConfigIssue};
use super::model::{Config, ServerConfig, ServiceControl};
use super::option_file::CredentialsError;
use super::parse::locate;
use super::reroute::Reroute;

/// Checks the files that a configuration names: credentials (there, private, well-formed), tls_ca
/// (readable), the directory of copies (there), programs (there). Empty when all is well.
///
/// The places are those of `config.path` as it is now; 1:1 when it has changed meanwhile.
pub fn validate_files(config: &Config) -> Vec<ConfigIssue> {
    let text = std::fs::read_to_string(&config.path).unwrap_or_default();
    let mut issues = Vec::new();
    for server in config.servers.values() {
        for (keys, complaint) in check_server(server) {
            let path: Vec<_> = ["server", &server.name].into_iter().chain(keys).collect();
            let (line, column) = locate(&text, &path).unwrap_or((1, 1));
            issues.push(ConfigIssue {
                file: config.path.clone(),
                line,
                column,
                message: complaint.message,
                hint: complaint.hint,
            });
        }
    }
    for pair in config.pairs.values() {
        for (number, reroute) in pair.reroutes.iter().enumerate() {
            let Some((key, complaint)) = check_reroute(&reroute.way) else {
                continue;
            };
            let number = number.to_string();
            let keys = ["pair", &pair.name, "reroute", &number, key];
            let (line, column) = locate(&text, &keys).unwrap_or((1, 1));
            issues.push(ConfigIssue {
                file: config.path.clone(),
                line,
                column,
                message: complaint.message,
                hint: complaint.hint,
            });
        }
    }
    for pair in config.pairs.values() {
        for (key, complaint) in check_failover(&pair.failover) {
            let keys = ["pair", &pair.name, "failover", key];
            let (line, column) = locate(&text, &keys).unwrap_or((1, 1));
            issues.push(ConfigIssue {
                file: config.path.clone(),
                line,
                column,
                message: complaint.message,
                hint: complaint.hint,
            });
        }
    }
    for (key, complaint) in check_notify(config) {
        let (line, column) = locate(&text, &["notify", key]).unwrap_or((1, 1));
        issues.push(ConfigIssue {
            file: config.path.clone(),
            line,
            column,
            message: complaint.message,
            hint: complaint.hint,
        });
    }
    issues.sort_by_key(|issue| (issue.line, issue.column));
    issues
}

/// What is wrong, under the keys below the server's table.
type Finding = (Vec<&'static str>, Complaint);

fn check_server(server: &ServerConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut check = |keys: Vec<&'static str>, result: Result<(), Complaint>| {
        findings.extend(result.err().map(|complaint| (keys, complaint)));
    };
    if let Some(path) = &server.credentials {
        let loaded = credentials::load(path).map(drop);
        let complaint =
            |error: CredentialsError| Complaint::new(error.to_string()).hint(error.hint());
        check(vec!["credentials"], loaded.map_err(complaint));
    }
    if let Some(path) = &server.tls_ca {
        check(vec!["tls_ca"], check_readable(path));
    }
    if let Some(path) = &server.snapshot.directory {
        check(vec!["snapshot", "directory"], check_directory(path));
    }
    if let Some(service) = &server.service {
        if let Some(path) = service.server_binary.as_ref().and_then(|one| one.path()) {
            check(vec!["service", "server_binary"], check_program(path));
        }
        match &service.control {
            Some(ServiceControl::Commands { start, stop }) => {
                for (key, argv) in [("start", start), ("stop", stop)] {
                    let program = argv.first().map_or(Path::new(""), Path::new);
                    check(vec!["service", key], check_program(program));
                }
            }
            Some(ServiceControl::Container { runtime, .. }) => {
                let program = check_program(Path::new(runtime.program()));
                check(vec!["service", "runtime"], program);
            }
            Some(ServiceControl::Unit(_)) | None => {}
        }
    }
    findings
}

/// The key, and what is wrong with the file that it names.
fn check_reroute(way: &Reroute) -> Option<(&'static str, Complaint)> {
    let (key, checked) = match way {
        Reroute::Dns { key_file, .. } => ("key_file", check_key_file(key_file)),
        Reroute::File { path, .. } => ("path", check_readable(path)),
        Reroute::Exec { argv } => {
            let program = argv.first().map_or(Path::new(""), Path::new);
            ("argv", check_program(program))
        }
        Reroute::Vip { .. } | Reroute::Haproxy { .. } => return None,
    };
    checked.err().map(|complaint| (key, complaint))
}

fn check_failover(failover: &FailoverConfig) -> Vec<(&'static str, Complaint)> {
    let programs = [("fence", &failover.fence), ("salvage", &failover.salvage)];
    programs
        .into_iter()
        .filter_map(|(key, argv)| {
            let program = check_program(Path::new(argv.as_ref()?.first()?));
            program.err().map(|complaint| (key, complaint))
        })
        .collect()
}

/// Programs that are there; and an address, which may hold a token, in a file that others can't read.
fn check_notify(config: &Config) -> Vec<(&'static str, Complaint)> {
    use std::os::unix::fs::MetadataExt;
    let notify = &config.notify;
    let mut wrong: Vec<(&'static str, Complaint)> = Vec::new();
    let programs = [
        ("on_failure", &notify.on_failure),
        ("on_success", &notify.on_success),
        ("on_recovery", &notify.on_recovery),
    ];
    for (key, argv) in programs {
        let program = argv.as_ref().and_then(|argv| argv.first());
        let checked = program.map(|program| check_program(Path::new(program)));
        wrong.extend(
            checked
                .and_then(Result::err)
                .map(|complaint| (key, complaint)),
        );
    }
    if notify.mail.is_some() {
        let checked = check_program(&notify.sendmail);
        wrong.extend(checked.err().map(|complaint| ("mail", complaint)));
    }
    let is_open = std::fs::metadata(&config.path).is_ok_and(|file| file.mode() & 0o044 != 0);
    for (key, address) in [("webhook", &notify.webhook), ("ping", &notify.ping)] {
        if is_open && address.is_some() {
            let message = format!("{key} may hold a token, and others may read this file");
            let hint = format!("Keep it for yourself: chmod 600 {}", config.path.display());
            wrong.push((key, Complaint::new(message).hint(hint)));
        }
    }
    wrong
}

/// A file with a secret key: there, and its owner's alone.
pub fn check_key_file(path: &Path) -> Result<(), Complaint> {
    use std::os::unix::fs::MetadataExt;
    check_readable(path)?;
    let there = std::fs::metadata(path);
    let there = there.map_err(|error| complain("cannot read", path, &error.to_string()))?;
    let me = nix::unistd::geteuid().as_raw();
    if ![0, me].contains(&there.uid()) {
        let why = "it belongs to another account";
        return Err(complain("will not use the key in", path, why));
    }
    if there.mode() & 0o077 != 0 {
        let why = format!(
            "others may read or write it (mode {:o})",
            there.mode() & 0o7777
        );
        return Err(
            complain("will not use the key in", path, &why).hint(format!(
                "Keep it for yourself: chmod 600 {}",
                path.display()
            )),
        );
    }
    Ok(())
}

fn check_readable(path: &Path) -> Result<(), Complaint> {
    let opened = File::open(path).and_then(|file| file.metadata());
    let why = match opened {
        Ok(metadata) if metadata.is_file() => return Ok(()),
        Ok(_) => "it is no regular file".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(complain("cannot read", path, &why))
}

fn check_directory(path: &Path) -> Result<(), Complaint> {
    let why = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => "it is no directory".to_owned(),
        Err(error) => error.to_string(),
    };
    let complaint = complain("cannot put copies in", path, &why);
    Err(complaint.hint(format!("Make it: mkdir -m 700 {}", path.display())))
}

fn check_program(path: &Path) -> Result<(), Complaint> {
    use std::os::unix::fs::PermissionsExt;
    let why = match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => "it is no regular file".to_owned(),
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => {
            "it isn't executable".to_owned()
        }
        Ok(_) => return Ok(()),
        Err(error) => error.to_string(),
    };
    Err(complain("cannot run", path, &why))
}

fn complain(what: &str, path: &Path, why: &str) -> Complaint {
    Complaint::new(format!("{what} {}: {why}", path.display()))
        .hint(format!("Check it with: ls -l {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{example, load, parse};

    #[test]
    fn the_example_passes_on_any_host() {
        let config = parse(example(), Path::new("example.toml")).unwrap();
        assert_eq!(validate_files(&config), []);
    }

    #[test]
    fn what_is_missing_is_told_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("u.toml");
        let text = r#"[server.a]
address = "a"
credentials = "/nonexistent/db.cnf"
tls = "verify-ca"
tls_ca = "/nonexistent/ca.pem"
snapshot.directory = "/nonexistent/dir"
[server.a.service]
start = ["/nonexistent/start"]
stop = ["/bin/sh"]
server_binary = "/etc/passwd"
"#;
        std::fs::write(&path, text).unwrap();
        let issues = validate_files(&load(Some(&path)).unwrap());
        let places: Vec<_> = issues.iter().map(|one| (one.line, one.column)).collect();
        assert_eq!(places, [(3, 15), (5, 10), (6, 22), (8, 9), (10, 17)]);
        assert_eq!(issues[0].message, "no option file /nonexistent/db.cnf");
        assert!(issues.iter().all(|issue| issue.hint.is_some()));
    }

    #[test]
    fn what_a_reroute_names_is_looked_at() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("u.toml");
        let key = dir.path().join("key");
        std::fs::write(&key, "").unwrap();
        let text = format!(
            r#"server.a.address = "192.0.2.1"
server.b.address = "192.0.2.2"
[pair.p]
source = "a"
replicas = ["b"]
[[pair.p.reroute]]
way = "exec"
argv = ["/nonexistent/program"]
[[pair.p.reroute]]
way = "dns"
server = "192.0.2.53"
zone = "lab.example"
name = "db.lab.example"
ttl = "30s"
key_file = "{}"
[[pair.p.reroute]]
way = "file"
path = "/nonexistent/file"
format = "json"
key = "host"
"#,
            key.display()
        );
        std::fs::write(&path, text).unwrap();
        for (mode, expected) in [
            (0o640, vec![(8, 8), (15, 12), (18, 8)]),
            (0o600, vec![(8, 8), (18, 8)]),
        ] {
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
            let issues = validate_files(&load(Some(&path)).unwrap());
            let places: Vec<_> = issues.iter().map(|one| (one.line, one.column)).collect();
            assert_eq!(places, expected, "{issues:#?}");
        }
    }
}
