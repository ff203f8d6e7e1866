//! A program of the user's: told by its environment, and in JSON on its standard input.

use std::time::Duration;

use super::message::Told;
use crate::sys::exec::{ExecError, Options, Program};
use crate::sys::trust;

/// How long it may take to end by itself once its time is up.
pub(super) const GRACE: Duration = Duration::from_millis(500);
/// More of what it says isn't repeated.
const WORDS_CHARS_MAX: usize = 200;

pub(super) fn run(argv: &[String], told: &Told, limit: Duration) -> Result<(), String> {
    let (program, args) = argv.split_first().ok_or("the command is empty")?;
    let environment = told.environment().into_iter();
    let options = Options {
        input: Some(format!("{}\n", told.json()).into_bytes()),
        env: environment
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        ..Options::default()
    };
    start(program.as_ref(), args, limit, options)
}

/// Runs a program that root would; past its time it is killed, its children with it.
pub(super) fn start(
    program: &std::path::Path,
    args: &[String],
    limit: Duration,
    options: Options,
) -> Result<(), String> {
    trust::check(program).map_err(|untrusted| untrusted.to_string())?;
    let ended = Program::at(program)
        .with_grace(GRACE)
        .run_with(args, limit, options);
    // Its arguments may hold what isn't for everybody.
    let name = program.display();
    ended.map(drop).map_err(|error| match error {
        ExecError::NotFound { .. } => format!("{name} isn't there"),
        ExecError::Start { source, .. } => format!("{name} can't be started: {source}"),
        ExecError::Interrupted { .. } => format!("{name} was interrupted"),
        ExecError::TimedOut { limit, .. } => {
            format!("{name} didn't end within {limit:?} and was killed")
        }
        ExecError::Failed { status, stderr, .. } => {
            let last = stderr.lines().rfind(|line| !line.trim().is_empty());
            let said = last
                .unwrap_or_default()
                .trim()
                .replace(char::is_control, " ");
            let said: String = said.chars().take(WORDS_CHARS_MAX).collect();
            match said.is_empty() {
                true => format!("{name} ended with {status}"),
                false => format!("{name} ended with {status}: {said}"),
            }
        }
    })
}
