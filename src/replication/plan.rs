//! Decides how a replica comes to follow its source: from what both servers showed to refusals with
//! their cures, or a plan. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::TlsMode;
use crate::server::gtid::GtidSet;
use crate::server::pair::{Account, Link, OWN_SCHEMA, Schema};
use crate::server::{Flavour, Identity};
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
    pub links: Vec<Link>,
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

/// Something that doesn't stop a set-up but should be known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    pub rule: &'static str,
    pub message: String,
}

/// How the replica is linked now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Linked {
    /// To our source, by GTID; as this user.
    AsWanted(Box<Link>),
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

/// Decides, or says all that is in the way.
pub fn plan(
    source: &Side,
    replica: &Side,
    endpoint: &Endpoint,
    wish: &Wish,
) -> Result<Plan, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let mut warnings = Vec::new();
    check_versions(source, replica, &mut refusals);
    check_source(source, &mut refusals, &mut warnings);
    check_replica(source, replica, &mut refusals, &mut warnings);
    check_tls(source, replica, &mut refusals, &mut warnings);
    if let Fact::Unknown(reason) = endpoint {
        refusals.push(Refusal::new(
            reason.clone(),
            format!(
                "Give the source's address as its replicas see it: [server.{}] address = \
                 \"HOST:PORT\".",
                source.name
            ),
        ));
    }
    let linked = linked(source, replica, endpoint);
    let decided = decide_data(source, replica, &linked, wish);
    let (provision, why, erases) = match decided {
        Ok(decided) => decided,
        Err(refusal) => {
            refusals.push(refusal);
            return Err(refusals);
        }
    };
    check_provision(
        source,
        replica,
        &provision,
        wish,
        &mut refusals,
        &mut warnings,
    );
    if let Linked::AsWanted(link) = &linked
        && erases.is_empty()
        && link.user != super::account::USER
    {
        warnings.push(Warning {
            rule: "other-account",
            message: format!(
                "{} connects to {} as {}, which is left as it is",
                replica.name, source.name, link.user
            ),
        });
    }
    match refusals.is_empty() {
        true => Ok(Plan {
            provision,
            why,
            linked,
            erases,
            warnings,
        }),
        false => Err(refusals),
    }
}

fn check_versions(source: &Side, replica: &Side, refusals: &mut Vec<Refusal>) {
    let mut refuse = |reason: String, hint: &str| refusals.push(Refusal::new(reason, hint));
    for side in [source, replica] {
        if !side.flavour.is_supported() {
            refuse(
                format!("{} is {}, which is too old", side.name, side.flavour.text),
                "MySQL 5.6 and MariaDB 10.5 are the oldest that are known to work.",
            );
        }
    }
    if source.flavour.family != replica.flavour.family {
        refuse(
            format!(
                "{} is {} and {} is {}: their GTIDs can't be followed by each other",
                source.name, source.flavour.text, replica.name, replica.flavour.text
            ),
            "Make the replica of the source's flavour.",
        );
        return;
    }
    // Later ones lack mysql_native_password, with which the old source's accounts log in.
    let (theirs, own) = (source.flavour.version, replica.flavour.version);
    if !source.flavour.is_mariadb() && theirs < (8, 0, 0) && own >= (9, 0, 0) {
        refuse(
            format!(
                "{} ({}) can't log in at {} ({})",
                replica.name, replica.flavour.text, source.name, source.flavour.text
            ),
            "Go by way of 8.0 and 8.4: a replica of each follows the one before.",
        );
    }
    let series = |side: &Side| (side.flavour.version.0, side.flavour.version.1);
    if series(replica) < series(source) {
        refuse(
            format!(
                "{} ({}) is older than its source {} ({}), whose events it may not understand",
                replica.name, replica.flavour.text, source.name, source.flavour.text
            ),
            "Upgrade the replica first: replicas may be newer, not older.",
        );
    }
}

fn check_source(source: &Side, refusals: &mut Vec<Refusal>, warnings: &mut Vec<Warning>) {
    let name = &source.name;
    let mut refuse = |reason: String, hint: &str| refusals.push(Refusal::new(reason, hint));
    if !source.is_on("log_bin") {
        refuse(
            format!("{name} has no binary log"),
            "Set log_bin = binlog in its option file and restart it.",
        );
    }
    match source.setting("binlog_format") {
        Some("STATEMENT") => refuse(
            format!("{name} logs statements instead of rows (binlog_format = STATEMENT)"),
            "Set binlog_format = ROW in its option file and by SET GLOBAL; sessions that are open \
             keep the old one.",
        ),
        // MariaDB's default: what isn't safe as a statement is logged as rows.
        Some("MIXED") => warnings.push(Warning {
            rule: "row-format",
            message: format!(
                "binlog_format of {name} is MIXED: what depends on more than the data, such as \
                 triggers and functions, is surer with ROW"
            ),
        }),
        Some(_) | None => {}
    }
    if source.is_on("read_only") {
        refuse(
            format!("{name} is read-only, as replicas are"),
            "Name the server that is written to as the pair's source, or end its read_only.",
        );
    }
    if source.is_on("skip_networking") {
        refuse(
            format!("{name} has no networking: no replica can reach it"),
            "Take skip_networking out of its option file and restart it.",
        );
    }
}

fn check_replica(
    source: &Side,
    replica: &Side,
    refusals: &mut Vec<Refusal>,
    warnings: &mut Vec<Warning>,
) {
    let mut refuse = |reason: String, hint: String| refusals.push(Refusal::new(reason, hint));
    if replica.identity == source.identity {
        refuse(
            format!("{} and {} are one server", source.name, replica.name),
            "Check the addresses in the configuration.".to_owned(),
        );
        return;
    }
    for side in [source, replica] {
        if side.identity.server_id == 0 {
            refuse(
                format!("{} has no server_id", side.name),
                "Set a server_id in its option file and restart it.".to_owned(),
            );
        }
    }
    if source.identity.server_id == replica.identity.server_id {
        refuse(
            format!(
                "{} and {} have the same server_id, {}",
                source.name, replica.name, source.identity.server_id
            ),
            format!(
                "Set another server_id in the option file of {} and restart it.",
                replica.name
            ),
        );
    }
    if source.identity.server_uuid.is_some()
        && source.identity.server_uuid == replica.identity.server_uuid
    {
        refuse(
            format!(
                "{} and {} have the same server_uuid: one is a copy of the other",
                source.name, replica.name
            ),
            format!(
                "Stop {}, remove auto.cnf from its data directory, start it.",
                replica.name
            ),
        );
    }
    if !source.flavour.is_mariadb() {
        for side in [source, replica] {
            if side.setting("gtid_mode") != Some("ON") {
                refuse(
                    format!(
                        "{} has gtid_mode = {}",
                        side.name,
                        side.setting("gtid_mode").unwrap_or("OFF")
                    ),
                    "Set gtid_mode = ON and enforce_gtid_consistency = ON in its option file and \
                     restart it; MySQL's manual tells how it is done while it runs."
                        .to_owned(),
                );
            }
        }
    }
    let (theirs, own) = (
        source.setting("lower_case_table_names"),
        replica.setting("lower_case_table_names"),
    );
    if theirs != own {
        refuse(
            format!(
                "lower_case_table_names is {} on {} and {} on {}",
                theirs.unwrap_or("?"),
                source.name,
                own.unwrap_or("?"),
                replica.name
            ),
            format!(
                "Make {} anew with the source's lower_case_table_names: it can't be changed later.",
                replica.name
            ),
        );
    }
    check_packets(source, replica, refusals);
    let updates = replica.is_on("log_slave_updates") || replica.is_on("log_replica_updates");
    if !replica.is_on("log_bin") || !updates {
        warnings.push(Warning {
            rule: "not-promotable",
            message: format!(
                "{} doesn't log what it replicates: it couldn't become the source; set log_bin and \
                 log_slave_updates (MySQL 8.0.26 and later: log_replica_updates)",
                replica.name
            ),
        });
    }
    for name in ["character_set_server", "collation_server"] {
        let (theirs, own) = (source.setting(name), replica.setting(name));
        if theirs != own {
            warnings.push(Warning {
                rule: "charset",
                message: format!(
                    "{name} is {} on {} and {} on {}",
                    theirs.unwrap_or("?"),
                    source.name,
                    own.unwrap_or("?"),
                    replica.name
                ),
            });
        }
    }
}

fn check_packets(source: &Side, replica: &Side, refusals: &mut Vec<Refusal>) {
    let theirs = source.number(&["max_allowed_packet"]).unwrap_or(0);
    for (names, advice) in [
        (
            &["replica_max_allowed_packet", "slave_max_allowed_packet"][..],
            "slave_max_allowed_packet",
        ),
        (&["max_allowed_packet"][..], "max_allowed_packet"),
    ] {
        let own = replica.number(names).unwrap_or(u64::MAX);
        if own < theirs {
            refusals.push(Refusal::new(
                format!(
                    "{advice} of {} ({own}) is less than max_allowed_packet of {} ({theirs})",
                    replica.name, source.name
                ),
                format!(
                    "Set {advice} = {theirs} in the option file of {} and by SET GLOBAL.",
                    replica.name
                ),
            ));
        }
    }
}

/// Whether a server offers TLS.
fn offers_tls(side: &Side) -> bool {
    match side.setting("have_ssl") {
        Some(value) => value == "YES",
        // Later versions always have it, once they have a certificate.
        None => side
            .setting("ssl_cert")
            .is_some_and(|cert| !cert.is_empty()),
    }
}

fn check_tls(
    source: &Side,
    replica: &Side,
    refusals: &mut Vec<Refusal>,
    warnings: &mut Vec<Warning>,
) {
    let (theirs, own) = (offers_tls(source), offers_tls(replica));
    if source.tls != TlsMode::Disabled && !theirs {
        refusals.push(Refusal::new(
            format!(
                "{} offers no TLS, which the configuration asks for",
                source.name
            ),
            "Give it ssl_cert and ssl_key in its option file, or set tls = \"disabled\".",
        ));
    }
    if theirs && !own {
        warnings.push(Warning {
            rule: "tls-parity",
            message: format!(
                "{} offers TLS and {} doesn't: after a promotion clients that ask for it fail",
                source.name, replica.name
            ),
        });
    }
}

fn linked(source: &Side, replica: &Side, endpoint: &Endpoint) -> Linked {
    let is_ours = |link: &&Link| {
        let by_identity = match &source.identity.server_uuid {
            Some(uuid) => link.source_uuid == *uuid,
            None => link.source_id == source.identity.server_id,
        };
        let by_address = endpoint
            .known()
            .is_some_and(|(host, port)| link.host == *host && link.port == *port);
        by_identity || (by_address && (link.source_uuid.is_empty() && link.source_id == 0))
    };
    match replica.links.iter().find(is_ours) {
        Some(link) if link.uses_gtid => Linked::AsWanted(Box::new(link.clone())),
        _ if replica.links.is_empty() => Linked::No,
        _ => Linked::Otherwise,
    }
}

/// What the replica has that its source never had.
fn errant(source: &Side, replica: &Side) -> Result<String, String> {
    let parse = |side: &Side, text: &str| {
        side.flavour
            .parse_gtid(text)
            .map_err(|error| format!("GTIDs of {}: {error}", side.name))
    };
    if !source.flavour.is_mariadb() {
        let (theirs, own) = (
            parse(source, &source.written)?,
            parse(replica, &replica.written)?,
        );
        return Ok(match (theirs, own) {
            (GtidSet::Mysql(theirs), GtidSet::Mysql(own)) => own.subtract(&theirs).to_line(),
            (GtidSet::Mysql(_) | GtidSet::Mariadb(_), _) => String::new(),
        });
    }
    let theirs = by_origin(&source.by_origin);
    let extra: Vec<String> = by_origin(&replica.by_origin)
        .into_iter()
        .filter(|(origin, sequence)| theirs.get(origin).is_none_or(|known| known < sequence))
        .map(|((domain, server), sequence)| format!("{domain}-{server}-{sequence}"))
        .collect();
    if !extra.is_empty() {
        return Ok(extra.join(","));
    }
    let (theirs, own) = (
        parse(source, &source.written)?,
        parse(replica, &replica.applied)?,
    );
    match own.is_subset_of(&theirs) {
        Ok(true) => Ok(String::new()),
        Ok(false) | Err(_) => Ok(replica.applied.clone()),
    }
}

/// (domain, server) to the last sequence number.
fn by_origin(state: &str) -> BTreeMap<(u32, u32), u64> {
    state
        .split(',')
        .filter_map(|gtid| {
            let mut parts = gtid.trim().split('-');
            let domain = parts.next()?.parse().ok()?;
            let server = parts.next()?.parse().ok()?;
            Some(((domain, server), parts.next()?.parse().ok()?))
        })
        .collect()
}

/// Whether replication alone can bring the replica everything; else why not.
fn can_follow_from_logs(source: &Side, applied: &str) -> Result<(), String> {
    let missing = || {
        format!(
            "{} has purged binary logs that {} would need",
            source.name, "an empty replica"
        )
    };
    let purged = source.flavour.parse_gtid(&source.purged);
    let applied = source.flavour.parse_gtid(applied);
    match (purged, applied) {
        (Ok(purged), Ok(applied)) => match purged.is_subset_of(&applied) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(missing()),
        },
        (Err(error), _) | (_, Err(error)) => Err(format!("its GTIDs can't be read: {error}")),
    }
}

/// Provisioning, why, and what has to go for it.
fn decide_data(
    source: &Side,
    replica: &Side,
    linked: &Linked,
    wish: &Wish,
) -> Result<(Provision, String, Vec<String>), Refusal> {
    let strange = errant(source, replica).map_err(|reason| {
        Refusal::new(reason, "Read both servers' GTIDs by hand and report this.")
    })?;
    let keeps_its_data = !wish.replace;
    if let Linked::AsWanted(_) = linked
        && keeps_its_data
    {
        return match strange.is_empty() {
            true => Ok((
                Provision::Nothing,
                format!("{} follows {} already", replica.name, source.name),
                Vec::new(),
            )),
            false => Err(Refusal::new(
                format!(
                    "{} has transactions that {} never had: {strange}",
                    replica.name, source.name
                ),
                format!(
                    "Look what they are. To make {} a true copy give --provision dump --replace.",
                    replica.name
                ),
            )),
        };
    }
    let own = own_things(replica, &strange, linked);
    let came_by_replication = !replica.applied.is_empty() && strange.is_empty();
    let is_empty = replica.schemas.is_empty();
    if keeps_its_data && *linked == Linked::Otherwise {
        return Err(Refusal::new(
            format!(
                "{} follows {} already",
                replica.name,
                other_sources(replica)
            ),
            "Name the right source in the configuration, or give --replace to forget it.",
        ));
    }
    if keeps_its_data && (!strange.is_empty() || !(is_empty || came_by_replication)) {
        return Err(Refusal::new(
            format!("{} has data of its own: {}", replica.name, own.join(", ")),
            format!(
                "Give --replace with --provision to drop it; look first whether {} needs it.",
                source.name
            ),
        ));
    }
    let wanted = wish.provision.clone();
    let applied = match keeps_its_data {
        true => replica.applied.as_str(),
        false => "",
    };
    let from_logs = can_follow_from_logs(source, applied);
    match wanted {
        None | Some(Provision::Nothing) => match from_logs {
            Ok(()) if !keeps_its_data => Ok((
                Provision::Nothing,
                format!(
                    "{} still has its whole history in its binary logs",
                    source.name
                ),
                own,
            )),
            Ok(()) => {
                let why = match applied.is_empty() {
                    true => format!(
                        "{} still has its whole history in its binary logs",
                        source.name
                    ),
                    false => format!("{} goes on from {applied}", replica.name),
                };
                Ok((Provision::Nothing, why, Vec::new()))
            }
            Err(reason) => Err(Refusal::new(
                reason,
                "Say how the data comes: --provision dump (any servers), clone (the same version), \
                 or snapshot:ID (the same host).",
            )),
        },
        Some(Provision::Dump | Provision::Clone | Provision::Snapshot(_))
            if keeps_its_data && !is_empty =>
        {
            Err(Refusal::new(
                format!("{} has data already: {}", replica.name, own.join(", ")),
                "Without --provision it goes on from where it is; with --replace its data is \
                 dropped first.",
            ))
        }
        Some(provision) => {
            let why = format!("as asked ({})", provision.word());
            Ok((
                provision,
                why,
                if keeps_its_data { Vec::new() } else { own },
            ))
        }
    }
}

/// What of a replica would go with --replace, for people.
fn own_things(replica: &Side, strange: &str, linked: &Linked) -> Vec<String> {
    let mut things: Vec<String> = replica
        .schemas
        .iter()
        .map(|schema| format!("schema {} ({} tables)", schema.name, schema.tables))
        .collect();
    if !strange.is_empty() {
        things.push(format!("transactions of its own ({strange})"));
    }
    if *linked != Linked::No {
        things.push(format!("its replication from {}", other_sources(replica)));
    }
    things
}

fn other_sources(replica: &Side) -> String {
    let sources: Vec<String> = replica
        .links
        .iter()
        .map(|link| format!("{}:{}", link.host, link.port))
        .collect();
    sources.join(", ")
}

fn check_provision(
    source: &Side,
    replica: &Side,
    provision: &Provision,
    wish: &Wish,
    refusals: &mut Vec<Refusal>,
    warnings: &mut Vec<Warning>,
) {
    let mut refuse = |reason: String, hint: String| refusals.push(Refusal::new(reason, hint));
    match provision {
        Provision::Nothing => return,
        Provision::Dump if !wish.lock_source && !source.non_transactional.is_empty() => {
            let tables: Vec<String> = source
                .non_transactional
                .iter()
                .filter(|(schema, _)| schema != OWN_SCHEMA)
                .take(10)
                .map(|(schema, table)| format!("{schema}.{table}"))
                .collect();
            refuse(
                format!(
                    "{} has tables whose engine has no transactions ({}), which a dump can't hold \
                     still while others write",
                    source.name,
                    tables.join(", ")
                ),
                "Give --lock-source, which holds up writers for the whole dump; or change their \
                 engine to InnoDB; or use clone or snapshot:ID."
                    .to_owned(),
            );
        }
        Provision::Clone if !source.flavour.is_mariadb() => {
            if !replica.flavour.can_clone_from(&source.flavour) {
                refuse(
                    format!(
                        "{} ({}) can't clone {} ({})",
                        replica.name, replica.flavour.text, source.name, source.flavour.text
                    ),
                    "Clone needs MySQL 8.0.17 or later and both of one series; use --provision \
                     dump."
                        .to_owned(),
                );
            }
            if !replica.restarts {
                refuse(
                    format!(
                        "nothing starts {} again after it was cloned to",
                        replica.name
                    ),
                    format!(
                        "Configure [server.{}.service] with unit, or start and stop.",
                        replica.name
                    ),
                );
            }
        }
        Provision::Clone | Provision::Snapshot(_) => {
            if !replica.has_service {
                refuse(
                    format!(
                        "{} can't be stopped and started: it has no service",
                        replica.name
                    ),
                    format!(
                        "Configure [server.{}.service] with unit, or start and stop.",
                        replica.name
                    ),
                );
            }
            for side in [source, replica] {
                let needs_source = *provision == Provision::Clone || side.name == replica.name;
                if needs_source && !side.is_local {
                    refuse(
                        format!("the data directory of {} isn't on this host", side.name),
                        "Run understudy on the host of both, or use --provision dump.".to_owned(),
                    );
                }
            }
        }
        Provision::Dump => {}
    }
    // Files bring events as they are on the source: they would write on both servers, before
    // anybody can park them.
    let by_files = matches!(provision, Provision::Clone | Provision::Snapshot(_));
    if by_files && source.active_events > 0 && replica.runs_events_at_boot {
        refuse(
            format!(
                "{} would run the {} events of {} as soon as it starts on its data",
                replica.name, source.active_events, source.name
            ),
            format!(
                "Set event_scheduler = OFF in the option file of {} and restart it, until setup \
                 is done; or use --provision dump.",
                replica.name
            ),
        );
    }
    // A load writes redo and perhaps a binary log besides.
    let needed = source.bytes() + source.bytes() / 10;
    match &replica.free {
        Fact::Known(free) => {
            let free = free + if wish.replace { replica.bytes() } else { 0 };
            if free < needed {
                refuse(
                    format!(
                        "{} has {} MiB free, and the data of {} needs about {} MiB",
                        replica.name,
                        free >> 20,
                        source.name,
                        needed >> 20
                    ),
                    "Make room where its data is.".to_owned(),
                );
            }
        }
        Fact::Unknown(reason) => warnings.push(Warning {
            rule: "disk-space",
            message: format!(
                "whether {} has room for {} MiB isn't known: {reason}",
                replica.name,
                needed >> 20
            ),
        }),
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
