//! `[notify]`. No complaint repeats an address: it may hold a token.

use std::time::Duration;

use super::issue::{Complaint, Issues};
use super::notify::{NotifyConfig, NotifyEvent};
use super::secret::Secret;
use super::table::{Table, argv_of, parse_at};
use super::values::{parse_absolute_path, parse_word};

const EVENTS: [(&str, NotifyEvent); 3] = [
    ("failure", NotifyEvent::Failure),
    ("success", NotifyEvent::Success),
    ("recovery", NotifyEvent::Recovery),
];

/// Whoever is told is told within this; a night isn't held up by it.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// Reads the table; what is wrong in it stops the configuration by its issues.
pub(super) fn read_notify(mut table: Table<'_, '_>, issues: &mut Issues<'_>) -> NotifyConfig {
    let default = NotifyConfig::default();
    let mut argv = |key| {
        let argv = table.strings(key, issues)?;
        argv_of(key, &argv, issues)
    };
    let (on_failure, on_success) = (argv("on_failure"), argv("on_success"));
    let on_recovery = argv("on_recovery");
    let mut address = |key| table.parsed(key, issues, parse_url).map(|at| at.value);
    let (webhook, ping) = (address("webhook"), address("ping"));
    let mail = table.parsed("mail", issues, parse_mail);
    let webhook_events = events(&mut table, "webhook_events", issues);
    let mail_events = events(&mut table, "mail_events", issues);
    let sendmail = table.parsed("sendmail", issues, parse_absolute_path);
    let timeout = timeout(&mut table, issues);
    table.finish(issues);
    NotifyConfig {
        on_failure,
        on_success,
        on_recovery,
        webhook,
        webhook_events: webhook_events.unwrap_or(default.webhook_events),
        ping,
        mail: mail.map(|at| at.value),
        mail_events: mail_events.unwrap_or(default.mail_events),
        sendmail: sendmail.map_or(default.sendmail, |at| at.value),
        timeout: timeout.unwrap_or(default.timeout),
    }
}

fn events(
    table: &mut Table<'_, '_>,
    key: &'static str,
    issues: &mut Issues<'_>,
) -> Option<Vec<NotifyEvent>> {
    let words = table.strings(key, issues)?.value.into_iter();
    let events = words.filter_map(|word| {
        parse_at(key, word, issues, |text| parse_word(text, &EVENTS)).map(|at| at.value)
    });
    Some(events.collect())
}

fn timeout(table: &mut Table<'_, '_>, issues: &mut Issues<'_>) -> Option<Duration> {
    let timeout = table.duration("timeout", issues)?;
    if timeout.value < Duration::from_secs(1) || timeout.value > TIMEOUT_MAX {
        let message = "timeout: it isn't between 1s and 5m";
        issues.report(timeout.span, Complaint::new(message));
        return None;
    }
    Some(timeout.value)
}

/// An address of the web, in plain characters.
fn parse_url(text: &str) -> Result<Secret, Complaint> {
    let wrong = |why: &str| {
        Complaint::new(format!("it is no address of the web: {why}"))
            .hint("Write it like \"https://hooks.example/…\".")
    };
    let rest = ["https://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .ok_or_else(|| wrong("it begins with neither https:// nor http://"))?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        return Err(wrong("it names no host"));
    }
    if !text.chars().all(|c| c.is_ascii_graphic()) || text.contains('#') {
        return Err(wrong("it has characters that no address has"));
    }
    Ok(Secret::new(text))
}

/// One or more addresses, as they stand behind `To:`.
fn parse_mail(text: &str) -> Result<String, Complaint> {
    let plain = |c: char| c.is_ascii_graphic() || c == ' ';
    let fits = !text.trim().is_empty() && !text.starts_with('-') && text.chars().all(plain);
    match fits {
        true => Ok(text.trim().to_owned()),
        false => Err(Complaint::new(format!("{text:?} is no address of mail"))
            .hint("Write it like \"root\" or \"dba@lab.example\".")),
    }
}
