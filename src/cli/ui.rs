//! What people see: results on stdout, progress and questions on stderr, colour only on terminals.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use serde_json::Value;

use super::failure::{Failure, Kind};
use super::{Cli, Output};
use crate::health::Severity;
use crate::sys::progress::Event;

pub struct Ui {
    json: bool,
    quiet: bool,
    yes: bool,
}

impl Ui {
    pub fn new(cli: &Cli) -> Self {
        Self {
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
        let mut err = std::io::stderr().lock();
        drop(writeln!(
            err,
            "understudy: {}",
            shown_lines(&failure.message)
        ));
        for hint in &failure.hints {
            drop(writeln!(err, "  hint: {}", shown_lines(hint)));
        }
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

/// A closed pipe (`| head`) is no error.
pub fn print_text(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{}", text.trim_end()));
}

pub fn print_json(json: &Value) {
    print_text(&serde_json::to_string_pretty(json).unwrap_or_default());
}

pub fn stderr_has_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Colours for a text on stdout; none where it isn't a terminal.
pub struct Paint {
    colours: bool,
}

impl Paint {
    pub fn of_stdout() -> Self {
        let allowed = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self {
            colours: allowed && std::io::stdout().is_terminal(),
        }
    }

    /// `None` is good.
    pub fn severity(&self, severity: Option<Severity>, text: &str) -> String {
        let colour = match severity {
            None => "32",
            Some(Severity::Info) => "36",
            Some(Severity::Warning) => "33",
            Some(Severity::Unknown) => "35",
            Some(Severity::Critical) => "1;31",
        };
        match self.colours {
            true => format!("\x1b[{colour}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// Prints events until the last sender is gone; a terminal that stalls holds up only this thread.
pub fn print_events(events: &Receiver<Event>, shows: bool) {
    let (dim, plain) = if stderr_has_colour() {
        ("\x1b[2m", "\x1b[0m")
    } else {
        ("", "")
    };
    let mut in_line = false;
    for event in events {
        if !shows {
            continue;
        }
        let mut err = std::io::stderr().lock();
        match event {
            Event::Step { name, detail, took } => {
                let clear = if in_line { "\r\x1b[K" } else { "" };
                in_line = false;
                drop(writeln!(
                    err,
                    "{clear}{name:>9}  {detail} {dim}{}{plain}",
                    duration(took)
                ));
            }
            Event::Still { name, detail, took } => {
                in_line = true;
                let took = duration(took);
                drop(write!(
                    err,
                    "\r\x1b[K{name:>9}  {detail} {dim}{took}{plain}"
                ));
                drop(err.flush());
            }
            Event::Bytes { done, total } => {
                in_line = true;
                let share = done.saturating_mul(100).checked_div(total).unwrap_or(100);
                drop(write!(
                    err,
                    "\r\x1b[K     copy  {} of {} ({share} %)",
                    bytes(done),
                    bytes(total)
                ));
                drop(err.flush());
            }
        }
    }
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

/// An ordinary terminal's.
const COLUMNS: usize = 80;

/// Lines that fit an ordinary terminal: the first begins with `head`, the others are as far in. A word
/// that is too long for a line stays whole.
pub fn wrapped(head: &str, text: &str) -> Vec<String> {
    let indent = head.chars().count();
    let mut lines = vec![head.to_owned()];
    let mut is_bare = true;
    for word in shown(text).split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        let needed = word.chars().count() + usize::from(!is_bare);
        if !is_bare && line + needed > COLUMNS {
            lines.push(" ".repeat(indent));
            is_bare = true;
        }
        if let Some(line) = lines.last_mut() {
            if !is_bare {
                line.push(' ');
            }
            line.push_str(word);
        }
        is_bare = false;
    }
    lines
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

/// Columns as wide as their widest cell; the last one is left ragged.
pub fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| shown(cell)).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("{cell:<width$}", width = widths[column]))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What came from outside (a label, a server's words) on a terminal: control characters escaped.
pub fn shown(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c.is_control() {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect()
}

/// As [`shown`], of a text that has lines.
pub fn shown_lines(text: &str) -> String {
    text.split('\n').map(shown).collect::<Vec<_>>().join("\n")
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
    fn control_characters_never_reach_the_terminal() {
        let rows = [vec!["a\u{1b}[2Jb\nc".to_owned(), "ü".to_owned()]];
        assert_eq!(table(&rows), "a\\u{1b}[2Jb\\nc  ü");
    }

    #[test]
    fn long_texts_fit_an_ordinary_terminal() {
        let lines = wrapped("  warning   ", &"seven s ".repeat(30));
        assert!(lines.len() > 2 && lines.iter().all(|line| line.chars().count() <= 80));
        assert!(lines[1].starts_with("            seven"));
        let word = "x".repeat(100);
        assert_eq!(
            wrapped("- ", &format!("a {word} b")),
            ["- a", &format!("  {word}"), "  b"]
        );
        assert_eq!(wrapped("- ", ""), ["- "]);
    }

    #[test]
    fn durations_and_sizes_read_well() {
        assert_eq!(duration(Duration::from_millis(64)), "64 ms");
        assert_eq!(duration(Duration::from_millis(2345)), "2.3 s");
        assert_eq!(duration(Duration::from_secs(250)), "4m 10s");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536 * 1024 * 1024), "1.5 GiB");
    }
}
