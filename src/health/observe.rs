//! Asks all servers of a pair at the same time, within one time limit, and this host for what it
//! knows of them. One that hangs costs its own row only.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::errant;
use super::known;
use super::roles;
use super::view::{Answer, Disk, PairView, Pause, Sample, ServerView, Snapshots, Unfinished};
use crate::config::ServerConfig;
use crate::journal::lease::{self, Found};
use crate::journal::log;
use crate::journal::receipt::{self, Receipts};
use crate::server::condition::{self, Condition};
use crate::server::replication::ThreadState;
use crate::server::{Session, SessionError, Target};
use crate::snapshot::keep::catalog::{self, Storage};
use crate::snapshot::manifest::{Proof, State};
use crate::snapshot::{Context, Manifest, SnapshotError};
use crate::sys::{Fact, clock, files, process};
use crate::volume;

/// How a pair is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// For all servers together.
    pub limit: Duration,
    /// `None`: snapshots aren't looked at.
    pub storage: Option<Storage>,
}

/// The limit and the servers' own words on it cross each other.
const LAST_WORD: Duration = Duration::from_millis(300);
/// A second question to servers that have answered once.
const AGAIN_LIMIT: Duration = Duration::from_millis(1500);

/// Nobody waits for it.
const REMEMBER_LIMIT: Duration = Duration::from_secs(2);

/// `name` is the pair's; `servers` those of it that are looked at.
pub fn observe(
    ctx: &Context,
    name: Option<&str>,
    servers: &[String],
    look: &Look,
) -> Result<PairView, SnapshotError> {
    let configs = servers
        .iter()
        .map(|server| ctx.server(server))
        .collect::<Result<Vec<_>, _>>()?;
    // A credentials file that can't be used is a mistake of the configuration.
    let targets = configs
        .iter()
        .map(|config| ctx.target(config))
        .collect::<Result<Vec<_>, _>>()?;
    let asked = Asked::all(&targets, look.limit);
    // This host's own knowledge is gathered while the servers answer.
    let snapshots = observe_snapshots(ctx, &configs, look.storage);
    let answers = asked.answers();
    let now = clock::now();
    let views = configs
        .iter()
        .zip(answers)
        .zip(snapshots)
        .map(|((config, answer), snapshots)| view(ctx, config, answer, snapshots, now))
        .collect();
    let mut pair = PairView {
        name: name.map(str::to_owned),
        servers: views,
        receipts: observe_receipts(ctx, name),
        now,
    };
    ask_again(&mut pair, &targets);
    Ok(pair)
}

/// Keeps who the servers of a pair are, and where their binary logs lie, for the day on which one of
/// them is dead. What doesn't answer isn't known then.
pub fn remember(ctx: &Context, name: &str, servers: &[String]) {
    let look = Look {
        limit: REMEMBER_LIMIT,
        storage: None,
    };
    if let Err(error) = observe(ctx, Some(name), servers, &look) {
        tracing::debug!(%error, "the pair isn't looked at");
    }
}

/// Questions under way: one thread each; whoever hasn't answered when the time is over is left
/// behind.
struct Asked {
    receiver: mpsc::Receiver<(usize, Answer)>,
    count: usize,
    limit: Duration,
    until: Instant,
}

impl Asked {
    fn all(targets: &[Target], limit: Duration) -> Self {
        let (sender, receiver) = mpsc::channel();
        let until = Instant::now() + limit + LAST_WORD;
        for (at, target) in targets.iter().enumerate() {
            let (sender, target) = (sender.clone(), target.clone());
            std::thread::spawn(move || drop(sender.send((at, ask(&target, limit)))));
        }
        Self {
            receiver,
            count: targets.len(),
            limit,
            until,
        }
    }

    fn answers(self) -> Vec<Answer> {
        let mut answers: Vec<Option<Answer>> = (0..self.count).map(|_| None).collect();
        let left = || self.until.saturating_duration_since(Instant::now());
        while let Ok((at, answer)) = self.receiver.recv_timeout(left()) {
            answers[at] = Some(answer);
        }
        let silent = || Answer::Silent {
            reason: format!(
                "no answer within {}",
                humantime::format_duration(self.limit)
            ),
        };
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(silent))
            .collect()
    }
}

fn ask(target: &Target, limit: Duration) -> Answer {
    let observed = Session::connect_within(target, limit)
        .and_then(|session| condition::observe(session, limit));
    match observed {
        Ok((_, condition)) => Answer::Answered(Box::new(condition)),
        Err(error) => failed(&target.server, &error),
    }
}

/// Whether a server said no, or nothing did.
fn failed(server: &str, error: &SessionError) -> Answer {
    let grants = format!("`understudy grants {server}` prints the SQL for its account.");
    match error {
        SessionError::Connect { reason, code, .. } => {
            let hint = match code {
                None => return tls_or_silent(reason),
                Some(1040 | 1203 | 1226) => {
                    "Raise max_connections, or find who holds them all.".to_owned()
                }
                Some(1820 | 1862 | 3955) => {
                    "Set a new password for the account, or ALTER USER … PASSWORD EXPIRE NEVER."
                        .to_owned()
                }
                Some(1045 | 1698) => {
                    "Check user and password in the server's credentials file.".to_owned()
                }
                Some(_) => grants,
            };
            Answer::Refused {
                reason: reason.clone(),
                hint,
            }
        }
        SessionError::Server { error, .. } => Answer::Refused {
            reason: error.to_string(),
            hint: grants,
        },
        SessionError::Unexpected { detail, .. } => Answer::Refused {
            reason: format!("an answer that no server we know gives: {detail}"),
            hint: "Check that a MySQL or MariaDB server listens there.".to_owned(),
        },
        SessionError::Lost { reason, .. } => Answer::Silent {
            reason: reason.clone(),
        },
        SessionError::WrongServer { .. } => Answer::Refused {
            reason: error.to_string(),
            hint: "Check the address, tunnels and port mappings.".to_owned(),
        },
    }
}

/// A server without TLS, or with a certificate that doesn't fit, is there.
fn tls_or_silent(reason: &str) -> Answer {
    let lower = reason.to_ascii_lowercase();
    let is_tls = ["tls", "ssl", "certificate", "secure connection"]
        .iter()
        .any(|word| lower.contains(word));
    match is_tls {
        true => Answer::Refused {
            reason: reason.to_owned(),
            hint: "Compare tls and tls_ca in the configuration with the server's certificate."
                .to_owned(),
        },
        false => Answer::Silent {
            reason: reason.to_owned(),
        },
    }
}

fn view(
    ctx: &Context,
    config: &ServerConfig,
    answer: Answer,
    snapshots: Fact<Snapshots>,
    now: Timestamp,
) -> ServerView {
    let before = known::read(&ctx.state, &config.name);
    let mut disks = Vec::new();
    if let Answer::Answered(condition) = &answer {
        disks = observe_disks(config, condition);
        let sample = disks.first().map(|disk| Sample {
            at: now,
            used_bytes: disk.total_bytes.saturating_sub(disk.free_bytes),
        });
        known::note(
            &ctx.state,
            &config.name,
            before.as_ref(),
            condition,
            sample,
            now,
        );
        if let (Some(disk), Some(known)) = (disks.first_mut(), &before) {
            disk.days_left = known::days_left(&known.disk, disk.free_bytes);
        }
    }
    ServerView {
        name: config.name.clone(),
        address: config.address.clone(),
        answer,
        purged: None,
        pause: observe_pause(ctx, &config.name),
        unfinished: observe_unfinished(ctx, &config.name),
        snapshots,
        disks,
        known: before,
    }
}

fn observe_pause(ctx: &Context, server: &str) -> Fact<Option<Pause>> {
    match lease::read(&ctx.state, server) {
        Ok(Found::None) => Fact::Known(None),
        Ok(Found::Lease(lease)) => Fact::Known(Some(Pause {
            purpose: lease.purpose,
            age: lease.age(),
            left: match lease.is_expired() {
                true => Duration::ZERO,
                false => lease.time_left(),
            },
        })),
        Ok(Found::Unreadable(reason)) => Fact::Unknown(reason),
        Err(error) => Fact::unknown(error),
    }
}

fn observe_unfinished(ctx: &Context, server: &str) -> Fact<Vec<Unfinished>> {
    match log::unfinished(&ctx.state, Some(server)) {
        Ok(operations) => Fact::Known(
            operations
                .into_iter()
                .map(|operation| Unfinished {
                    is_alive: operation.owner.is_alive(),
                    kind: operation.kind,
                    is_committed: operation.rest.is_some(),
                    operation: operation.operation,
                })
                .collect(),
        ),
        Err(error) => Fact::unknown(error),
    }
}

/// A file that can't be read may be this pair's.
fn observe_receipts(ctx: &Context, pair: Option<&str>) -> Receipts {
    let Some(pair) = pair else {
        return Receipts::default();
    };
    match receipt::read_all(&ctx.state) {
        Ok(mut found) => {
            found.open.retain(|receipt| receipt.pair == pair);
            found
        }
        Err(error) => Receipts {
            open: Vec::new(),
            unreadable: vec![error.to_string()],
        },
    }
}

/// Only of a server on this host: by its own word and by its data directory.
fn observe_disks(config: &ServerConfig, condition: &Condition) -> Vec<Disk> {
    if condition.identity.hostname != process::host_name() {
        return Vec::new();
    }
    let data_dir = std::path::PathBuf::from(&condition.identity.data_dir);
    let places = [Some(data_dir), config.snapshot.directory.clone()];
    let disk = |path: std::path::PathBuf| {
        let (total_bytes, free_bytes) = files::space(&path)?;
        Some(Disk {
            path,
            total_bytes,
            free_bytes,
            days_left: None,
        })
    };
    let mut disks: Vec<Disk> = places.into_iter().flatten().filter_map(disk).collect();
    disks.dedup_by_key(|disk| (disk.total_bytes, disk.free_bytes));
    disks
}

fn observe_snapshots(
    ctx: &Context,
    configs: &[&ServerConfig],
    storage: Option<Storage>,
) -> Vec<Fact<Snapshots>> {
    let Some(storage) = storage else {
        return configs
            .iter()
            .map(|_| Fact::unknown("not looked at"))
            .collect();
    };
    let all = catalog::list_with(&ctx.config, &ctx.state, None, storage);
    configs
        .iter()
        .map(|config| match &all {
            Ok(all) => Fact::Known(snapshots_of(config, all)),
            // Whoever has none on this host misses nothing.
            Err(_) if !config.wants_snapshots => Fact::Known(Snapshots::default()),
            Err(error) => Fact::unknown(error),
        })
        .collect()
}

fn snapshots_of(config: &ServerConfig, all: &[Manifest]) -> Snapshots {
    let own: Vec<&Manifest> = all.iter().filter(|m| m.server == config.name).collect();
    let catalogued = || own.iter().filter(|m| m.state != State::Orphan);
    let is_good = |manifest: &&&Manifest| manifest.is_whole() && manifest.proof != Proof::Failed;
    let of = |manifest: &&Manifest| (manifest.id.clone(), manifest.created);
    let proven = |manifest: &&Manifest| {
        let time = manifest.proof_time.as_ref()?.parse().ok()?;
        (manifest.proof >= Proof::Booted).then(|| (manifest.id.clone(), time))
    };
    let reason = |manifest: &&Manifest| {
        let reason = manifest.state_reason.clone();
        (
            manifest.id.clone(),
            reason.unwrap_or_else(|| "its proof failed".to_owned()),
        )
    };
    Snapshots {
        are_wanted: config.wants_snapshots || catalogued().next().is_some(),
        newest: catalogued().find(is_good).map(of),
        oldest: catalogued().map(|m| m.created).min(),
        newest_proof: catalogued()
            .filter_map(proven)
            .max_by_key(|(_, time): &(String, Timestamp)| *time),
        bad: catalogued().filter(|m| !is_good(m)).map(reason).collect(),
        orphans: own
            .iter()
            .filter(|m| m.state == State::Orphan)
            .map(|m| m.id.clone())
            .collect(),
        fillings: fillings(&own),
    }
}

/// What can't be asked is the snapshots' own state to tell.
fn fillings(own: &[&Manifest]) -> Vec<volume::Filling> {
    volume::BackendKind::ALL
        .into_iter()
        .flat_map(|kind| {
            let of_kind = own.iter().filter(|m| m.backend_kind == kind);
            let volumes: Vec<_> = of_kind.flat_map(|m| m.volumes.clone()).collect();
            if volumes.is_empty() {
                return Vec::new();
            }
            volume::open(kind)
                .and_then(|backend| backend.fillings(&volumes))
                .unwrap_or_default()
        })
        .collect()
}

/// Servers were asked one beside the other: what a replica seems to have of its own may only be
/// newer than its source's answer, so the source is asked once more. And what a source's logs still
/// hold is asked where a replica may need them.
fn ask_again(pair: &mut PairView, targets: &[Target]) {
    let roles = roles::of(pair);
    for (source, target) in targets.iter().enumerate() {
        let Some(condition) = pair.servers[source].condition() else {
            continue;
        };
        let followers: Vec<&Condition> = roles
            .followers(source)
            .filter_map(|follower| pair.servers[follower].condition())
            .collect();
        let seems_errant = followers.iter().any(|follower| {
            errant::errant(follower, condition)
                .known()
                .is_some_and(|errant| !errant.is_empty())
        });
        let is_amiss = followers
            .iter()
            .flat_map(|follower| follower.channel_list())
            .any(|channel| channel.io != ThreadState::Running);
        let wants_purged = is_amiss && condition.flavour.is_mariadb();
        if !seems_errant && !wants_purged {
            continue;
        }
        let identity = condition.identity.clone();
        let asked = Session::connect_within(target, AGAIN_LIMIT).and_then(|session| {
            let (session, again) = condition::observe(session, AGAIN_LIMIT)?;
            let purged = match wants_purged {
                true => Some(condition::observe_purged(session)?.1),
                false => None,
            };
            Ok((again, purged))
        });
        let view = &mut pair.servers[source];
        match (asked, &mut view.answer) {
            (Ok((again, purged)), Answer::Answered(condition)) if again.identity == identity => {
                condition.executed = again.executed;
                condition.written = again.written;
                condition.variables = again.variables;
                view.purged = purged;
            }
            (Ok(_), _) => {}
            // What isn't confirmed isn't said.
            (Err(error), Answer::Answered(condition)) => {
                condition.executed = Fact::unknown(&error);
                condition.written = Fact::unknown(&error);
            }
            (Err(_), _) => {}
        }
    }
}
