//! Decides how a replica comes to follow its source: from what both servers showed to refusals with
//! their cures, or a plan. Pure.

mod checks;
mod data;
mod dumpable;
mod provision;

use std::collections::{BTreeMap, BTreeSet};

use super::warning::Warning;
use crate::config::TlsMode;
use crate::server::pair::{Account, Schema};
use crate::server::replication::Channel;
use crate::server::{Flavour, Identity};
use crate::snapshot::archive::obstacle::Stumbles;
use crate::snapshot::error::Refusal;
use crate::sys::fact::Fact;

/// How the data comes to the replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provision {
    /// By replication alone, from the beginning or from where the replica is.
    Nothing,
    Dump,
    /// MySQL's clone plugin; MariaDB's backup program.
    Clone,
    /// A kept snapshot of this tool, on the same host.
    Snapshot(String),
}

impl Provision {
    pub fn word(&self) -> String {
        match self {
            Self::Nothing => "none".to_owned(),
            Self::Dump => "dump".to_owned(),
            Self::Clone => "clone".to_owned(),
            Self::Snapshot(id) => format!("snapshot:{id}"),
        }
    }

    /// The replica's data directory gives way to another one, and stays beside it until all is
    /// done: nothing is to be dropped from it.
    pub fn exchanges(&self, source: &Side) -> bool {
        match self {
            Self::Nothing | Self::Dump => false,
            Self::Clone => source.flavour.is_mariadb(),
            Self::Snapshot(_) => true,
        }
    }
}

/// What the user asked for.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// `None`: nothing if that will do, else a refusal that names the choice.
    pub provision: Option<Provision>,
    /// The replica's own data may go.
    pub replace: bool,
    /// A dump may hold up writers for its whole length.
    pub lock_source: bool,
    /// Views that can't be read stay behind.
    pub skip_invalid_views: bool,
}

/// One server as it was seen.
#[derive(Debug, Clone)]
pub struct Side {
    pub name: String,
    pub flavour: Flavour,
    pub identity: Identity,
    pub tls: TlsMode,
    /// Global variables by name.
    pub settings: BTreeMap<String, String>,
    /// Schemas of users, our own one left out.
    pub schemas: Vec<Schema>,
    pub non_transactional: Vec<(String, String)>,
    /// Events that it runs when its scheduler does.
    pub active_events: usize,
    /// Its scheduler may run as soon as it is started.
    pub runs_events_at_boot: bool,
    pub links: Vec<Channel>,
    /// What its binary log holds or held (MySQL: executed), and the same by origin.
    pub written: String,
    pub by_origin: String,
    /// What it would go on from as a replica.
    pub applied: String,
    /// What its binary logs don't hold any more.
    pub purged: String,
    /// Free bytes where its data is, when that is on this host.
    pub free: Fact<u64>,
    /// This host has its data directory.
    pub is_local: bool,
    /// A service of ours or of its own starts it after it has ended.
    pub restarts: bool,
    /// It can be stopped and started by its configured service.
    pub has_service: bool,
    /// The account that we are there, and what it may do everywhere.
    pub login: Account,
    pub may: BTreeSet<String>,
    /// Of a replica: what the account of that name may do on the source, which hands its accounts
    /// on with its files; `None` where there is none.
    pub may_on_source: Option<BTreeSet<String>>,
}

impl Side {
    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// ON as every version says it.
    pub fn is_on(&self, name: &str) -> bool {
        matches!(self.setting(name), Some("ON" | "1" | "YES"))
    }

    fn number(&self, names: &[&str]) -> Option<u64> {
        names
            .iter()
            .find_map(|name| self.setting(name)?.parse().ok())
    }

    pub fn bytes(&self) -> u64 {
        self.schemas.iter().map(|schema| schema.bytes).sum()
    }
}

/// Where replicas find the source, or why that can't be told.
pub type Endpoint = Fact<(String, u16)>;

/// How the replica is linked now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Linked {
    /// To our source, by GTID; as this user.
    AsWanted(Box<Channel>),
    No,
    /// To something else, which is to be forgotten first.
    Otherwise,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    pub provision: Provision,
    /// Why this provisioning, in words.
    pub why: String,
    pub linked: Linked,
    /// What of the replica's own goes: schemas, channels, its binary log. Empty: nothing.
    pub erases: Vec<String>,
    pub warnings: Vec<Warning>,
}

/// What is in the way of a set-up, and what doesn't stop it but should be known.
#[derive(Default)]
struct Findings {
    refusals: Vec<Refusal>,
    warnings: Vec<Warning>,
}

impl Findings {
    fn refuse(&mut self, reason: impl Into<String>, cure: impl Into<String>) {
        self.refusals.push(Refusal::new(reason, cure));
    }

    fn warn(&mut self, rule: &'static str, message: String) {
        self.warnings.push(Warning { rule, message });
    }
}

/// What speaks against the dump that a plan decided on; what is only to be known goes to its warnings.
pub fn judge_dump(
    plan: &mut Plan,
    source: &Side,
    found: &Stumbles,
    wish: &Wish,
) -> Result<(), Vec<Refusal>> {
    let mut findings = Findings::default();
    dumpable::check(&source.name, found, wish, &mut findings);
    plan.warnings.extend(findings.warnings);
    match findings.refusals.is_empty() {
        true => Ok(()),
        false => Err(findings.refusals),
    }
}

/// Decides, or says all that is in the way.
pub fn plan(
    source: &Side,
    replica: &Side,
    endpoint: &Endpoint,
    wish: &Wish,
) -> Result<Plan, Vec<Refusal>> {
    let mut findings = Findings::default();
    checks::check(source, replica, &mut findings);
    if let Fact::Unknown(reason) = endpoint {
        findings.refuse(
            reason.clone(),
            format!(
                "Give the source's address as its replicas see it: [server.{}] address = \
                 \"HOST:PORT\".",
                source.name
            ),
        );
    }
    let linked = data::linked(source, replica, endpoint);
    let decided = match data::decide(source, replica, &linked, wish) {
        Ok(decided) => decided,
        Err(refusal) => {
            findings.refusals.push(refusal);
            return Err(findings.refusals);
        }
    };
    provision::check(source, replica, &decided.provision, wish, &mut findings);
    if let Linked::AsWanted(link) = &linked
        && decided.erases.is_empty()
        && link.user != super::account::USER
    {
        findings.warn(
            "other-account",
            format!(
                "{} connects to {} as {}, which is left as it is",
                replica.name, source.name, link.user
            ),
        );
    }
    match findings.refusals.is_empty() {
        true => Ok(Plan {
            provision: decided.provision,
            why: decided.why,
            linked,
            erases: decided.erases,
            warnings: findings.warnings,
        }),
        false => Err(findings.refusals),
    }
}

/// The account's host part: as narrow as can be told.
pub fn account_host(
    given: Option<&str>,
    endpoint_is_loopback: bool,
    replica_address: &Fact<String>,
) -> (String, Option<Warning>) {
    match (given, endpoint_is_loopback, replica_address) {
        (Some(host), _, _) => (host.to_owned(), None),
        (None, true, _) => ("127.0.0.1".to_owned(), None),
        (None, false, Fact::Known(address)) => (address.clone(), None),
        (None, false, Fact::Unknown(reason)) => (
            "%".to_owned(),
            Some(Warning {
                rule: "account-host",
                message: format!(
                    "the replication account may log in from anywhere, since the replica's address \
                     isn't known ({reason}); --account-host narrows it"
                ),
            }),
        ),
    }
}

/// Accounts of the source that the replica lacks.
pub fn missing_accounts(source: &[Account], replica: &[Account]) -> Vec<Account> {
    source
        .iter()
        .filter(|account| !replica.contains(account))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests;
