//! A dead man's switch: who doesn't hear of us in time tells people. Told when a run begins, and how it
//! ended, as healthchecks.io has it: `/start` and `/fail` behind the address, and nothing for a success.

use std::thread::JoinHandle;

use crate::config::{NotifyConfig, Secret};
use crate::sys::http;

/// The switch of one command, whatever the number of its servers.
pub struct Ping<'a> {
    config: &'a NotifyConfig,
    /// Told beside the work, which doesn't wait for it.
    start: Option<JoinHandle<Result<(), String>>>,
}

impl<'a> Ping<'a> {
    pub fn new(config: &'a NotifyConfig) -> Self {
        Self {
            config,
            start: None,
        }
    }

    /// Once; later calls do nothing.
    pub fn start(&mut self) {
        if let (Some(url), None) = (&self.config.ping, &self.start) {
            let (url, limit) = (
                Secret::new(with(url.reveal(), "/start")),
                self.config.timeout,
            );
            self.start = Some(std::thread::spawn(move || send(&url, "", limit)));
        }
    }

    /// After the start was told, if it was; a line for each that wasn't.
    pub fn end(self, is_good: bool, text: &str) -> Vec<String> {
        let (Some(url), Some(start)) = (&self.config.ping, self.start) else {
            return Vec::new();
        };
        let started = start
            .join()
            .unwrap_or_else(|_| Err("it broke off".to_owned()));
        let (behind, what) = match is_good {
            true => ("", "the success"),
            false => ("/fail", "the failure"),
        };
        let url = Secret::new(with(url.reveal(), behind));
        let ended = send(&url, text, self.config.timeout);
        [("the start", started), (what, ended)]
            .into_iter()
            .filter_map(|(what, result)| {
                Some(format!("ping wasn't told of {what}: {}", result.err()?))
            })
            .collect()
    }
}

/// Before the query, where there is one.
fn with(url: &str, behind: &str) -> String {
    match url.split_once('?') {
        Some((path, query)) => format!("{}{behind}?{query}", path.trim_end_matches('/')),
        None => format!("{}{behind}", url.trim_end_matches('/')),
    }
}

fn send(url: &Secret, text: &str, limit: std::time::Duration) -> Result<(), String> {
    let sent = http::post(
        url.reveal(),
        "text/plain; charset=utf-8",
        text.as_bytes(),
        limit,
    );
    sent.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_behind_the_address_stands_before_its_query() {
        assert_eq!(
            with("https://hc.example/u-u", "/start"),
            "https://hc.example/u-u/start"
        );
        assert_eq!(
            with("https://hc.example/u-u/", ""),
            "https://hc.example/u-u"
        );
        assert_eq!(
            with("https://hc.example/u?rid=1", "/fail"),
            "https://hc.example/u/fail?rid=1"
        );
    }
}
