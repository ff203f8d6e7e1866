//! The steps of everything that moves roles, in their order: their names (also in journals, reports and
//! `--dry-run`), what each does, and what becomes of it when the operation stops there. The tables and
//! pictures of docs/FAILOVER.md are made from it. No effects.

use crate::journal::act::Act;

pub const LOOK: &str = "look";
pub const SEMI_SYNC: &str = "semi-sync";
pub const TABLE: &str = "table";
pub const GRACE: &str = "grace";
pub const APPROACH: &str = "approach";
pub const EVENTS: &str = "events";
pub const EVIDENCE: &str = "evidence";
pub const DRAIN: &str = "drain";
pub const ELECT: &str = "elect";
pub const SALVAGE: &str = "salvage";
pub const FENCE: &str = "fence";
pub const WAIT: &str = "wait";
pub const BRING: &str = "bring";
pub const OPEN: &str = "open";
pub const REROUTE: &str = "reroute";
pub const UNLINK: &str = "unlink";
pub const KEEP: &str = "keep";
pub const CLOSE: &str = "close";
pub const EXPORT: &str = "export";
pub const ROLLBACK: &str = "rollback";
/// Its report has the steps of `setup` in its place.
pub const PROVISION: &str = "provision";
pub const FOLLOW: &str = "follow";
pub const PROOF: &str = "proof";

/// What becomes of a step when a later one fails, or everything is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undo {
    /// It has changed nothing.
    Nothing,
    /// Undone, in these words.
    By(&'static str),
    /// It stays, on purpose.
    Stays(&'static str),
    /// An operation of its own, with undoes of its own.
    Own(&'static str),
    /// No way back: whatever comes, it is done to its end.
    Carried(&'static str),
    /// Only looked at, when everything is done.
    Told(&'static str),
}

impl Undo {
    fn words(self) -> &'static str {
        match self {
            Self::Nothing => "–",
            Self::By(words)
            | Self::Stays(words)
            | Self::Own(words)
            | Self::Carried(words)
            | Self::Told(words) => words,
        }
    }

    fn lane(self) -> &'static str {
        match self {
            Self::Nothing | Self::By(_) => "undone if it stops here",
            Self::Stays(_) => "stays as it is",
            Self::Own(_) => "operations of their own",
            Self::Carried(_) | Self::Told(_) => "carried through",
        }
    }
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub name: &'static str,
    /// Not only where there is something for it to do.
    pub always: bool,
    pub what: &'static str,
    pub undo: Undo,
}

/// A command's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    pub command: &'static str,
    pub rows: &'static [Row],
}

const fn always(name: &'static str, what: &'static str, undo: Undo) -> Row {
    Row {
        name,
        always: true,
        what,
        undo,
    }
}

const fn maybe(name: &'static str, what: &'static str, undo: Undo) -> Row {
    Row {
        always: false,
        ..always(name, what, undo)
    }
}

const CARRIED: Undo = Undo::Carried("carried through");

const OPENED: Row = always(
    OPEN,
    "the candidate takes writes: **the point of no return**; what remains was journalled before",
    CARRIED,
);
const REROUTED: Row = maybe(
    REROUTE,
    "clients are led there, by all configured ways side by side",
    CARRIED,
);
const UNLINKED: Row = always(UNLINK, "the candidate ends its own replication", CARRIED);
const WOKEN: Row = maybe(EVENTS, "woken on the new source", CARRIED);
const PROVEN: Undo = Undo::Told("told");

const SWITCHOVER: &[Row] = &[
    always(
        LOOK,
        "roles, GTID, binary log, delay, filters, errant transactions, lag, XA transactions, the privileges \
         of our account, the replication account, the ways of clients",
        Undo::Nothing,
    ),
    maybe(
        SEMI_SYNC,
        "where commits wait for replicas: is there one whose acknowledgement doesn't come, the source stops \
         waiting",
        Undo::By("it waits again"),
    ),
    always(
        TABLE,
        "`understudy.marker` is there on the source, for writes of our own",
        Undo::By("dropped, if it wasn't there"),
    ),
    maybe(
        GRACE,
        "only with `--grace`: what clients have begun may end by itself",
        Undo::Nothing,
    ),
    always(
        APPROACH,
        "wait until the candidate is within 100 ms and has no replicated temporary table open, and no \
         statement of a client runs for longer than a second",
        Undo::Nothing,
    ),
    maybe(
        EVENTS,
        "those that run are parked on the source, out of the binary log",
        Undo::By("woken again"),
    ),
    always(
        FENCE,
        "`super_read_only` (MariaDB: `read_only`, then a held `FLUSH TABLES WITH READ LOCK`); client \
         sessions ended; the position read twice and equal",
        Undo::By("read_only off; the lock goes with its connection"),
    ),
    always(WAIT, "the candidate has that very position", Undo::Nothing),
    OPENED,
    maybe(
        SEMI_SYNC,
        "where the old source's commits waited for replicas, the new one's do now, with its timeout, wait \
         point and count",
        CARRIED,
    ),
    REROUTED,
    UNLINKED,
    WOKEN,
    maybe(
        KEEP,
        "on MySQL the new source forgets its persisted read_only, the old one persists it: both start as what \
         they are now. On MariaDB their option files have to say it (`doctor` tells; see *After a restart*)",
        CARRIED,
    ),
    maybe(SEMI_SYNC, "the old source acknowledges", CARRIED),
    always(
        FOLLOW,
        "the old source and the other replicas follow by GTID; account, encryption, delay, heartbeat stay",
        Undo::Carried("carried through; who can't be reached is named"),
    ),
    always(
        PROOF,
        "a value written on the new source comes to everybody; everybody else is read-only",
        PROVEN,
    ),
];

const FAILOVER: &[Row] = &[
    always(
        LOOK,
        "who answers, who may become the source, the ways of clients, the programs",
        Undo::Nothing,
    ),
    always(
        EVIDENCE,
        "neither we (over `--confirm`) nor any replica reach the source: their IO threads are started anew",
        Undo::By("IO threads start again"),
    ),
    always(
        DRAIN,
        "the replicas apply what they have received",
        Undo::By("IO threads start again"),
    ),
    always(ELECT, "the one that has most", Undo::Nothing),
    always(
        SALVAGE,
        "what only the dead source's binary logs have is counted, and kept as SQL",
        Undo::By("removed"),
    ),
    always(
        FENCE,
        "the dead source is off: by the `fence` program, else by your word (`--unfenced`)",
        Undo::Stays("it stays off; the replicas fetch again"),
    ),
    maybe(
        BRING,
        "what was salvaged comes into the candidate, which is still closed; from here on there is no way back",
        Undo::Carried("carried through; what doesn't come is told, and counted as lost"),
    ),
    OPENED,
    maybe(
        SEMI_SYNC,
        "where the candidate acknowledged to the dead source, its own commits wait now",
        CARRIED,
    ),
    REROUTED,
    UNLINKED,
    WOKEN,
    maybe(
        KEEP,
        "on MySQL the new source forgets its persisted read_only",
        CARRIED,
    ),
    maybe(
        FOLLOW,
        "the other replicas follow by GTID",
        Undo::Carried("carried through; who can't be reached is named"),
    ),
    maybe(
        PROOF,
        "a value written on the new source comes to everybody; everybody else is read-only",
        PROVEN,
    ),
];

const REJOIN: &[Row] = &[
    always(
        LOOK,
        "who is the source now, and what this server has that it hasn't",
        Undo::Nothing,
    ),
    always(
        CLOSE,
        "nobody writes to the server, also after its restart on MySQL; then the same look again",
        Undo::Stays("it stays closed"),
    ),
    maybe(
        EXPORT,
        "what it alone has, as SQL with its GTIDs",
        Undo::Stays("what is whole is kept, half an export removed"),
    ),
    maybe(
        ROLLBACK,
        "with `--rollback`: back to a snapshot of before",
        Undo::Own("as `restore --in-place`"),
    ),
    maybe(
        PROVISION,
        "with `--provision`: the source's data, by the steps of `setup --replace`, which end this",
        Undo::Own("as `setup`"),
    ),
    maybe(SEMI_SYNC, "it acknowledges to the source", CARRIED),
    always(FOLLOW, "it follows the source by GTID", CARRIED),
    maybe(
        SEMI_SYNC,
        "the source's commits wait again, where nobody was left to acknowledge",
        CARRIED,
    ),
    maybe(
        EVENTS,
        "those that still run on it as on a source are parked",
        CARRIED,
    ),
    always(
        PROOF,
        "a value written on the source comes to it; it is read-only",
        PROVEN,
    ),
];

const REPOINT: &[Row] = &[
    always(
        LOOK,
        "whether the other server has all that the replica has",
        Undo::Nothing,
    ),
    always(
        FOLLOW,
        "the replica follows the other server, and is seen to",
        Undo::By("it follows its old source again"),
    ),
];

pub const PLANS: [Plan; 4] = [
    plan("switchover", SWITCHOVER),
    plan("failover", FAILOVER),
    plan("rejoin", REJOIN),
    plan("repoint", REPOINT),
];

const fn plan(command: &'static str, rows: &'static [Row]) -> Plan {
    Plan { command, rows }
}

/// The steps of one command.
pub fn of(command: &str) -> Option<Plan> {
    PLANS.into_iter().find(|plan| plan.command == command)
}

impl Plan {
    /// Why these aren't its steps in its order: each, once or several times in a row, and none left out
    /// that always is.
    pub fn against(&self, names: &[&str]) -> Option<String> {
        let mut rows = self.rows.iter();
        let mut last = None;
        for name in names {
            if last == Some(*name) {
                continue;
            }
            last = Some(name);
            loop {
                match rows.next() {
                    None => return Some(format!("{name} isn't a step at its place: {names:?}")),
                    Some(row) if row.name == *name => break,
                    Some(row) if row.always => {
                        return Some(format!("{} is missing before {name}: {names:?}", row.name));
                    }
                    Some(_) => {}
                }
            }
        }
        let left = rows.find(|row| row.always);
        left.map(|row| format!("{} is missing at the end: {names:?}", row.name))
    }

    /// Its steps as a table.
    pub fn table(&self) -> String {
        let mut text = String::from("| step | what | when it stops later |\n|---|---|---|\n");
        for row in self.rows {
            let name = match row.name == OPEN {
                true => format!("**{}**", row.name),
                false => row.name.to_owned(),
            };
            let name = if row.always {
                name
            } else {
                format!("[{name}]")
            };
            text.push_str(&format!(
                "| {name} | {} | {} |\n",
                row.what,
                row.undo.words()
            ));
        }
        text
    }

    /// Its steps as a picture: a line for each part of it that has the same way back.
    pub fn picture(&self) -> String {
        let mut lines: Vec<(&str, Vec<String>)> = Vec::new();
        for row in self.rows {
            let name = match row.always {
                true => row.name.to_owned(),
                false => format!("[{}]", row.name),
            };
            let lane = row.undo.lane();
            match lines.last_mut() {
                Some((last, names)) if *last == lane => names.push(name),
                Some(_) | None => lines.push((lane, vec![name])),
            }
        }
        let mut text = String::from("```text\n");
        for (lane, names) in &lines {
            let between = match *lane == Undo::Own("").lane() {
                true => " or ",
                false => " → ",
            };
            let names = names.join(between);
            text.push_str(&format!("{lane:<25}{names}\n"));
        }
        text + "```\n"
    }
}

/// The step that an act after the commit belongs to.
pub fn of_act(act: &Act) -> &'static str {
    match act {
        Act::Follow { .. } => FOLLOW,
        Act::Reroute { .. } => REROUTE,
        Act::Salvage { .. } => BRING,
        Act::Unmoved { .. } => OPEN,
        Act::Statements { words, .. } => of_words(words),
        _ => UNLINK,
    }
}

fn of_words(words: &str) -> &'static str {
    let first = words.split(' ').next().unwrap_or_default();
    match first {
        "wake" | "park" => EVENTS,
        "open" => OPEN,
        "keep" => KEEP,
        "semi-sync" => SEMI_SYNC,
        _ => UNLINK,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// With UPDATE_DOCS set it writes them instead.
    #[test]
    fn docs_have_the_steps() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/FAILOVER.md");
        let mut text = std::fs::read_to_string(&path).unwrap();
        for plan in PLANS {
            let begin = format!("<!-- steps of {} -->\n", plan.command);
            let (head, rest) = text.split_once(&begin).unwrap();
            let (own, tail) = rest.split_once("<!-- end of steps -->").unwrap();
            let made = format!("{}\n{}", plan.picture(), plan.table());
            if std::env::var_os("UPDATE_DOCS").is_some() {
                text = format!("{head}{begin}{made}<!-- end of steps -->{tail}");
                std::fs::write(&path, &text).unwrap();
            } else {
                assert!(own == made, "run: UPDATE_DOCS=1 cargo test --lib docs_have");
            }
        }
    }

    #[test]
    fn steps_are_those_of_the_plan_in_its_order() {
        let repoint = of("repoint").unwrap();
        assert_eq!(repoint.against(&["look", "follow"]), None);
        for (names, words) in [
            (&["follow"][..], "look is missing before follow"),
            (&["look"], "follow is missing at the end"),
            (&["look", "follow", "look"], "look isn't a step"),
            (&["look", "proof"], "follow is missing before proof"),
        ] {
            let why = repoint.against(names).unwrap();
            assert!(why.contains(words), "{why}");
        }
        let rejoin = of("rejoin").unwrap();
        let names = ["look", "close", "rollback", "rollback", "follow", "proof"];
        assert_eq!(rejoin.against(&names), None);
    }

    #[test]
    fn the_picture_parts_where_there_is_no_way_back() {
        let picture = of("switchover").unwrap().picture();
        let lines: Vec<&str> = picture.lines().collect();
        assert!(lines[1].ends_with("→ wait"), "{picture}");
        assert!(
            lines[2].starts_with("carried through          open →"),
            "{picture}"
        );
        assert_eq!(lines.len(), 4, "{picture}");
    }
}
