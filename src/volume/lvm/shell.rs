//! An `lvm` shell that was started before the pause, so that a command costs no process start.
//!
//! Between commands it holds no lock: each command takes and releases its own.

use std::ffi::OsString;
use std::time::Duration;

use crate::sys::dialogue::Dialogue;
use crate::sys::exec::{Options, Program};
use crate::volume::VolumeError;

/// A running shell; dropping it ends the process.
#[derive(Debug)]
pub(super) struct Shell {
    /// `None` after an error.
    dialogue: Option<Dialogue>,
    asked: u32,
}

impl Shell {
    /// Starts it and has it read all metadata once.
    pub fn start(
        lvm: &Program,
        env: &[(OsString, OsString)],
        limit: Duration,
    ) -> Result<Self, VolumeError> {
        let options = Options {
            env: env.to_vec(),
            ..Options::default()
        };
        let mut shell = Self {
            dialogue: Some(Dialogue::start(lvm, &[], &options)?),
            asked: 0,
        };
        shell.ask(&["lvs".to_owned()], limit)?;
        Ok(shell)
    }

    /// Runs a command that changes something. The shell has no exit status, so that the one
    /// sentence of success decides.
    pub fn change(&mut self, argv: &[String], limit: Duration) -> Result<(), VolumeError> {
        let said = self.ask(argv, limit)?;
        if tells_success(&said) {
            return Ok(());
        }
        Err(VolumeError::Said {
            program: "lvm",
            said: format!("{}: {}", argv.join(" "), said.trim()),
        })
    }

    /// Runs one command and returns all it said. After an error the shell is gone.
    fn ask(&mut self, argv: &[String], limit: Duration) -> Result<String, VolumeError> {
        self.asked += 1;
        let dialogue = self.dialogue.take().ok_or_else(|| VolumeError::Said {
            program: "lvm",
            said: "the shell had ended".to_owned(),
        })?;
        // The complaint about a command that doesn't exist comes when all before it is done.
        let marker = format!("understudy-{}", self.asked);
        let question = format!("{}\n{marker}\n", render_line(argv));
        let answer_end = format!("No such command '{marker}'");
        let (dialogue, said) = dialogue.ask(&question, &answer_end, limit)?;
        self.dialogue = Some(dialogue);
        Ok(said)
    }
}

/// What lvcreate -s and lvconvert --type snapshot print last, in the C locale.
fn tells_success(said: &str) -> bool {
    said.lines().any(|line| {
        let line = line.trim();
        line.starts_with("Logical volume ")
            && (line.ends_with(" created.") || line.ends_with(" converted to snapshot."))
    })
}

/// The shell splits at spaces and knows double quotes; nothing else of ours needs quoting.
fn render_line(argv: &[String]) -> String {
    argv.iter()
        .map(|arg| match arg.contains(' ') {
            true => format!("\"{arg}\""),
            false => arg.clone(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sentence_of_success_is_success() {
        assert!(tells_success(
            "  WARNING: x\n  Logical volume \"understudy-a\" created.\n"
        ));
        assert!(tells_success(
            "  Logical volume vg0/understudy-a converted to snapshot.\n"
        ));
        assert!(!tells_success("  Volume group \"vg0\" not found\n"));
        assert!(!tells_success(
            "  Logical volume vg0/a contains a filesystem in use.\n"
        ));
        assert!(!tells_success(""));
    }

    #[test]
    fn settings_with_spaces_stay_one_argument() {
        let argv = ["lvconvert", "--config", "a=0 b=0"].map(str::to_owned);
        assert_eq!(render_line(&argv), "lvconvert --config \"a=0 b=0\"");
    }
}
