//! Examples of every command, shown below its help and in its manual page. A test holds that each is one
//! that the command line takes.

use clap::{Command, CommandFactory};

use super::Cli;

/// A command, and lines with what they are for.
type Examples = (
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
);

const ALL: &[Examples] = &[
    (
        &["config", "check"],
        &[
            (
                "understudy config check",
                "every error at once, with its place",
            ),
            (
                "understudy -c new.toml config check",
                "before it replaces the old one",
            ),
        ],
    ),
    (
        &["config", "example"],
        &[(
            "understudy config example > understudy.toml",
            "every setting with its meaning",
        )],
    ),
    (
        &["config", "reference"],
        &[(
            "understudy config reference > configuration.md",
            "every table and key, its values and defaults",
        )],
    ),
    (
        &["config", "schema"],
        &[(
            "understudy config schema > understudy.schema.json",
            "for editors that complete and check TOML",
        )],
    ),
    (
        &["init"],
        &[
            ("understudy init", "asks for all of it"),
            (
                "understudy init --address db2 --user understudy --password-file /root/pw",
                "without questions",
            ),
            (
                "understudy init --address db1:3306 --credentials /etc/mysql/u.cnf --dry-run",
                "only what it would write",
            ),
        ],
    ),
    (
        &["run"],
        &[
            (
                "understudy run db2 --dry-run",
                "what would be done, how far it would be proven",
            ),
            ("understudy run db2", "one night of one replica"),
            (
                "understudy -q run --all",
                "every replica's; for cron, says only errors",
            ),
        ],
    ),
    (
        &["methods"],
        &[
            (
                "understudy methods db2",
                "which way for this server, with what was measured here",
            ),
            ("understudy -o json methods db2", "the same for a script"),
        ],
    ),
    (
        &["history"],
        &[
            ("understudy history", "the last 14 runs of each server"),
            ("understudy history db2 --last 90", "a quarter of a year"),
            (
                "understudy -o json history db2",
                "for scripts, with the medians of two weeks",
            ),
        ],
    ),
    (
        &["setup"],
        &[
            (
                "understudy setup lab --dry-run",
                "what stands against it, or would be done",
            ),
            ("understudy setup lab", "from the source's binary logs"),
            (
                "understudy setup lab --replica db3 --provision dump",
                "a replica that has nothing yet",
            ),
            (
                "understudy setup lab --semi-sync",
                "commits wait until a replica has them",
            ),
        ],
    ),
    (
        &["switchover"],
        &[
            (
                "understudy switchover lab --dry-run",
                "the plan of this minute",
            ),
            (
                "understudy switchover lab --to db2",
                "asks, then moves the role",
            ),
            (
                "understudy switchover lab --grace 30s --yes",
                "gives open transactions half a minute",
            ),
        ],
    ),
    (
        &["failover"],
        &[
            (
                "understudy failover lab --unfenced --dry-run",
                "who would take over, and why not the others",
            ),
            (
                "understudy failover lab --unfenced",
                "the old source is off, you have seen to it",
            ),
            (
                "understudy failover lab --to db3 --max-loss 0",
                "only if nothing is lost",
            ),
        ],
    ),
    (
        &["rejoin"],
        &[
            ("understudy rejoin db1", "closes it, then makes it follow"),
            (
                "understudy rejoin db1 --rollback",
                "has more than the source: back to a snapshot that fits",
            ),
            (
                "understudy rejoin db1 --provision clone",
                "or with the source's data",
            ),
        ],
    ),
    (
        &["repoint"],
        &[(
            "understudy repoint db3 --to db2",
            "db3 follows db2 from now on",
        )],
    ),
    (
        &["pause"],
        &[(
            "understudy pause db2 --for 1h",
            "ended by its watchdog at the latest",
        )],
    ),
    (
        &["resume"],
        &[("understudy resume db2", "ends a pause, whoever's it is")],
    ),
    (
        &["recover"],
        &[
            ("understudy recover", "all that interrupted operations left"),
            ("understudy recover db2", "only what concerns db2"),
        ],
    ),
    (
        &["status"],
        &[
            ("understudy status", "every pair of the configuration"),
            ("understudy status lab --watch", "drawn anew until Ctrl-C"),
            ("understudy -o json status lab", "for scripts"),
        ],
    ),
    (
        &["check"],
        &[
            (
                "understudy check lab",
                "for Nagios, Icinga, Zabbix: its exit code tells",
            ),
            (
                "understudy check lab --warning-lag 5m --critical-lag 1h",
                "other limits",
            ),
            ("understudy -o prometheus check", "for Prometheus"),
        ],
    ),
    (
        &["doctor"],
        &[
            (
                "understudy doctor",
                "what would stop a snapshot or a failover, with the cure",
            ),
            ("understudy doctor lab", "of one pair"),
        ],
    ),
    (
        &["grants"],
        &[
            (
                "understudy grants db2",
                "SQL for accounts that may do one thing only",
            ),
            (
                "understudy grants db2 --host 192.0.2.5",
                "for a connection from there",
            ),
        ],
    ),
    (
        &["heartbeat"],
        &[(
            "understudy heartbeat db1 --forever",
            "the time, written on the source: true lag",
        )],
    ),
    (
        &["completions"],
        &[(
            "understudy completions bash > /etc/bash_completion.d/understudy",
            "for everybody",
        )],
    ),
    (
        &["man"],
        &[(
            "understudy man /usr/local/share/man/man1",
            "a page for each command",
        )],
    ),
    (
        &["snapshot", "create"],
        &[
            (
                "understudy snapshot create db2 --dry-run",
                "what would be taken, from where",
            ),
            (
                "understudy snapshot create db2 --verify",
                "and proven by a server that comes up on it",
            ),
            (
                "understudy snapshot create db2 --label upgrade --hold",
                "kept until it is released",
            ),
        ],
    ),
    (
        &["snapshot", "list"],
        &[
            ("understudy snapshot list", "newest first"),
            ("understudy -o json snapshot list db2", "for scripts"),
        ],
    ),
    (
        &["snapshot", "show"],
        &[(
            "understudy snapshot show latest:db2",
            "all that is known of it",
        )],
    ),
    (
        &["snapshot", "delete"],
        &[(
            "understudy snapshot delete db2-20261122",
            "any beginning of an id that only one has",
        )],
    ),
    (
        &["snapshot", "hold"],
        &[(
            "understudy snapshot hold latest:db2",
            "neither deleted nor pruned any more",
        )],
    ),
    (
        &["snapshot", "release"],
        &[(
            "understudy snapshot release latest:db2",
            "the rules hold for it again",
        )],
    ),
    (
        &["snapshot", "prune"],
        &[
            (
                "understudy snapshot prune --dry-run",
                "what each rule keeps, and what none does",
            ),
            ("understudy snapshot prune db2 --yes", "deletes that"),
        ],
    ),
    (
        &["snapshot", "verify"],
        &[
            (
                "understudy snapshot verify latest:db2",
                "a server comes up on a clone",
            ),
            (
                "understudy snapshot verify latest:db2 --level rows",
                "and has the rows that the logs say",
            ),
        ],
    ),
    (
        &["snapshot", "mount"],
        &[
            (
                "understudy snapshot mount latest:db2 /mnt",
                "to look into it",
            ),
            (
                "understudy snapshot mount latest:db2 /mnt --writable",
                "a clone, for a server of yours",
            ),
        ],
    ),
    (
        &["snapshot", "unmount"],
        &[(
            "understudy snapshot unmount latest:db2",
            "a clone's changes are gone then",
        )],
    ),
    (
        &["snapshot", "extract"],
        &[
            (
                "understudy snapshot extract latest:db2 --table lab.mouse --to mouse.sql",
                "one table as SQL",
            ),
            (
                "understudy snapshot extract latest:db2 --table lab.mouse --into db1 --missing-rows",
                "rows that were deleted come back",
            ),
            (
                "understudy snapshot extract latest:db2 --table lab.mouse --where mouse_id=5 \
                 --with-children --dry-run",
                "how many rows hang on one",
            ),
            (
                "understudy snapshot extract latest:db2 --table lab.mouse --where mouse_id=5 \
                 --with-parents --with-children --to mouse-5.sql",
                "one with all that loads it into an empty server",
            ),
        ],
    ),
    (
        &["snapshot", "restore"],
        &[
            (
                "understudy snapshot restore latest:db2 --to /srv/copy",
                "a copy that boots",
            ),
            (
                "understudy snapshot restore db2-20261122 --in-place",
                "in place of the server's data; asks first",
            ),
        ],
    ),
];

/// The command line with its examples.
pub fn command() -> Command {
    let with_all = |command, (path, lines): &Examples| within(command, path, &text(lines));
    ALL.iter().fold(Cli::command(), with_all)
}

fn within(command: Command, path: &[&str], text: &str) -> Command {
    match path.split_first() {
        None => command.after_help(text.to_owned()),
        Some((name, rest)) => command.mut_subcommand(*name, |inner| within(inner, rest, text)),
    }
}

/// What each is for stands behind it where both fit a line, else below it.
fn text(lines: &[(&str, &str)]) -> String {
    let longest = lines.iter().map(|(line, _)| line.len()).max().unwrap_or(0);
    let shown = lines.iter().map(|(line, what)| {
        match lines
            .iter()
            .all(|(_, what)| 2 + longest + 3 + what.len() <= 80)
        {
            true => format!("\n  {line:longest$}   {what}"),
            false => format!("\n  {line}\n      {what}"),
        }
    });
    std::iter::once("Examples:".to_owned())
        .chain(shown)
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn leaves(command: &Command, path: &[String], into: &mut Vec<Vec<String>>) {
        let inner: Vec<&Command> = command.get_subcommands().collect();
        if inner.is_empty() {
            into.push(path.to_vec());
        }
        for one in inner.into_iter().filter(|one| one.get_name() != "help") {
            leaves(one, &[path, &[one.get_name().to_owned()]].concat(), into);
        }
    }

    #[test]
    fn every_command_has_examples() {
        let mut all = Vec::new();
        leaves(&Cli::command(), &[], &mut all);
        let has = |path: &Vec<String>| ALL.iter().any(|(own, _)| *own == path.as_slice());
        let without: Vec<_> = all.iter().filter(|path| !has(path)).collect();
        assert!(without.is_empty(), "{without:?}");
        assert_eq!(all.len(), ALL.len(), "one of a command that is gone");
        command().debug_assert();
    }

    #[test]
    fn every_example_is_one_of_its_command_that_is_taken() {
        for (path, lines) in ALL {
            for (line, what) in *lines {
                let (line, _) = line.split_once(" > ").unwrap_or((line, ""));
                let words: Vec<&str> = line.split(' ').collect();
                if let Err(error) = Cli::try_parse_from(&words) {
                    panic!("{line}: {error}");
                }
                let named = path.iter().all(|name| words.contains(name));
                assert!(named && !what.is_empty(), "{line}");
                assert!(line.len() <= 78 || what.len() < 78, "{line}");
            }
        }
    }
}
