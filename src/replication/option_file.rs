//! `setup PAIR --write-option-file PATH`: the replica comes up as it is now, where its server can't keep
//! that by itself.

use std::path::Path;
use std::time::Duration;

use super::error::SetupError;
use super::plan::Side;
use super::warning::Warning;
use super::work::{Setting, Who, Work};
use crate::journal::InHand;
use crate::journal::act::Act;
use crate::journal::act::option_file::{HEADER, is_ours};
use crate::journal::operation::Outcome;
use crate::server::Flavour;
use crate::snapshot::error::Refusal;
use crate::sys::exec::Program;
use crate::sys::{files, process};

const PRINT_LIMIT: Duration = Duration::from_secs(10);

/// What stands against writing there; looked at before anything is changed.
pub fn check(path: &Path, replica: &Side) -> Vec<Refusal> {
    if replica.flavour.keeps_variables() {
        return Vec::new();
    }
    let shown = path.display();
    let mut refusals = Vec::new();
    if !replica.is_local {
        refusals.push(Refusal::new(
            format!(
                "{} isn't on this host: its option file can't be written from here",
                replica.name
            ),
            "Run the same on its host; or leave --write-option-file away, and write the lines that \
             setup tells.",
        ));
    }
    let directory = path.parent().filter(|_| path.is_absolute());
    if !directory.is_some_and(Path::is_dir) {
        refusals.push(Refusal::new(
            format!("{shown} isn't an absolute path in a directory that is there"),
            "Name a file in the directory that the server includes, such as \
             /etc/mysql/mariadb.conf.d/zz-understudy.cnf.",
        ));
    }
    let not_ours = || {
        Refusal::new(
            format!("{shown} is there, and not written by understudy"),
            "Name a file that isn't there yet.",
        )
    };
    match files::is_link(path) {
        true => refusals.push(Refusal::new(
            format!("{shown} is a symbolic link"),
            "Name a file of its own.",
        )),
        false => match files::read_text(path) {
            Ok(None) => {}
            Ok(Some(text)) if is_ours(&text) => {}
            Ok(Some(_)) | Err(_) => refusals.push(not_ours()),
        },
    }
    refusals
}

/// Writes what the replica has to come up with, and sees whether its program would read it.
pub fn write(work: &mut Work<'_>, replica: &Side, path: &Path) -> Result<Outcome, SetupError> {
    let flavour = work.replica.flavour.clone();
    if flavour.keeps_variables() {
        return Ok(Outcome::AlreadySo(format!(
            "{} keeps it itself, and changes of roles move it: no file is written",
            work.replica.name
        )));
    }
    // Somebody may have made one meanwhile.
    let refusals = check(path, replica);
    if !refusals.is_empty() {
        return Err(SetupError::Refused { refusals });
    }
    let lines = lines(work, &flavour);
    let text = format!(
        "{HEADER}\n\
         # Every server of a pair has to come up closed for writers, and as a replica: failover and\n\
         # switchover rely on it. Whoever is the source is opened after its start, by hand.\n\
         [mysqld]\n{}\n",
        lines.join("\n")
    );
    let before = files::read_text(path)?;
    let is_so = before.as_deref() == Some(&text);
    if !is_so {
        work.note(Act::OptionFile {
            path: path.to_owned(),
            before,
        })?;
        files::publish(path, text.as_bytes())?;
    }
    let own = |own: &mut Setting| own.stays |= own.who == Who::Replica;
    work.settings.iter_mut().for_each(own);
    if let Some(doubt) = doubt(replica, &lines) {
        work.warnings.push(Warning {
            rule: "option-file",
            message: format!(
                "whether {} reads {}: {doubt}",
                work.replica.name,
                path.display()
            ),
        });
    }
    let shown = path.display();
    Ok(match is_so {
        true => Outcome::AlreadySo(format!("{shown} is there")),
        false => Outcome::Changed(format!("wrote {shown}: {}", lines.join(", "))),
    })
}

/// Where it isn't sure that the server knows a variable, it may pass over it.
fn lines(work: &Work<'_>, flavour: &Flavour) -> Vec<String> {
    let of_replica = work.settings.iter().filter(|own| own.who == Who::Replica);
    of_replica
        .map(|own| {
            let is_plugins = flavour
                .semi_sync_plugin(crate::server::semi_sync::Side::Source)
                .is_some()
                && own.name.starts_with("rpl_semi_sync");
            let loose = if is_plugins { "loose_" } else { "" };
            format!("{loose}{}={}", own.name, own.value)
        })
        .collect()
}

/// Why it may come up otherwise; `None` when its own program says that it reads these lines.
fn doubt(replica: &Side, lines: &[String]) -> Option<String> {
    let pid = process::in_directory(Path::new(&replica.identity.data_dir))
        .into_iter()
        .find(|pid| {
            process::arguments_of(*pid)
                .iter()
                .any(|word| !word.is_empty())
        })?;
    let arguments = process::arguments_of(pid);
    let Some(program) = process::program_of(pid) else {
        return Some("its program isn't one of this host, so that isn't known".to_owned());
    };
    let chosen: Vec<String> = chosen(&arguments).map(str::to_owned).collect();
    if let Some(word) = chosen.iter().find(|word| *word == "--no-defaults") {
        return Some(format!("it doesn't: it was started with {word}"));
    }
    let args = chosen.into_iter().chain(["--print-defaults".to_owned()]);
    let printed = match Program::at(&program).run(args, PRINT_LIMIT) {
        Ok(output) => output.stdout,
        Err(error) => return Some(format!("that isn't known: {error}")),
    };
    let words: Vec<&str> = printed
        .split_whitespace()
        .chain(arguments.iter().map(String::as_str))
        .collect();
    let otherwise: Vec<String> = lines
        .iter()
        .filter_map(|line| otherwise(line, &words))
        .collect();
    (!otherwise.is_empty()).then(|| {
        format!(
            "it would come up with {}; is its directory included, and is it the last that says so?",
            otherwise.join(", ")
        )
    })
}

/// The arguments that say which option files are read: they come first.
fn chosen(arguments: &[String]) -> impl Iterator<Item = &str> {
    let words = arguments.iter().skip(1).map(String::as_str);
    words.take_while(|word| word.starts_with("--defaults-") || *word == "--no-defaults")
}

/// What the last of these words makes of a line's variable, where that isn't what the line says.
fn otherwise(line: &str, words: &[&str]) -> Option<String> {
    let (name, wanted) = line.split_once('=')?;
    let last = words.iter().rev().find_map(|word| {
        let word = word.strip_prefix("--")?;
        let (own, value) = word.split_once('=').unwrap_or((word, "ON"));
        (own.replace('-', "_") == name).then_some(value)
    });
    match last {
        None => Some(format!("no {name}")),
        Some(value) if is_same(value, wanted) => None,
        Some(value) => Some(format!("{name}={value}")),
    }
}

fn is_same(one: &str, other: &str) -> bool {
    let plain = |text: &str| match text.to_ascii_uppercase().as_str() {
        "ON" | "TRUE" => "1".to_owned(),
        text => text.to_owned(),
    };
    plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let words = ["--read-only=0", "--read_only=1", "--slave_net_timeout=60"];
        assert_eq!(otherwise("read_only=ON", &words), None);
        assert_eq!(
            otherwise("slave_net_timeout=30", &words).as_deref(),
            Some("slave_net_timeout=60")
        );
        assert_eq!(otherwise("a=1", &words).as_deref(), Some("no a"));
        assert_eq!(otherwise("read_only=ON", &["--read_only"]), None);
        let arguments = [
            "mariadbd",
            "--defaults-file=/a",
            "--port=1",
            "--no-defaults",
        ];
        let arguments = arguments.map(str::to_owned);
        assert_eq!(
            chosen(&arguments).collect::<Vec<_>>(),
            ["--defaults-file=/a"]
        );
    }
}
