//! A program of the user's that a failover runs (fence, salvage): told everything by its environment,
//! believed by its exit code, ended when its time is up or the failover is interrupted.

use std::path::Path;
use std::time::Duration;

use crate::server::Target;
use crate::snapshot::error::Refusal;
use crate::sys::cancel::Cancel;
use crate::sys::exec::{ExecError, Options, Program};
use crate::sys::trust;

/// How long it may take to end by itself once its time is up.
const GRACE: Duration = Duration::from_millis(500);
/// More of what it says isn't repeated.
const WORDS_CHARS_MAX: usize = 200;

/// May be run, and nobody else has put it there. `kind` is its key in the configuration.
pub fn check(kind: &str, argv: &[String], without: &str) -> Result<(), Refusal> {
    let program = argv.first().map_or("", String::as_str);
    trust::check(program.as_ref())
        .map_err(|untrusted| Refusal::new(untrusted.to_string(), &untrusted.hint))?;
    match Path::new(program).is_file() {
        true => Ok(()),
        false => Err(Refusal::new(
            format!("the {kind} program {program} isn't there"),
            format!("See {kind} in [pair.NAME.failover]; {without}"),
        )),
    }
}

/// Which server of which pair it is about.
pub fn environment(pair: &str, target: &Target) -> Vec<(&'static str, String)> {
    vec![
        ("UNDERSTUDY_PAIR", pair.to_owned()),
        ("UNDERSTUDY_SERVER", target.server.clone()),
        ("UNDERSTUDY_ADDRESS", target.address.to_string()),
    ]
}

/// The last line that it said, in brackets; else why it isn't to be relied on.
pub fn run(
    kind: &str,
    argv: &[String],
    environment: Vec<(&'static str, String)>,
    (limit, cancel): (Duration, &Cancel),
) -> Result<String, String> {
    let Some((program, args)) = argv.split_first() else {
        return Err(format!("the {kind} program's command is empty"));
    };
    let options = Options {
        input: None,
        env: environment
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        cancel: cancel.clone(),
    };
    let ended = Program::at(program)
        .with_grace(GRACE)
        .run_with(args, limit, options);
    match ended {
        Ok(output) => Ok(last_line(&output.stdout)),
        Err(ExecError::Failed { status, stderr, .. }) => Err(format!(
            "the {kind} program {program} ended with {status}{}",
            last_line(&stderr)
        )),
        Err(
            error @ (ExecError::NotFound { .. }
            | ExecError::Start { .. }
            | ExecError::TimedOut { .. }
            | ExecError::Interrupted { .. }),
        ) => Err(format!("the {kind} program: {error}")),
    }
}

fn last_line(text: &str) -> String {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.map_or(String::new(), |line| {
        let line: String = line.chars().take(WORDS_CHARS_MAX).collect();
        format!(" ({line})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(argv: &[&str]) -> Result<String, String> {
        let argv: Vec<String> = argv.iter().map(|one| (*one).to_owned()).collect();
        let environment = ["UNDERSTUDY_PAIR", "UNDERSTUDY_SERVER", "UNDERSTUDY_ADDRESS"];
        let environment = environment.map(|name| (name, format!("a {name}")));
        run(
            "fence",
            &argv,
            environment.into(),
            (Duration::from_millis(300), &Cancel::default()),
        )
    }

    #[test]
    fn a_program_that_ends_with_0_is_believed_and_told_of_whom() {
        let said = ran(&["/bin/sh", "-c", "echo x; echo $UNDERSTUDY_SERVER; echo"]);
        assert_eq!(said, Ok(" (a UNDERSTUDY_SERVER)".to_owned()));
    }

    #[test]
    fn a_program_that_fails_hangs_or_is_not_there_is_told() {
        for (argv, words) in [
            (&["/bin/sh", "-c", "echo no >&2; exit 3"][..], "(no)"),
            (&["/bin/sleep", "60"], "didn't end within"),
            (&["/nowhere/fence"], "start /nowhere/fence"),
        ] {
            let error = ran(argv).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
