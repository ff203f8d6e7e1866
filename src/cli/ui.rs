//! What people see: results on stdout, progress and questions on stderr, colour only on terminals.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use serde_json::Value;

use super::failure::{Failure, Kind};
use super::logs::Logs;
use super::page::Page;
use super::{Cli, Output};

pub struct Ui {
    json: bool,
    quiet: bool,
    yes: bool,
    logs: Logs,
}

impl Ui {
    pub fn new(cli: &Cli, logs: Logs) -> Self {
        Self {
            logs,
            json: cli.output == Output::Json,
            quiet: cli.quiet,
            yes: cli.yes,
        }
    }

    /// The one result: text for people or the JSON document.
    pub fn result(&self, json: &Value, text: impl FnOnce() -> String) {
        self.either(|| json.clone(), text);
    }

    /// As `result`, for a document that takes its time to make.
    pub fn either(&self, json: impl FnOnce() -> Value, text: impl FnOnce() -> String) {
        if self.json {
            print_json(&json());
        } else {
            print_text(&text());
        }
    }

    pub fn failure(&self, failure: &Failure) {
        if self.json {
            print_json(&failure.json());
        }
        if self.logs.failed(failure) {
            return;
        }
        let page = Page::of_stderr();
        let mut text = on_lines(&page, "understudy: ", &failure.message);
        for hint in &failure.hints {
            text.extend(on_lines(&page, "  hint: ", hint));
        }
        print_error(&format!("{}\n", text.join("\n")));
    }

    /// Entries of the journal in it are of this server, and of what is done to it.
    pub fn of_server(&self, server: &str) -> tracing::Span {
        self.logs.of_server(server)
    }

    /// What came of a job, for the journal alone: elsewhere the result says it.
    pub fn noted(&self, failed: Option<Kind>, text: &str) {
        self.logs.noted(failed, text);
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Progress is for a person at a terminal, not for logs.
    pub fn shows_progress(&self) -> bool {
        !self.json && !self.quiet && std::io::stderr().is_terminal()
    }

    /// Asks for a line; an empty one is the usual answer. Without a terminal the flag has to be there.
    pub fn ask(&self, question: &str, usual: Option<&str>, flag: &str) -> Result<String, Failure> {
        let shown = usual.map_or(String::new(), |usual| format!(" [{usual}]"));
        let answer = self.line(&format!("{question}{shown}: "), flag, false)?;
        match (answer.is_empty(), usual) {
            (true, Some(usual)) => Ok(usual.to_owned()),
            _ => Ok(answer),
        }
    }

    /// As `ask`; what is typed isn't shown.
    pub fn ask_secret(&self, question: &str, flag: &str) -> Result<String, Failure> {
        self.line(&format!("{question}: "), flag, true)
    }

    fn line(&self, prompt: &str, flag: &str, is_secret: bool) -> Result<String, Failure> {
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(Failure::new(Kind::Usage, format!("{flag} is missing"))
                .hint("Give it where there is no terminal to ask on."));
        }
        drop(write!(std::io::stderr(), "{prompt}"));
        drop(std::io::stderr().flush());
        let mut answer = String::new();
        let hidden = is_secret.then(crate::sys::terminal::Hidden::of_stdin);
        let read = std::io::stdin().read_line(&mut answer);
        if hidden.is_some() {
            drop(writeln!(std::io::stderr()));
        }
        match read {
            Ok(1..) => Ok(answer.trim_end_matches(['\r', '\n']).to_owned()),
            Ok(0) | Err(_) => Err(Failure::new(Kind::Usage, "no answer; nothing was changed")),
        }
    }

    /// Asks before data is lost. Without a terminal only --yes will do.
    pub fn confirm(&self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(
                Failure::new(Kind::Refused, format!("not confirmed: {question}"))
                    .hint("Give --yes where there is no terminal to ask on."),
            );
        }
        drop(write!(std::io::stderr(), "{question} [y/N] "));
        drop(std::io::stderr().flush());
        let mut answer = String::new();
        drop(std::io::stdin().read_line(&mut answer));
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::new(
                Kind::Refused,
                "not confirmed; nothing was changed",
            )),
        }
    }
}

/// A text that has lines; what is broken goes on four in.
fn on_lines(page: &Page, head: &str, text: &str) -> Vec<String> {
    let heads = std::iter::once(head).chain(std::iter::repeat(""));
    text.split('\n')
        .zip(heads)
        .flat_map(|(line, head)| page.broken(head, 4, line))
        .collect()
}

/// A closed pipe (`| head`) is no error.
pub fn print_text(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{}", text.trim_end()));
}

pub fn print_json(json: &Value) {
    print_text(&serde_json::to_string_pretty(json).unwrap_or_default());
}

/// `64 ms`, `2.3 s`, `4m 10s`.
pub fn duration(duration: Duration) -> String {
    match duration.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        ms @ 1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        ms => humantime::format_duration(Duration::from_secs((ms / 1000) as u64)).to_string(),
    }
}

/// As `duration`.
pub fn ms(ms: u64) -> String {
    duration(Duration::from_millis(ms))
}

/// `8.0 s behind`, or `delayed 2h on purpose, 8.0 s behind that`.
pub fn lag(lag_ms: u64, delay_ms: Option<u64>) -> String {
    let lag = duration(Duration::from_millis(lag_ms));
    match delay_ms {
        None | Some(0) => format!("{lag} behind"),
        Some(delay_ms) => {
            let delay = duration(Duration::from_millis(delay_ms));
            format!("delayed {delay} on purpose, {lag} behind that")
        }
    }
}

/// The two largest units.
pub fn age(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

/// `1.5 GiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// On stderr, as it is.
pub fn print_error(text: &str) {
    let mut err = std::io::stderr().lock();
    drop(err.write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_well() {
        assert_eq!(duration(Duration::from_millis(64)), "64 ms");
        assert_eq!(duration(Duration::from_millis(2345)), "2.3 s");
        assert_eq!(duration(Duration::from_secs(250)), "4m 10s");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536 * 1024 * 1024), "1.5 GiB");
    }
}
