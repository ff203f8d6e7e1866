//! What is told, and in which form. Pure.

use serde_json::{Value, json};

use crate::config::NotifyEvent;

/// The version of the JSON body.
const VERSION: u32 = 1;

/// One server's run.
#[derive(Debug, Clone)]
pub struct Told {
    pub event: NotifyEvent,
    /// This machine.
    pub host: String,
    pub server: String,
    /// `done`, or the kind of the error.
    pub result: String,
    pub exit: u8,
    pub snapshot: Option<String>,
    /// One sentence.
    pub summary: String,
    pub hints: Vec<String>,
    /// A line of the history.
    pub run: Value,
}

impl Told {
    /// As chats read it (`text`), and machines.
    pub(super) fn json(&self) -> Value {
        json!({
            "version": VERSION,
            "event": self.event,
            "host": self.host,
            "server": self.server,
            "text": format!("understudy on {}: {}", self.host, self.summary),
            "run": self.run,
        })
    }

    /// For programs; nothing in it breaks a line.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let exit = self.exit.to_string();
        let pairs = [
            ("UNDERSTUDY_EVENT", self.event.word()),
            ("UNDERSTUDY_HOST", &self.host),
            ("UNDERSTUDY_SERVER", &self.server),
            ("UNDERSTUDY_RESULT", &self.result),
            ("UNDERSTUDY_EXIT", &exit),
            (
                "UNDERSTUDY_SNAPSHOT",
                self.snapshot.as_deref().unwrap_or_default(),
            ),
            ("UNDERSTUDY_SUMMARY", &self.summary),
        ];
        pairs.map(|(name, value)| (name, one_line(value))).to_vec()
    }

    /// Headers and text.
    pub(super) fn mail(&self, to: &str) -> String {
        let what = match self.event {
            NotifyEvent::Failure => "failed",
            NotifyEvent::Success => "done",
            NotifyEvent::Recovery => "well again",
        };
        let (host, server) = (ascii(&self.host), ascii(&self.server));
        let mut lines = vec![
            format!("To: {to}"),
            format!("Subject: understudy on {host}: {server} {what}"),
            "Auto-Submitted: auto-generated".to_owned(),
            "MIME-Version: 1.0".to_owned(),
            "Content-Type: text/plain; charset=utf-8".to_owned(),
            "Content-Transfer-Encoding: 8bit".to_owned(),
            String::new(),
            one_line(&self.summary),
        ];
        lines.extend(
            self.hints
                .iter()
                .map(|hint| format!("  hint: {}", one_line(hint))),
        );
        lines.push(String::new());
        lines.push(format!("What ran: understudy history {server}"));
        lines.push(String::new());
        lines.join("\n")
    }
}

fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

/// For a header.
fn ascii(text: &str) -> String {
    text.replace(|c: char| !c.is_ascii_graphic(), "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_of_a_server_becomes_a_header_or_a_variable() {
        let told = Told {
            event: NotifyEvent::Failure,
            host: "lab\nBcc: all".to_owned(),
            server: "db2".to_owned(),
            result: "failed".to_owned(),
            exit: 1,
            snapshot: None,
            summary: "db2: no\0 room\n.\nleft".to_owned(),
            hints: vec!["Make\nroom.".to_owned()],
            run: Value::Null,
        };
        let mail = told.mail("root");
        let (head, body) = mail.split_once("\n\n").unwrap();
        assert_eq!(head.lines().count(), 6, "{head}");
        assert!(
            head.contains("Subject: understudy on lab?Bcc:?all: db2 failed\n"),
            "{head}"
        );
        assert!(
            body.starts_with("db2: no  room . left\n  hint: Make room.\n"),
            "{body}"
        );
        for (name, value) in told.environment() {
            assert!(!value.contains(['\0', '\n']), "{name}={value:?}");
        }
    }
}
