//! Proving that InnoDB writes nothing while its files are read one by one.
//!
//! Neither a stopped applier nor a read lock stops InnoDB's background writes: dirty pages, purge,
//! checkpoints, statistics. So they are driven to rest, and the server's own write counters must be
//! the same after the walk as before it; else the copy is torn and not kept.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::server::session::{READ_LIMIT, Session, SessionError};

/// Between two looks at counters that should stand still.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Equal looks in a row before the walk begins.
const EQUAL_LOOKS: usize = 2;

/// The server's write counters at one moment, as it printed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    values: Vec<(String, String)>,
}

impl Counters {
    /// Nothing dirty and nothing on its way to disk.
    pub fn is_idle(&self) -> bool {
        self.values
            .iter()
            .filter(|(name, _)| is_gauge(name))
            .all(|(_, value)| value == "0")
    }

    /// The first counter that differs, for the message.
    pub fn difference(&self, other: &Self) -> Option<String> {
        self.values
            .iter()
            .zip(&other.values)
            .find(|(a, b)| a != b)
            .map(|((name, before), (_, after))| format!("{name} went from {before} to {after}"))
    }
}

/// These must be zero; the others must stand still.
fn is_gauge(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with("_dirty") || name.contains("_pending_")
}

/// Reads the counters; an answer without the essential ones is an error, never "all quiet".
pub fn observe_counters(session: Session) -> Result<(Session, Counters), SessionError> {
    const GAUGES: [&str; 5] = [
        "Innodb_buffer_pool_pages_dirty",
        "Innodb_data_pending_writes",
        "Innodb_data_pending_fsyncs",
        "Innodb_os_log_pending_writes",
        "Innodb_os_log_pending_fsyncs",
    ];
    const ESSENTIAL: [&str; 3] = [
        "Innodb_buffer_pool_pages_dirty",
        "Innodb_data_writes",
        "Innodb_os_log_written",
    ];
    let names: Vec<String> = GAUGES
        .iter()
        .chain(session.flavour().write_counters())
        .map(|name| format!("'{name}'"))
        .collect();
    let statement = format!(
        "SHOW GLOBAL STATUS WHERE Variable_name IN ({})",
        names.join(", ")
    );
    let (session, rows) = session.query(&statement, READ_LIMIT)?;
    let values: Vec<(String, String)> = rows
        .iter()
        .filter_map(|row| Some((row.at(0)?.to_owned(), row.at(1)?.to_owned())))
        .collect();
    for name in ESSENTIAL {
        if !values
            .iter()
            .any(|(found, _)| found.eq_ignore_ascii_case(name))
        {
            return Err(session.unexpected("SHOW GLOBAL STATUS", format!("no {name}")));
        }
    }
    Ok((session, Counters { values }))
}

/// Waits until several looks in a row are idle and equal, or `until`. `Err` inside: what still moved.
pub fn wait_until_quiet(
    mut session: Session,
    until: Instant,
    cancelled: &dyn Fn() -> bool,
) -> Result<(Session, Result<Counters, String>), SessionError> {
    let mut last: Option<Counters> = None;
    let mut equal = 1;
    let mut moved = "InnoDB never came to rest".to_owned();
    loop {
        let (back, now) = observe_counters(session)?;
        session = back;
        match &last {
            Some(before) if now.is_idle() && *before == now => equal += 1,
            Some(before) => {
                equal = 1;
                if let Some(difference) = before.difference(&now) {
                    tracing::trace!(%difference, "InnoDB isn't at rest yet");
                    moved = difference;
                }
            }
            None => {}
        }
        if equal >= EQUAL_LOOKS {
            return Ok((session, Ok(now)));
        }
        if Instant::now() >= until || cancelled() {
            return Ok((session, Err(moved)));
        }
        if !now.is_idle()
            && let Some(statement) = session.flavour().checkpoint_now()
        {
            let left = until.saturating_duration_since(Instant::now());
            (session, _) = session.attempt(statement, left.max(LOOK_AGAIN))?;
        }
        last = Some(now);
        sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(dirty: &str, writes: &str) -> Counters {
        Counters {
            values: vec![
                ("Innodb_buffer_pool_pages_dirty".into(), dirty.into()),
                ("Innodb_data_writes".into(), writes.into()),
            ],
        }
    }

    #[test]
    fn dirty_pages_are_not_idle_and_writes_are_a_difference() {
        assert!(!counters("3", "10").is_idle());
        assert!(counters("0", "10").is_idle());
        assert_eq!(counters("0", "10").difference(&counters("0", "10")), None);
        assert_eq!(
            counters("0", "10")
                .difference(&counters("0", "11"))
                .unwrap(),
            "Innodb_data_writes went from 10 to 11"
        );
    }
}
