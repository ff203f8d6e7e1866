//! What each way of bringing the data needs.

use super::{Findings, Provision, Side, Wish};
use crate::server::pair::OWN_SCHEMA;
use crate::sys::fact::Fact;

pub(super) fn check(
    source: &Side,
    replica: &Side,
    provision: &Provision,
    wish: &Wish,
    findings: &mut Findings,
) {
    match provision {
        Provision::Nothing => return,
        Provision::Dump => check_dump(source, wish, findings),
        Provision::Clone if !source.flavour.is_mariadb() => check_clone(source, replica, findings),
        Provision::Clone => {
            check_files_come(replica, findings);
            check_is_local(source, findings);
        }
        Provision::Snapshot(_) => check_files_come(replica, findings),
    }
    if *provision != Provision::Dump {
        check_events(source, replica, findings);
        check_login(source, replica, findings);
    }
    check_room(source, replica, wish, findings);
}

fn check_dump(source: &Side, wish: &Wish, findings: &mut Findings) {
    if wish.lock_source || source.non_transactional.is_empty() {
        return;
    }
    let tables: Vec<String> = source
        .non_transactional
        .iter()
        .filter(|(schema, _)| schema != OWN_SCHEMA)
        .take(10)
        .map(|(schema, table)| format!("{schema}.{table}"))
        .collect();
    findings.refuse(
        format!(
            "{} has tables whose engine has no transactions ({}), which a dump can't hold still \
             while others write",
            source.name,
            tables.join(", ")
        ),
        "Give --lock-source, which holds up writers for the whole dump; or change their engine to \
         InnoDB; or use clone or snapshot:ID.",
    );
}

/// MySQL's clone plugin.
fn check_clone(source: &Side, replica: &Side, findings: &mut Findings) {
    if !replica.flavour.can_clone_from(&source.flavour) {
        findings.refuse(
            format!(
                "{} ({}) can't clone {} ({})",
                replica.name, replica.flavour.text, source.name, source.flavour.text
            ),
            "Clone needs MySQL 8.0.17 or later and both of one series; use --provision dump.",
        );
    }
    if !replica.restarts {
        findings.refuse(
            format!(
                "nothing starts {} again after it was cloned to",
                replica.name
            ),
            service_cure(replica),
        );
    }
}

/// Another data directory is put in the place of the replica's.
fn check_files_come(replica: &Side, findings: &mut Findings) {
    if !replica.has_service {
        findings.refuse(
            format!(
                "{} can't be stopped and started: it has no service",
                replica.name
            ),
            service_cure(replica),
        );
    }
    check_is_local(replica, findings);
}

fn check_is_local(side: &Side, findings: &mut Findings) {
    if !side.is_local {
        findings.refuse(
            format!("the data directory of {} isn't on this host", side.name),
            "Run understudy on the host of both, or use --provision dump.",
        );
    }
}

fn service_cure(replica: &Side) -> String {
    format!(
        "Configure [server.{}.service] with unit, or start and stop.",
        replica.name
    )
}

/// Files bring the source's accounts: we must be somebody on them, who can go on, or put it back.
fn check_login(source: &Side, replica: &Side, findings: &mut Findings) {
    let login = &replica.login;
    let Some(may) = &replica.may_on_source else {
        findings.refuse(
            format!(
                "{} gets the accounts of {}, where {login}, as which we log in to {}, doesn't exist",
                replica.name, source.name, replica.name
            ),
            format!(
                "Create {login} on {} too, with the same password and privileges; or use \
                 --provision dump.",
                source.name
            ),
        );
        return;
    };
    let all_but_handing_on = may.contains("ALL PRIVILEGES");
    let lacks: Vec<&str> = replica
        .may
        .difference(may)
        .map(String::as_str)
        .filter(|one| *one == "GRANT OPTION" || !all_but_handing_on)
        .collect();
    if !lacks.is_empty() {
        findings.refuse(
            format!(
                "{} gets the accounts of {}, where {login}, as which we log in to {}, may do less \
                 (not {})",
                replica.name,
                source.name,
                replica.name,
                lacks.join(", ")
            ),
            format!(
                "Grant that on {} too; or use --provision dump.",
                source.name
            ),
        );
    }
}

/// Files bring events as they are on the source: they would write on both servers, before anybody
/// can park them.
fn check_events(source: &Side, replica: &Side, findings: &mut Findings) {
    if source.active_events > 0 && replica.runs_events_at_boot {
        findings.refuse(
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
}

/// A load writes redo and perhaps a binary log besides.
fn check_room(source: &Side, replica: &Side, wish: &Wish, findings: &mut Findings) {
    let needed = source.bytes() + source.bytes() / 10;
    match &replica.free {
        Fact::Known(free) => {
            let free = free + if wish.replace { replica.bytes() } else { 0 };
            if free < needed {
                findings.refuse(
                    format!(
                        "{} has {} MiB free, and the data of {} needs about {} MiB",
                        replica.name,
                        free >> 20,
                        source.name,
                        needed >> 20
                    ),
                    "Make room where its data is.",
                );
            }
        }
        Fact::Unknown(reason) => findings.warn(
            "disk-space",
            format!(
                "whether {} has room for {} MiB isn't known: {reason}",
                replica.name,
                needed >> 20
            ),
        ),
    }
}
