//! Where the replica stands and what becomes of the data that it has.

use std::collections::BTreeMap;

use super::{Endpoint, Linked, Provision, Side, Wish};
use crate::server::gtid::GtidSet;
use crate::server::replication::Channel;
use crate::snapshot::error::Refusal;

pub(super) fn linked(source: &Side, replica: &Side, endpoint: &Endpoint) -> Linked {
    let is_its_address = |link: &Channel| {
        endpoint
            .known()
            .is_some_and(|(host, port)| link.source_host == *host && link.source_port == *port)
    };
    let is_ours = |link: &&Channel| match link.leads_to(&source.identity) {
        // MariaDB tells a server_id only, which is 1 on every server that nobody gave one.
        Some(true) if source.identity.server_uuid.is_none() => {
            link.source_port == source.identity.port || is_its_address(link)
        }
        Some(met) => met,
        None => is_its_address(link),
    };
    match replica.links.iter().find(is_ours) {
        Some(link) if link.uses_gtid == Some(true) => Linked::AsWanted(Box::new(link.clone())),
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

/// Whether replication alone can bring everything to who has applied this; else why not.
fn can_follow_from_logs(source: &Side, applied: &str) -> Result<(), String> {
    let missing = || match applied {
        "" => format!(
            "{} has purged binary logs that an empty replica would need",
            source.name
        ),
        _ => format!(
            "{} has purged binary logs that a replica at {applied} would need",
            source.name
        ),
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

/// What comes, why, and what has to go for it.
pub(super) struct Decided {
    pub provision: Provision,
    pub why: String,
    pub erases: Vec<String>,
}

pub(super) fn decide(
    source: &Side,
    replica: &Side,
    linked: &Linked,
    wish: &Wish,
) -> Result<Decided, Refusal> {
    let strange = errant(source, replica).map_err(|reason| {
        Refusal::new(reason, "Read both servers' GTIDs by hand and report this.")
    })?;
    let own = own_things(replica, &strange, linked);
    if wish.replace {
        return provision_from_nothing(source, replica, wish, own);
    }
    if let Linked::AsWanted(_) = linked {
        return keep_following(source, replica, &strange);
    }
    check_its_own(source, replica, linked, &strange, &own)?;
    match &wish.provision {
        None | Some(Provision::Nothing) => from_logs(source, replica, &replica.applied),
        Some(Provision::Dump | Provision::Clone | Provision::Snapshot(_))
            if !replica.schemas.is_empty() =>
        {
            Err(Refusal::new(
                format!("{} has data already: {}", replica.name, own.join(", ")),
                "Without --provision it goes on from where it is; with --replace its data is \
                 dropped first.",
            ))
        }
        Some(provision) => Ok(as_asked(provision, Vec::new())),
    }
}

/// The replica's own data goes, whatever it is.
fn provision_from_nothing(
    source: &Side,
    replica: &Side,
    wish: &Wish,
    erases: Vec<String>,
) -> Result<Decided, Refusal> {
    match &wish.provision {
        None | Some(Provision::Nothing) => Ok(Decided {
            erases,
            ..from_logs(source, replica, "")?
        }),
        Some(provision) => Ok(as_asked(provision, erases)),
    }
}

fn as_asked(provision: &Provision, erases: Vec<String>) -> Decided {
    Decided {
        provision: provision.clone(),
        why: format!("as asked ({})", provision.word()),
        erases,
    }
}

/// By replication alone, from what was applied; nothing goes.
fn from_logs(source: &Side, replica: &Side, applied: &str) -> Result<Decided, Refusal> {
    can_follow_from_logs(source, applied).map_err(|reason| {
        Refusal::new(
            reason,
            "Say how the data comes: --provision dump (any servers), clone (the same version), \
             or snapshot:ID (the same host).",
        )
    })?;
    Ok(Decided {
        provision: Provision::Nothing,
        why: match applied {
            "" => format!(
                "{} still has its whole history in its binary logs",
                source.name
            ),
            _ => format!("{} goes on from {applied}", replica.name),
        },
        erases: Vec::new(),
    })
}

fn keep_following(source: &Side, replica: &Side, strange: &str) -> Result<Decided, Refusal> {
    if strange.is_empty() {
        return Ok(Decided {
            provision: Provision::Nothing,
            why: format!("{} follows {} already", replica.name, source.name),
            erases: Vec::new(),
        });
    }
    Err(Refusal::new(
        format!(
            "{} has transactions that {} never had: {strange}",
            replica.name, source.name
        ),
        format!(
            "Look what they are. To make {} a true copy give --provision dump --replace.",
            replica.name
        ),
    ))
}

/// Refuses to take over a replica that isn't the source's.
fn check_its_own(
    source: &Side,
    replica: &Side,
    linked: &Linked,
    strange: &str,
    own: &[String],
) -> Result<(), Refusal> {
    if *linked == Linked::Otherwise {
        return Err(Refusal::new(
            format!(
                "{} follows {} already",
                replica.name,
                other_sources(replica)
            ),
            "Name the right source in the configuration, or give --replace to forget it.",
        ));
    }
    let came_by_replication = !replica.applied.is_empty() && strange.is_empty();
    let is_empty = replica.schemas.is_empty();
    if !strange.is_empty() || !(is_empty || came_by_replication) {
        return Err(Refusal::new(
            format!("{} has data of its own: {}", replica.name, own.join(", ")),
            format!(
                "Give --replace with --provision to drop it; look first whether {} needs it.",
                source.name
            ),
        ));
    }
    Ok(())
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
        .map(|link| format!("{}:{}", link.source_host, link.source_port))
        .collect();
    sources.join(", ")
}
