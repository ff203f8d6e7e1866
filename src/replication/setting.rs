//! Global variables that setup sets for good: persisted where the server can, else told as lines of its
//! option file.

use std::time::Duration;

use super::error::SetupError;
use super::warning::Warning;
use super::work::{Setting, Who, Work};
use crate::server::semi_sync::set_now;
use crate::server::session::{READ_LIMIT, Session, SessionError};

/// As a statement of `SET`.
const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

/// Sets a variable unless it is so; true when something was changed. How it was is noted before.
pub fn set(work: &mut Work<'_>, who: Who, name: &str, value: &str) -> Result<bool, SetupError> {
    let session = work.session(who)?;
    let flavour = session.flavour().clone();
    let (session, now) = session.value(&format!("SELECT @@GLOBAL.{name}"), READ_LIMIT)?;
    let now = now.unwrap_or_default();
    let (session, persisted) = match flavour.persisted_query(name) {
        Some(query) => session.value(&query, READ_LIMIT)?,
        None => (session, None),
    };
    let (session, comes_so) = comes_up_with(session, name)?;
    let is_so = is_same(&now, value);
    let stays_persisted = persisted
        .as_deref()
        .is_some_and(|kept| is_same(kept, value));
    let stays = stays_persisted || is_so && comes_so;
    note(work, who, (name, value), stays || flavour.keeps_variables());
    if is_so && (stays_persisted || !flavour.keeps_variables()) {
        return Ok(false);
    }
    let mut undo = Vec::new();
    if flavour.keeps_variables() {
        undo.push(match &persisted {
            Some(before) => flavour.set_kept(name, before),
            None => flavour.forget_persisted(name),
        });
    }
    undo.push(set_now(name, &now));
    work.before(who, &format!("set {name} back to {now}"), undo)?;
    session.execute(&flavour.set_kept(name, value), STATEMENT_LIMIT)?;
    Ok(true)
}

/// As `set`, where the account may; else that is told.
pub fn set_if_allowed(
    work: &mut Work<'_>,
    who: Who,
    name: &str,
    value: &str,
) -> Result<bool, SetupError> {
    let (_, denied) = may_set(work.session(who)?, name)?;
    match denied {
        None => set(work, who, name, value),
        Some(reason) => {
            work.warnings.push(Warning {
                rule: "privilege",
                message: format!(
                    "{name} of {} stays as it is: {reason}; `understudy grants {}` prints what is \
                     needed",
                    work.party(who).name,
                    work.party(who).name
                ),
            });
            Ok(false)
        }
    }
}

/// Why this account can't set a variable: tried with the value that it has.
pub fn may_set(session: Session, name: &str) -> Result<(Session, Option<String>), SessionError> {
    let (session, now) = session.value(&format!("SELECT @@GLOBAL.{name}"), READ_LIMIT)?;
    let same = set_now(name, &now.unwrap_or_default());
    let (session, answer) = session.attempt(&same, READ_LIMIT)?;
    Ok((session, answer.err().map(|error| error.to_string())))
}

/// Remembers what a server has to come up with.
pub fn note(work: &mut Work<'_>, who: Who, (name, value): (&str, &str), stays: bool) {
    work.settings
        .retain(|own| (own.who, own.name.as_str()) != (who, name));
    work.settings.push(Setting {
        who,
        name: name.to_owned(),
        value: value.to_owned(),
        stays,
    });
}

/// Whether a variable has its value from an option file; a version that doesn't tell is believed.
pub fn comes_up_with(session: Session, name: &str) -> Result<(Session, bool), SessionError> {
    let Some(query) = session.flavour().origin_query(name) else {
        let is_old = !session.flavour().keeps_variables();
        return Ok((session, is_old));
    };
    let (session, origin) = session.value(&query, READ_LIMIT)?;
    Ok((session, origin.as_deref() == Some("CONFIG")))
}

fn is_same(one: &str, other: &str) -> bool {
    let plain = |text: &str| match text {
        "ON" => "1".to_owned(),
        "OFF" => "0".to_owned(),
        text => text.to_ascii_uppercase(),
    };
    plain(one) == plain(other)
}

/// Tells what servers don't keep by themselves.
pub fn tell(work: &mut Work<'_>) {
    for (who, rule) in [
        (Who::Replica, "boot-read-only"),
        (Who::Source, "boot-settings"),
    ] {
        let lost = work
            .settings
            .iter()
            .filter(|own| own.who == who && !own.stays);
        let (names, lines): (Vec<String>, Vec<String>) = lost
            .map(|own| (own.name.clone(), format!("{}={}", own.name, own.value)))
            .unzip();
        if names.is_empty() {
            continue;
        }
        let message = format!(
            "{} can't keep {} by itself: put these lines into its option file: [mysqld] / {}",
            work.party(who).name,
            names.join(", "),
            lines.join(" / ")
        );
        work.warnings.push(Warning { rule, message });
    }
}
