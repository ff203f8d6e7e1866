//! The accounts of a server: who they are, how each is made, and making them on another one.

use std::time::Duration;

use super::pair::Account;
use super::session::{READ_LIMIT, ServerError, Session, SessionError};

const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

/// An account as its server shows it. The statements hold hashes of passwords: they are secrets.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shown {
    pub account: Account,
    /// `None` where it is made by its first grant (MySQL before 5.7.6).
    pub create: Option<String>,
    pub grants: Vec<String>,
}

/// All but those of the server itself.
pub fn observe(session: Session) -> Result<(Session, Vec<Account>), SessionError> {
    let statement = session.flavour().accounts_query();
    let (session, rows) = session.query(statement, READ_LIMIT)?;
    let accounts = rows
        .iter()
        .filter_map(|row| {
            Some(Account {
                user: row.at(0)?.to_owned(),
                host: row.at(1)?.to_owned(),
                is_role: row.at(2) == Some("Y"),
            })
        })
        .collect();
    Ok((session, accounts))
}

/// How these are made.
pub fn show(session: Session, accounts: &[Account]) -> Result<(Session, Vec<Shown>), SessionError> {
    let flavour = session.flavour().clone();
    let mut session = session;
    if let Some(statement) = flavour.show_hashes_as_hex() {
        session = session.execute(statement, READ_LIMIT)?;
    }
    let mut shown = Vec::new();
    for account in accounts {
        let words = format!("CREATE USER {account}");
        let create = match flavour.show_account(account) {
            None if account.is_role => Some(flavour.create_role(account)),
            None => None,
            Some(statement) => {
                let (back, row) = session.query_secret(&statement, &words, READ_LIMIT)?;
                session = back;
                row.first().and_then(|row| row.at(0)).map(str::to_owned)
            }
        };
        let statement = flavour.show_grants(account);
        let (back, rows) = session.query_secret(&statement, &words, READ_LIMIT)?;
        session = back;
        let lines = rows.iter().filter_map(|row| row.at(0)).map(str::to_owned);
        shown.push(Shown {
            account: account.clone(),
            create,
            grants: lines.collect(),
        });
    }
    Ok((session, shown))
}

/// Makes them on a server that has none of them.
pub fn make(session: Session, accounts: &[Shown]) -> Result<Session, SessionError> {
    let creates = accounts.iter().filter_map(|shown| {
        let words = format!("CREATE USER {}", shown.account);
        Some((words, shown.create.clone()?))
    });
    let mut session = create_all(session, creates.collect())?;
    // Only now, since they may name each other.
    for shown in accounts {
        let words = format!("GRANT to {}", shown.account);
        for grant in &shown.grants {
            session = session.execute_secret(grant, &words, STATEMENT_LIMIT)?;
        }
    }
    Ok(session)
}

/// An account may name a role that is one of those still to come.
fn create_all(session: Session, creates: Vec<(String, String)>) -> Result<Session, SessionError> {
    let mut session = session;
    let mut pending = creates;
    loop {
        let before = pending.len();
        let mut left = Vec::new();
        for (shown, statement) in pending {
            let (back, answer) = session.attempt_secret(&statement, &shown, STATEMENT_LIMIT)?;
            session = back;
            match answer {
                Ok(_) => {}
                Err(error) if error.code == ServerError::UNKNOWN_ACCOUNT => {
                    left.push((shown, statement));
                }
                Err(error) => {
                    return Err(SessionError::Server {
                        server: session.target().server.clone(),
                        statement: shown,
                        error,
                    });
                }
            }
        }
        match left.first() {
            None => return Ok(session),
            // Nothing came of a whole round: it says why.
            Some((shown, statement)) if left.len() == before => {
                return session.execute_secret(statement, shown, STATEMENT_LIMIT);
            }
            Some(_) => pending = left,
        }
    }
}
