//! Every reason why tonight's snapshot, a restore or a failover now would fail.

use std::path::Path;
use std::time::Duration;

use super::check::{Check, Status};
use super::failover::{self, Side};
use super::finding::Severity;
use super::observe::{Look, observe};
use super::picture::Picture;
use super::rules;
use super::view::Limits;
use crate::config::{ServerConfig, ServiceControl};
use crate::server::parity::{self, Parity};
use crate::server::{Session, client};
use crate::snapshot::keep::catalog::Storage;
use crate::snapshot::take::{create, preflight};
use crate::snapshot::{Context, SnapshotError};
use crate::sys::exec::Program;
use crate::sys::files;

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub limit: Duration,
    /// Measures the longest row of every table with large columns, which reads all of them.
    pub deep: bool,
}

/// A server that follows must take a whole row at once, and a row of this size stops it for good.
const RUNTIME_LIMIT: Duration = Duration::from_secs(20);
const ROW_FAIL_BYTES: u64 = 900 << 20;
const ROW_WARN_BYTES: u64 = 256 << 20;

/// Examines the servers of a pair, or one that is in none.
pub fn examine(
    ctx: &Context,
    name: Option<&str>,
    servers: &[String],
    options: Options,
) -> Result<Vec<Check>, SnapshotError> {
    let look = Look {
        limit: options.limit,
        storage: Some(Storage::All),
    };
    let view = observe(ctx, name, servers, &look)?;
    let picture = Picture::of(&view, Limits::default());
    let mut checks = found_by_rules(&picture);
    let parities: Vec<Option<Parity>> = (0..servers.len())
        .map(|server| observe_parity(ctx, &picture, server))
        .collect();
    for (at, server) in servers.iter().enumerate() {
        let config = ctx.server(server)?;
        let is_source = picture.roles.is_source(at) && servers.len() > 1;
        if config.wants_snapshots {
            checks.extend(check_snapshot(ctx, config, is_source));
            checks.push(check_service(config));
        }
        let Some(condition) = view.servers[at].condition() else {
            continue;
        };
        if is_source {
            checks.extend(failover::acknowledgements(Side {
                name: server,
                condition,
                parity: None,
            }));
        }
        if picture.is_replica(at)
            && let Some(source) = picture.source_of(at)
            && let Some(of_source) = source.condition()
        {
            let source_at = servers.iter().position(|name| *name == source.name);
            let replica = Side {
                name: server,
                condition,
                parity: parities[at].as_ref(),
            };
            let source = Side {
                name: &source.name,
                condition: of_source,
                parity: source_at.and_then(|at| parities[at].as_ref()),
            };
            checks.extend(failover::checks(replica, source));
        }
        if let Some(parity) = &parities[at] {
            checks.extend(check_rows(ctx, config, parity, options.deep)?);
        }
        if config.wants_snapshots {
            checks.push(check_programs(server, condition));
        }
    }
    checks.push(check_state_dir(ctx));
    Ok(checks)
}

fn found_by_rules(picture: &Picture<'_>) -> Vec<Check> {
    let findings = rules::judge(picture, &[]);
    let of = |server: Option<&str>, finding: super::Finding| {
        let status = match finding.severity {
            Severity::Info => return None,
            Severity::Warning => Status::Warn,
            Severity::Unknown => Status::Unknown,
            Severity::Critical => Status::Fail,
        };
        Some(Check {
            id: finding.rule.to_owned(),
            server: server.map(str::to_owned),
            status,
            message: finding.message,
            hint: finding.hint,
        })
    };
    let mut checks: Vec<Check> = findings
        .pair
        .into_iter()
        .filter_map(|f| of(None, f))
        .collect();
    for (server, found) in findings.servers.into_iter().enumerate() {
        let view = picture.server(server);
        if found
            .iter()
            .all(|finding| finding.severity == Severity::Info)
        {
            checks.push(Check::new(
                "server.health",
                &view.name,
                Status::Ok,
                "answers, and no rule has anything to say",
                "",
            ));
        }
        checks.extend(found.into_iter().filter_map(|f| of(Some(&view.name), f)));
    }
    checks
}

/// Nothing when the server can't be asked: `server.unreachable` says so.
fn observe_parity(ctx: &Context, picture: &Picture<'_>, server: usize) -> Option<Parity> {
    let view = picture.server(server);
    let condition = view.condition()?;
    let target = ctx.target(ctx.server(&view.name).ok()?).ok()?;
    let session = Session::connect_to(&target, &condition.identity).ok()?;
    let is_read_only = condition.is_read_only() == Some(true);
    parity::observe(session, is_read_only)
        .ok()
        .map(|(_, parity)| parity)
}

/// As tonight's job would begin.
fn check_snapshot(ctx: &Context, config: &ServerConfig, is_source: bool) -> Vec<Check> {
    const ID: &str = "snapshot.ready";
    let options = preflight::Options {
        allow_source: is_source,
        ..preflight::Options::default()
    };
    let check =
        |status, message: String, hint: String| Check::new(ID, &config.name, status, message, hint);
    match create::rehearse(ctx, &config.name, &options) {
        Ok(ready) => {
            let kind = crate::snapshot::take::plan::kind_word(ready.plan.backend);
            let warnings = ready.plan.warnings.iter().chain(&ready.layout.warnings);
            let mut checks: Vec<Check> = warnings
                .map(|warning| {
                    check(
                        Status::Warn,
                        warning.clone(),
                        "docs/TROUBLESHOOTING.md tells what it means.".to_owned(),
                    )
                })
                .collect();
            checks.extend(ready.takes().into_iter().map(|taken| {
                let path = taken.path.display();
                let message = format!("{}: {path}, {}", taken.what, taken.source());
                Check::new("snapshot.takes", &config.name, Status::Ok, message, "")
            }));
            checks.push(check(
                Status::Ok,
                format!("a {kind} snapshot could be taken now"),
                String::new(),
            ));
            checks
        }
        Err(SnapshotError::Refused { refusals }) => refusals
            .into_iter()
            .map(|refusal| check(Status::Fail, refusal.reason, refusal.hint))
            .collect(),
        Err(SnapshotError::Volume(crate::volume::VolumeError::Refused { reason, hint })) => {
            vec![check(Status::Fail, reason, hint)]
        }
        Err(error) => vec![check(
            Status::Fail,
            error.to_string(),
            format!(
                "`understudy snapshot create {} --dry-run` says more.",
                config.name
            ),
        )],
    }
}

/// Restoring in place stops and starts the server.
fn check_service(config: &ServerConfig) -> Check {
    const ID: &str = "restore.service";
    let control = config
        .service
        .as_ref()
        .and_then(|service| service.control.as_ref());
    let Some(control) = control else {
        return Check::new(
            ID,
            &config.name,
            Status::Warn,
            format!(
                "how {} is stopped and started isn't configured: it can't be restored in place",
                config.name
            ),
            format!(
                "Add [server.{}.service] with unit = \"…\", or start and stop.",
                config.name
            ),
        );
    };
    if let ServiceControl::Container { runtime, name } = control
        && let Err(error) = Program::at(runtime.program())
            .run(runtime.is_up_argv(name).into_iter().skip(1), RUNTIME_LIMIT)
    {
        return Check::new(
            ID,
            &config.name,
            Status::Fail,
            format!("the container {name} can't be asked for: {error}"),
            format!("Correct [server.{}.service].", config.name),
        );
    }
    let program = control.start_argv().first().cloned().unwrap_or_default();
    match Path::new(&program).is_file() {
        true => Check::new(
            ID,
            &config.name,
            Status::Ok,
            "can be stopped and started",
            "",
        ),
        false => Check::new(
            ID,
            &config.name,
            Status::Fail,
            format!("{program}, which starts {}, isn't there", config.name),
            format!("Correct [server.{}.service].", config.name),
        ),
    }
}

/// Extract and provisioning by dump need the clients' programs.
fn check_programs(server: &str, condition: &crate::server::condition::Condition) -> Check {
    const ID: &str = "extract.programs";
    let flavour = &condition.flavour;
    let missing = client::find_dump(flavour, Some(Path::new("/usr/sbin")))
        .and_then(|_| client::find_client(flavour))
        .err();
    match missing {
        None => Check::new(
            ID,
            server,
            Status::Ok,
            "dump and client programs are there",
            "",
        ),
        Some(names) => Check::new(
            ID,
            server,
            Status::Warn,
            format!(
                "tables can't be extracted: no dump or client program that fits is here ({names})"
            ),
            "Install mariadb-client, or MySQL's client package.",
        ),
    }
}

fn check_rows(
    ctx: &Context,
    config: &ServerConfig,
    parity: &Parity,
    deep: bool,
) -> Result<Vec<Check>, SnapshotError> {
    const ID: &str = "datajoint.large-rows";
    let Some(tables) = parity.large.known() else {
        return Ok(Vec::new());
    };
    let mut checks = Vec::new();
    let mib = |bytes: u64| bytes >> 20;
    for table in tables {
        let longest = match deep {
            false => table.average_row_bytes,
            true => {
                ctx.cancel.check("measuring rows")?;
                let session = Session::connect(&ctx.target(config)?)?;
                let (_, longest) = parity::longest_row(session, table)?;
                longest.known().copied().unwrap_or(table.average_row_bytes)
            }
        };
        let (status, fate) = match longest {
            ROW_FAIL_BYTES.. => (
                Status::Fail,
                "an event over 1 GiB stops replication for good",
            ),
            ROW_WARN_BYTES.. => (
                Status::Warn,
                "it comes near the 1 GiB that stops replication for good",
            ),
            _ => continue,
        };
        let how = match deep {
            true => "the longest row",
            false => "the average row",
        };
        checks.push(Check::new(
            ID,
            &config.name,
            status,
            format!(
                "{how} of {} has {} MiB: {fate}",
                table.full_name(),
                mib(longest)
            ),
            "Move such values into an external store, and binlog_row_image = NOBLOB.",
        ));
    }
    Ok(checks)
}

fn check_state_dir(ctx: &Context) -> Check {
    const ID: &str = "state-dir";
    let root = ctx.state.root();
    let check = |status, message: String, hint: &str| Check {
        id: ID.to_owned(),
        server: None,
        status,
        message,
        hint: hint.to_owned(),
    };
    let probe = root.join(".doctor");
    let written = ctx
        .state
        .create()
        .and_then(|()| files::replace(&probe, b"doctor\n"))
        .and_then(|()| files::remove(&probe));
    match written {
        Ok(_) => check(
            Status::Ok,
            format!("{} can be written to", root.display()),
            "",
        ),
        Err(error) => check(
            Status::Fail,
            error.to_string(),
            "Run it as root, make room there, or set another state_dir.",
        ),
    }
}
