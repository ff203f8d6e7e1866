//! What is open on the servers and what their accounts may do: what of it stands against a change of
//! roles, and what is only to be known before. No effects.

use std::time::Duration;

use crate::health::picture::Picture;
use crate::server::Flavour;
use crate::server::burden::Burden;
use crate::server::held::Held;
use crate::server::privileges::{Need, Needed};
use crate::snapshot::SnapshotError;
use crate::snapshot::error::Refusal;
use crate::sys::Fact;
use crate::sys::words::counted;

/// By the servers' places; `None` for one that didn't answer.
pub type Burdens = Vec<Option<Burden>>;

/// Statements and transactions of clients that are older are told of.
pub const LONG: Duration = Duration::from_secs(1);

/// More of a kind isn't told one by one.
const TOLD_MAX: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Switchover,
    Failover,
}

/// What stands against it; then what doesn't, and is worth knowing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked {
    pub refusals: Vec<Refusal>,
    pub notes: Vec<Refusal>,
}

impl Looked {
    pub fn and(mut self, other: Self) -> Self {
        self.refusals.extend(other.refusals);
        self.notes.extend(other.notes);
        self
    }
}

/// Whether the account of one server may do all that the change needs there.
pub fn privileges(name: &str, burden: Option<&Burden>, change: Change) -> Looked {
    let Some(burden) = burden else {
        return Looked::default();
    };
    let stops = |need| match (need, change) {
        (Need::Always, _) | (Need::Planned, Change::Switchover) => true,
        (Need::Planned, Change::Failover) | (Need::Told, _) => false,
    };
    allowed(name, &burden.privileges, Flavour::moves_roles, stops)
}

/// Whether the account of one server has all of a table there; what of it `stops`.
pub fn allowed(
    name: &str,
    held: &Fact<Held>,
    table: impl Fn(&Flavour) -> Vec<Needed>,
    stops: impl Fn(Need) -> bool,
) -> Looked {
    let mut looked = Looked::default();
    let hint = format!("`understudy grants {name}` prints what is needed.");
    let held = match held {
        Fact::Known(held) => held,
        Fact::Unknown(reason) => {
            let reason =
                format!("what understudy's account may do on {name} isn't known: {reason}");
            looked.notes.push(Refusal::new(reason, hint));
            return looked;
        }
    };
    for needed in held.missing(&table(held.flavour())) {
        let (words, hint) = match held.has_idle_role {
            true => (
                format!(
                    "whether understudy's account may {} on {name} isn't known: {} would have to come \
                     with a role that isn't active",
                    needed.to,
                    needed.words()
                ),
                "Make its roles default ones (SET DEFAULT ROLE), or grant it directly.".to_owned(),
            ),
            false => {
                let whom = held.account.as_deref().unwrap_or("its account");
                let grant = format!("GRANT {} ON {} TO {whom}", needed.name, needed.on);
                (lacks(name, &needed), format!("On {name}: {grant}; {hint}"))
            }
        };
        let refusal = Refusal::new(words, hint);
        match stops(needed.need) && !held.has_idle_role {
            true => looked.refusals.push(refusal),
            false => looked.notes.push(refusal),
        }
    }
    looked
}

/// What stands against turning one replica, or taking one back, before anything else is looked at: an
/// account that lacks something may not even see the rest.
pub fn refuse_missing(looked: Looked) -> Result<(), SnapshotError> {
    for note in &looked.notes {
        tracing::warn!(hint = %note.hint, "{}", note.reason);
    }
    match looked.refusals.is_empty() {
        true => Ok(()),
        false => Err(SnapshotError::Refused {
            refusals: looked.refusals,
        }),
    }
}

fn lacks(name: &str, needed: &Needed) -> String {
    format!(
        "understudy's account lacks {} on {name}: without it it can't {}",
        needed.words(),
        needed.to
    )
}

/// Of all servers that answered, those of one kind told once.
pub fn all_privileges(picture: &Picture<'_>, burdens: &Burdens, change: Change) -> Looked {
    let servers = picture.view.servers.iter().zip(burdens);
    servers
        .map(|(server, burden)| privileges(&server.name, burden.as_ref(), change))
        .fold(Looked::default(), Looked::and)
}

/// What is open on the source of a switchover.
pub fn of_source(name: &str, burden: &Burden) -> Looked {
    let mut looked = Looked::default();
    match &burden.prepared {
        Fact::Known(ids) if ids.is_empty() => {}
        Fact::Known(ids) => looked.refusals.push(Refusal::new(
            format!(
                "{name} has {} prepared, which nobody could end afterwards: {}",
                counted(ids.len() as u64, "XA transaction"),
                some(ids.iter().cloned())
            ),
            "Let its transaction manager end them, or do it yourself: XA RECOVER lists them, XA COMMIT \
             or XA ROLLBACK ends one.",
        )),
        Fact::Unknown(reason) => looked.notes.push(Refusal::new(
            format!("whether XA transactions are prepared on {name} isn't known: {reason}"),
            format!("GRANT XA_RECOVER_ADMIN (`understudy grants {name}`); or see XA RECOVER."),
        )),
    }
    if let Fact::Known(transactions) = &burden.transactions {
        let long = transactions.iter().filter(|one| one.age > LONG);
        let words: Vec<String> = long.map(|one| one.words()).collect();
        looked.notes.extend(ended(name, &words));
    }
    if let Fact::Known(locks) = &burden.locks {
        let words: Vec<String> = locks.iter().map(|one| one.words()).collect();
        looked.notes.extend(ended(name, &words));
    }
    looked
}

fn ended(name: &str, words: &[String]) -> Option<Refusal> {
    (!words.is_empty()).then(|| {
        Refusal::new(
            format!("on {name} {}", some(words.iter().cloned())),
            "A switchover ends that with its session; --grace DURATION waits for it so long before.",
        )
    })
}

/// What its applier holds open on whoever takes over.
pub fn of_candidate(name: &str, burden: &Burden, change: Change) -> Option<Refusal> {
    open_tables(name, *burden.temp_tables.known()?, change)
}

/// Replicated temporary tables that would be lost.
pub fn open_tables(name: &str, count: u64, change: Change) -> Option<Refusal> {
    (count > 0).then(|| {
        let tables = counted(count, "replicated temporary table");
        match change {
            Change::Switchover => Refusal::new(
                format!("{tables} of sessions on its source would be lost with {name}: a switchover waits until there is none"),
                "End the sessions that made them; with binlog_format = ROW they aren't replicated.",
            ),
            Change::Failover => Refusal::new(
                format!("{tables} of sessions that are gone would be lost with {name}"),
                "What is still to be written to them is lost too: see that the jobs that made them are run again.",
            ),
        }
    })
}

fn some(mut words: impl ExactSizeIterator<Item = String>) -> String {
    let count = words.len();
    let told: Vec<String> = words.by_ref().take(TOLD_MAX).collect();
    let more = match count.saturating_sub(TOLD_MAX) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("{}{more}", told.join("; "))
}
