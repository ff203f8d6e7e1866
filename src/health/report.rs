//! A judged pair as its JSON shows it; `status` renders the same for people.

use std::time::Duration;

use serde::Serialize;

use super::errant;
use super::finding::{Finding, State};
use super::lag::Method;
use super::picture::Picture;
use super::roles::Role;
use super::rules;
use super::view::{Answer, Pause, Unfinished};
use crate::journal::OperationKind;
use crate::journal::lease::Purpose;
use crate::journal::receipt::Receipt;
use crate::server::replication::{Channel, ThreadState};
use crate::sys::clock;

#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PairReport {
    /// `null` for a server that is in no pair.
    pub name: Option<String>,
    /// Who it is now, by the servers' own word.
    pub source: Option<String>,
    pub state: State,
    pub servers: Vec<ServerReport>,
    /// Of failovers whose old source hasn't rejoined.
    pub receipts: Vec<Receipt>,
    pub findings: Vec<Finding>,
}

/// An operation that has no end yet.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OperationReport {
    pub operation: String,
    pub kind: OperationKind,
    /// False: it was interrupted.
    pub running: bool,
    /// It can't be undone any more, and is carried through.
    pub committed: bool,
}

/// What isn't known is null, with a reason beside it.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServerReport {
    pub name: String,
    pub address: String,
    pub role: Role,
    pub reachable: bool,
    /// Why nothing is known of it.
    pub reason: Option<String>,
    pub version: Option<String>,
    pub follows: Option<String>,
    pub read_only: Option<bool>,
    pub super_read_only: Option<bool>,
    pub io_running: Option<bool>,
    pub sql_running: Option<bool>,
    /// Beyond what it is kept behind on purpose.
    pub lag_ms: Option<u64>,
    /// What it is kept behind on purpose.
    pub delay_ms: Option<u64>,
    /// What it was read from.
    pub lag_method: Option<Method>,
    pub lag_reason: Option<String>,
    pub gtid_executed: Option<String>,
    pub errant_gtid: Option<String>,
    pub errant_reason: Option<String>,
    pub gtid_gaps: Option<String>,
    /// The connection to its source is encrypted.
    pub tls: Option<bool>,
    /// As a source; `null` when it isn't on.
    pub semi_sync: Option<bool>,
    pub paused_by: Option<String>,
    /// `null`: the journal can't be read.
    pub operations: Option<Vec<OperationReport>>,
    pub last_snapshot: Option<String>,
    pub last_snapshot_time: Option<String>,
    pub last_proof: Option<String>,
    pub last_proof_time: Option<String>,
    pub disk_free_bytes: Option<u64>,
    pub disk_days_left: Option<f64>,
    pub findings: Vec<Finding>,
}

impl PairReport {
    /// All findings, the worst first; the pair's before its servers'.
    pub fn all_findings(&self) -> Vec<&Finding> {
        let own = self.servers.iter().flat_map(|server| &server.findings);
        let mut all: Vec<&Finding> = self.findings.iter().chain(own).collect();
        all.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        all
    }
}

/// Judges by the rules that are named, or by all.
pub fn report(picture: &Picture<'_>, wanted: &[String]) -> PairReport {
    let findings = rules::judge(picture, wanted);
    let state = State::of(findings.all());
    let servers = findings
        .servers
        .into_iter()
        .enumerate()
        .map(|(server, findings)| server_report(picture, server, findings))
        .collect();
    PairReport {
        name: picture.view.name.clone(),
        source: picture
            .roles
            .source
            .map(|source| picture.server(source).name.clone()),
        state,
        servers,
        receipts: picture.view.receipts.open.clone(),
        findings: findings.pair,
    }
}

fn server_report(picture: &Picture<'_>, server: usize, findings: Vec<Finding>) -> ServerReport {
    let view = picture.server(server);
    let condition = view.condition();
    let channels = condition.and_then(|condition| condition.channels.known());
    let channels = channels.map_or(&[] as &[Channel], Vec::as_slice);
    let all = |is_so: fn(&Channel) -> bool| match channels {
        [] => None,
        channels => Some(channels.iter().all(is_so)),
    };
    let lag = picture.lags[server].as_ref();
    let errant = picture.errant[server].as_ref();
    let gaps = condition
        .filter(|_| picture.is_replica(server))
        .and_then(|own| errant::gaps(own, picture.source_of(server)?.condition()?));
    let snapshots = view.snapshots.known();
    let newest = snapshots.and_then(|snapshots| snapshots.newest.clone());
    let proof = snapshots.and_then(|snapshots| snapshots.newest_proof.clone());
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    ServerReport {
        name: view.name.clone(),
        address: view.address.to_string(),
        role: picture.roles.roles[server],
        reachable: condition.is_some(),
        reason: match &view.answer {
            Answer::Answered(_) => None,
            Answer::Silent { reason } | Answer::Refused { reason, .. } => Some(reason.clone()),
        },
        version: condition.map(|condition| condition.flavour.text.clone()),
        follows: match picture.roles.follows[server] {
            Some(source) => Some(picture.server(source).name.clone()),
            None => channels
                .first()
                .map(|channel| format!("{}:{}", channel.source_host, channel.source_port)),
        },
        read_only: condition.and_then(|condition| condition.is_read_only()),
        super_read_only: condition.and_then(|condition| condition.is_on("super_read_only")),
        io_running: all(|channel| channel.io == ThreadState::Running),
        sql_running: all(|channel| channel.sql == ThreadState::Running),
        lag_ms: lag.and_then(|lag| lag.as_ref().ok().map(|lag| ms(lag.behind))),
        delay_ms: lag.and_then(|lag| lag.as_ref().ok().map(|lag| ms(lag.delay))),
        lag_method: lag.and_then(|lag| lag.as_ref().ok().map(|lag| lag.method)),
        lag_reason: lag.and_then(|lag| lag.as_ref().err().cloned()),
        gtid_executed: condition.and_then(|c| c.executed.known().map(|set| set.to_line())),
        errant_gtid: errant.and_then(|errant| errant.known().cloned()),
        errant_reason: errant.and_then(|errant| errant.reason().map(str::to_owned)),
        gtid_gaps: gaps,
        tls: all(|channel| channel.uses_tls == Some(true)),
        semi_sync: condition
            .and_then(|condition| condition.semi_sync)
            .map(|semi_sync| semi_sync.is_active),
        paused_by: view
            .pause
            .known()
            .cloned()
            .flatten()
            .map(|pause| paused_by(&pause)),
        operations: view
            .unfinished
            .known()
            .map(|all| all.iter().map(operation).collect()),
        last_snapshot: newest.as_ref().map(|(id, _)| id.clone()),
        last_snapshot_time: newest.map(|(_, time)| clock::rfc3339(time)),
        last_proof: proof.as_ref().map(|(id, _)| id.clone()),
        last_proof_time: proof.map(|(_, time)| clock::rfc3339(time)),
        disk_free_bytes: view.disks.first().map(|disk| disk.free_bytes),
        disk_days_left: view.disks.first().and_then(|disk| disk.days_left),
        findings,
    }
}

fn operation(unfinished: &Unfinished) -> OperationReport {
    OperationReport {
        operation: unfinished.operation.clone(),
        kind: unfinished.kind,
        running: unfinished.is_alive,
        committed: unfinished.is_committed,
    }
}

fn paused_by(pause: &Pause) -> String {
    match pause.purpose {
        Purpose::Snapshot => "snapshot",
        Purpose::Manual => "pause",
    }
    .to_owned()
}
