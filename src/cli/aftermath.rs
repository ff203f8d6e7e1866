//! What follows a `run`: whom it concerns is told. One that was killed is found by the next `run` or
//! `recover`, put into the history, and told to whoever has heard nothing of it.

use serde_json::json;

use crate::config::NotifyEvent;
use crate::nightly::history::History;
use crate::nightly::record::Record;
use crate::nightly::{begun, history};
use crate::notify;
use crate::snapshot::Context;
use crate::sys::{failpoint, process};

/// Of every server that nobody's run holds; what couldn't be told.
pub fn settle_all(ctx: &Context, server: Option<&str>) -> Vec<String> {
    let servers = ctx.config.servers.keys();
    let wanted = servers.filter(|name| server.is_none_or(|server| server == *name));
    wanted
        .filter_map(|name| {
            // Whose run goes on has begun, and isn't interrupted. A state directory that isn't there
            // holds none.
            begun::left(&ctx.state, name).ok().flatten()?;
            let _lock = ctx.state.lock_run(name).ok()?;
            Some(settle(ctx, name))
        })
        .flatten()
        .collect()
}

/// Of one, whose run the caller holds. Killed in here, it is done again: told twice is better than never.
pub fn settle(ctx: &Context, server: &str) -> Vec<String> {
    let began = match begun::left(&ctx.state, server) {
        Ok(None) => return Vec::new(),
        Ok(Some(began)) => began,
        Err(error) => return vec![error.to_string()],
    };
    let mut past = history::read(&ctx.state, server).unwrap_or_default();
    let is_it = |record: &Record| record.began == began;
    let mut not_told = Vec::new();
    let record = match past.records.iter().rposition(is_it) {
        // It came as far as the history: only its telling may be missing.
        Some(at) => {
            let record = past.records[at].clone();
            past.records.truncate(at);
            record
        }
        None => {
            let record = Record::interrupted(server, &began);
            if let Err(error) = history::append(&ctx.state, &record) {
                not_told.push(format!("a killed run isn't in the history: {error}"));
            }
            record
        }
    };
    failpoint::hit("run-settled");
    not_told.extend(tell_of(ctx, &record, &past));
    if let Err(error) = begun::clear(&ctx.state, server) {
        not_told.push(error.to_string());
    }
    tell(&not_told);
    not_told
}

/// Whom it concerns, given what was before; who couldn't be told.
pub fn tell_of(ctx: &Context, record: &Record, before: &History) -> Vec<String> {
    let event = match (record.is_done(), before.last_failed()) {
        _ if record.is_busy() => return Vec::new(),
        (false, _) => NotifyEvent::Failure,
        (true, true) => NotifyEvent::Recovery,
        (true, false) => NotifyEvent::Success,
    };
    let told = notify::Told {
        event,
        host: process::host_name(),
        server: record.server.clone(),
        result: record.result.clone(),
        exit: record.exit,
        snapshot: record.snapshot.clone(),
        summary: record.summary(),
        hints: record
            .error
            .as_ref()
            .map(|error| error.hints.clone())
            .unwrap_or_default(),
        run: json!(record),
    };
    notify::tell(&ctx.config.notify, &told)
}

/// Who couldn't be told, to whoever reads what we say.
pub fn tell(not_told: &[String]) {
    for line in not_told {
        tracing::error!("{line}");
    }
}
