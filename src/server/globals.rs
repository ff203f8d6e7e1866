//! Global variables that we change for a while, or that a restart by us would forget: as they were,
//! and set back.

use serde::{Deserialize, Serialize};

use super::flavour::quote_name;
use super::session::{READ_LIMIT, Session, SessionError};

/// What is often set on the running server only, so that its next start forgets it: that must not
/// make a replica writable, wake its events or let clients in. In the order in which it is set back,
/// what keeps writers out first; super_read_only after read_only, which bends it.
pub const FORGOTTEN: [&str; 8] = [
    "read_only",
    "super_read_only",
    "offline_mode",
    "event_scheduler",
    "rpl_semi_sync_source_enabled",
    "rpl_semi_sync_master_enabled",
    "rpl_semi_sync_replica_enabled",
    "rpl_semi_sync_slave_enabled",
];

/// One variable as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalBefore {
    pub name: String,
    /// A number; ON and OFF are 1 and 0.
    pub value: String,
}

impl GlobalBefore {
    /// `None` for what is no number, and so nothing that we set (`event_scheduler = DISABLED`).
    pub fn of(name: &str, value: &str) -> Option<Self> {
        Some(Self {
            name: name.to_owned(),
            value: number(value)?,
        })
    }
}

fn number(value: &str) -> Option<String> {
    match value {
        "ON" => Some("1".to_owned()),
        "OFF" => Some("0".to_owned()),
        number => number.parse::<f64>().ok().map(|_| number.to_owned()),
    }
}

/// Those of [`FORGOTTEN`] that this server has, in their order.
pub fn observe_forgotten(session: Session) -> Result<(Session, Vec<GlobalBefore>), SessionError> {
    let names = FORGOTTEN.map(|name| format!("'{name}'")).join(", ");
    let statement = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})");
    let (session, rows) = session.query(&statement, READ_LIMIT)?;
    let value = |name: &str| {
        let row = rows.iter().find(|row| row.at(0) == Some(name))?;
        GlobalBefore::of(name, row.at(1)?)
    };
    let found = FORGOTTEN.iter().filter_map(|name| value(name)).collect();
    Ok((session, found))
}

/// Sets back what differs, in the given order; a line for each.
pub fn restore(
    mut session: Session,
    globals: &[GlobalBefore],
) -> Result<(Session, Vec<String>), SessionError> {
    let mut actions = Vec::new();
    for global in globals {
        let name = quote_name(&global.name);
        let (back, now) = session.value(&format!("SELECT @@GLOBAL.{name}"), READ_LIMIT)?;
        session = back;
        if now.as_deref().and_then(number).as_ref() == Some(&global.value) {
            continue;
        }
        let statement = format!("SET GLOBAL {name} = {}", global.value);
        session = session.execute(&statement, READ_LIMIT)?;
        actions.push(format!("set {} back to {}", global.name, global.value));
    }
    Ok((session, actions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_set_back_is_kept() {
        let value = |text: &str| GlobalBefore::of("x", text).map(|global| global.value);
        assert_eq!(value("ON").as_deref(), Some("1"));
        assert_eq!(value("OFF").as_deref(), Some("0"));
        assert_eq!(value("90.5").as_deref(), Some("90.5"));
        assert_eq!(value("DISABLED"), None);
    }
}
