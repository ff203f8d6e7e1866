//! A program of the user's. It is told everything by its environment, and ends with 0 when it has
//! done what it was asked for.

use super::act::{Before, Checked, Done, Fault, RerouteAct};
use super::budget::Budget;
use crate::config::Address;
use crate::sys::cancel::Cancel;
use crate::sys::exec::{ExecError, Options, Program};
use crate::sys::trust;

/// How long it may take to end by itself once its time is up.
const GRACE: std::time::Duration = std::time::Duration::from_millis(500);
/// More of what it says isn't repeated.
const WORDS_CHARS_MAX: usize = 200;

pub(super) fn check(
    argv: &[String],
    act: &RerouteAct,
    budget: Budget,
    cancel: &Cancel,
) -> Result<Checked, Fault> {
    let mut warnings = Vec::new();
    if act.reroute.through.is_none() {
        warnings.push(
            "nothing but its exit status will tell whether it worked; add through".to_owned(),
        );
    }
    let said = run(argv, act, ("check", cancel), budget)?;
    Ok(Checked {
        before: Before::Exec,
        will: format!("run {} {said}", argv.join(" "))
            .trim_end()
            .to_owned(),
        warnings,
    })
}

pub(super) fn perform(argv: &[String], act: &RerouteAct, budget: Budget) -> Result<Done, Fault> {
    run(argv, act, ("do", &Cancel::default()), budget).map(done)
}

pub(super) fn undo(argv: &[String], act: &RerouteAct, budget: Budget) -> Result<Done, Fault> {
    run(argv, act, ("undo", &Cancel::default()), budget).map(done)
}

fn done(said: String) -> Done {
    Done::changed(format!("ended with 0 {said}").trim_end())
}

/// The last line that it said.
fn run(
    argv: &[String],
    act: &RerouteAct,
    (phase, cancel): (&'static str, &Cancel),
    budget: Budget,
) -> Result<String, Fault> {
    let (program, args) = argv.split_first().ok_or_else(|| {
        Fault::new(
            "the command is empty",
            "Write the program, then its arguments.",
        )
    })?;
    trust::check(program.as_ref())
        .map_err(|untrusted| Fault::new(untrusted.to_string(), untrusted.hint.clone()))?;
    let options = Options {
        input: None,
        env: environment(act, phase)
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        cancel: cancel.clone(),
    };
    let limit = budget.left()?.saturating_sub(GRACE);
    let ended = Program::at(program)
        .with_grace(GRACE)
        .run_with(args, limit, options);
    let last = |text: &str| {
        let line = text.lines().rfind(|line| !line.trim().is_empty());
        let line: String = line
            .unwrap_or_default()
            .trim()
            .chars()
            .take(WORDS_CHARS_MAX)
            .collect();
        match line.is_empty() {
            true => String::new(),
            false => format!("({line})"),
        }
    };
    match ended {
        Ok(output) => Ok(last(&output.stdout)),
        Err(ExecError::Failed { status, stderr, .. }) => Err(Fault::new(
            format!("{program} ended with {status} {}", last(&stderr)).trim_end(),
            format!("Run it by hand with UNDERSTUDY_PHASE={phase} and see what it says."),
        )),
        Err(
            error @ (ExecError::NotFound { .. }
            | ExecError::Start { .. }
            | ExecError::TimedOut { .. }
            | ExecError::Interrupted { .. }),
        ) => Err(Fault::new(
            error.to_string(),
            "See that it is there, may be run, and ends in time (timeout).",
        )),
    }
}

/// Empty where a server has no such thing.
fn environment(act: &RerouteAct, phase: &'static str) -> Vec<(String, String)> {
    let mut env = vec![
        ("UNDERSTUDY_PHASE".to_owned(), phase.to_owned()),
        ("UNDERSTUDY_PAIR".to_owned(), act.pair.clone()),
    ];
    for (which, server, address) in [
        ("OLD", &act.from.server, &act.from.address),
        ("NEW", &act.to.server, &act.to.address),
    ] {
        let (host, port, socket) = match address {
            Address::Tcp { host, port } => (host.clone(), port.to_string(), String::new()),
            Address::Socket(path) => (String::new(), String::new(), path.display().to_string()),
        };
        let name = |what: &str| format!("UNDERSTUDY_{which}_{what}");
        env.extend([
            (name("SOURCE"), server.clone()),
            (name("HOST"), host),
            (name("PORT"), port),
            (name("SOCKET"), socket),
        ]);
    }
    env
}
