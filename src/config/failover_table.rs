//! `[pair.NAME.failover]`: whom a failover may choose, what fences, and how long it waits.

use super::failover::FailoverConfig;
use super::issue::{Complaint, Issues};
use super::reroute_table::Members;
use super::table::{At, Table, argv_of};
use super::values::closest;

/// Reads the table; what is wrong in it stops the configuration by its issues.
pub(super) fn read_failover(
    mut table: Table<'_, '_>,
    members: &Members<'_>,
    issues: &mut Issues<'_>,
) -> FailoverConfig {
    let default = FailoverConfig::default();
    let prefer = names(&mut table, "prefer", members, issues);
    let never = names(&mut table, "never", members, issues);
    for name in prefer.iter().filter(|name| contains(&never, name.value)) {
        let message = format!("{:?} is in prefer and in never", name.value);
        issues.report(name.span.clone(), Complaint::new(message));
    }
    if !members.is_empty() && members.keys().all(|name| contains(&never, name)) {
        let message = "never has all servers of the pair: none could become the source";
        issues.report(table.key_span("never"), Complaint::new(message));
    }
    let fence = argv(&mut table, "fence", issues);
    let salvage = argv(&mut table, "salvage", issues);
    let mut duration = |key| table.duration(key, issues).map(|at| at.value);
    let (confirm, cooldown, drain) = (duration("confirm"), duration("cooldown"), duration("drain"));
    let max_loss = table.count("max_loss", u32::MAX, issues).map(u64::from);
    table.finish(issues);
    FailoverConfig {
        prefer: values(&prefer),
        never: values(&never),
        fence,
        salvage,
        confirm: confirm.unwrap_or(default.confirm),
        cooldown: cooldown.unwrap_or(default.cooldown),
        max_loss,
        drain: drain.unwrap_or(default.drain),
    }
}

fn argv(
    table: &mut Table<'_, '_>,
    key: &'static str,
    issues: &mut Issues<'_>,
) -> Option<Vec<String>> {
    let argv = table.strings(key, issues)?;
    argv_of(key, &argv, issues)
}

/// Servers of the pair, none twice.
fn names<'t>(
    table: &mut Table<'t, '_>,
    key: &'static str,
    members: &Members<'_>,
    issues: &mut Issues<'_>,
) -> Vec<At<&'t str>> {
    let Some(list) = table.strings(key, issues) else {
        return Vec::new();
    };
    let mut names: Vec<At<&str>> = Vec::new();
    for name in list.value {
        if contains(&names, name.value) {
            let message = format!("{key}: {:?} stands here twice", name.value);
            issues.report(name.span.clone(), Complaint::new(message));
        } else if !members.contains_key(name.value) {
            let known: Vec<&str> = members.keys().copied().collect();
            let hint = match closest(name.value, &known) {
                Some(known) => format!("Did you mean {known:?}?"),
                None => format!("Its servers are: {}.", known.join(", ")),
            };
            let message = format!("{key}: {:?} isn't a server of this pair", name.value);
            issues.report(name.span.clone(), Complaint::new(message).hint(hint));
        }
        names.push(name);
    }
    names
}

fn contains(names: &[At<&str>], name: &str) -> bool {
    names.iter().any(|one| one.value == name)
}

fn values(names: &[At<&str>]) -> Vec<String> {
    names.iter().map(|name| name.value.to_owned()).collect()
}
