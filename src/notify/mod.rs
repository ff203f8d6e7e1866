//! Telling people and machines what came of a night.
//!
//! Whatever happens here fails no job: each way has its time, and what goes wrong is handed back as a
//! line for stderr. Addresses are secrets, and stand in none.

mod mail;
mod message;
mod ping;
mod program;
mod webhook;

pub use message::Told;
pub use ping::Ping;

use crate::config::{NotifyConfig, NotifyEvent};

/// Tells everybody whom it concerns, all at once; a line for each who couldn't be told.
pub fn tell(config: &NotifyConfig, told: &Told) -> Vec<String> {
    let mut ways: Vec<Way<'_>> = Vec::new();
    for (key, argv) in programs(config, told.event) {
        ways.push((
            key,
            Box::new(move || program::run(argv, told, config.timeout)),
        ));
    }
    if let Some(url) = &config.webhook
        && config.webhook_events.contains(&told.event)
    {
        ways.push((
            "webhook",
            Box::new(|| webhook::post(url, told, config.timeout)),
        ));
    }
    if let Some(to) = &config.mail
        && config.mail_events.contains(&told.event)
    {
        ways.push(("mail", Box::new(|| mail::send(config, to, told))));
    }
    std::thread::scope(|scope| {
        let running: Vec<_> = ways
            .into_iter()
            .map(|(key, way)| (key, scope.spawn(way)))
            .collect();
        let ended = running.into_iter().filter_map(|(key, way)| {
            let why = match way.join() {
                Ok(Ok(())) => return None,
                Ok(Err(why)) => why,
                Err(_) => "it broke off".to_owned(),
            };
            let (event, server) = (told.event.word(), &told.server);
            Some(format!(
                "{key} wasn't told of the {event} of {server}: {why}"
            ))
        });
        ended.collect()
    })
}

/// The key of the configuration, and what is done.
type Way<'a> = (
    &'static str,
    Box<dyn FnOnce() -> Result<(), String> + Send + 'a>,
);

/// A recovery is a success, too.
fn programs(config: &NotifyConfig, event: NotifyEvent) -> Vec<(&'static str, &[String])> {
    let failure = ("on_failure", &config.on_failure);
    let success = ("on_success", &config.on_success);
    let recovery = ("on_recovery", &config.on_recovery);
    let of_event = match event {
        NotifyEvent::Failure => vec![failure],
        NotifyEvent::Success => vec![success],
        NotifyEvent::Recovery => vec![recovery, success],
    };
    of_event
        .into_iter()
        .filter_map(|(key, argv)| Some((key, argv.as_deref()?)))
        .collect()
}
