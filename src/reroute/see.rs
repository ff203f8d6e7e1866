//! A connection through what clients use: whom does it reach?

use std::sync::mpsc;
use std::thread::sleep;
use std::time::Duration;

use super::act::{Fault, RerouteAct, Seen};
use super::budget::Budget;
use crate::config::{Address, Reroute, TlsMode, credentials};
use crate::server::session::{Session, Target};

const TRY_EVERY: Duration = Duration::from_millis(200);
/// One try may not eat all the time: the way may need a moment until it leads there.
const TRY_LIMIT: Duration = Duration::from_secs(2);

/// `asked` is what the way itself says, where it can be asked.
pub(super) fn see(act: &RerouteAct, asked: Option<bool>, budget: Budget) -> Result<Seen, Fault> {
    let to = &act.to.server;
    if asked == Some(false) {
        return Err(Fault::new(
            format!("it doesn't lead to {to}"),
            "Was it done, and has something else changed it since?",
        ));
    }
    match (through(act), asked) {
        (Some(through), _) => connect(act, &through, budget),
        (None, Some(_)) => Ok(Seen::Asked(format!("it says that it leads to {to}"))),
        (None, None) => Ok(Seen::Unseen),
    }
}

/// What is configured; for an address that moves that very one, at the server's port.
fn through(act: &RerouteAct) -> Option<Address> {
    let own = match (&act.reroute.way, &act.to.address) {
        (Reroute::Vip { address, .. }, Address::Tcp { port, .. }) => Some(Address::Tcp {
            host: address.to_string(),
            port: *port,
        }),
        (_, _) => None,
    };
    act.reroute.through.clone().or(own)
}

fn connect(act: &RerouteAct, through: &Address, budget: Budget) -> Result<Seen, Fault> {
    let target = target(act, through)?;
    loop {
        let limit = budget.left()?.min(TRY_LIMIT);
        let reason = match identity(&target, limit) {
            Ok(identity) if identity == act.to.identity => {
                return Ok(Seen::Reached {
                    through: through.clone(),
                });
            }
            Ok(identity) => format!(
                "{identity} answers there, not {} ({})",
                act.to.server, act.to.identity
            ),
            Err(reason) => reason,
        };
        if budget.is_over() || budget.left()? < TRY_EVERY {
            return Err(Fault::new(
                format!(
                    "clients don't reach {} through {through}: {reason}",
                    act.to.server
                ),
                "Connect there with a client; the account must be allowed to log in from where it arrives.",
            ));
        }
        sleep(TRY_EVERY);
    }
}

/// A name that nobody resolves, or an answer that never ends, costs the limit and no more: the thread
/// that waits for it only reads.
fn identity(target: &Target, limit: Duration) -> Result<crate::server::Identity, String> {
    let (sender, receiver) = mpsc::channel();
    let target = target.clone();
    std::thread::spawn(move || {
        let found =
            Session::connect_within(&target, limit).map(|session| session.identity().clone());
        drop(sender.send(found.map_err(|error| error.to_string())));
    });
    receiver
        .recv_timeout(limit)
        .unwrap_or_else(|_| Err("no answer within the time limit".to_owned()))
}

fn target(act: &RerouteAct, through: &Address) -> Result<Target, Fault> {
    let to = &act.to;
    let credentials = match &to.credentials {
        Some(path) => {
            credentials::load(path).map_err(|error| Fault::new(error.to_string(), error.hint()))?
        }
        None => credentials::Credentials::default(),
    };
    Ok(Target {
        server: to.server.clone(),
        address: through.clone(),
        user: credentials.user.unwrap_or_else(|| "root".to_owned()),
        password: credentials.password.unwrap_or_default(),
        // Its certificate is for the server's own name, which isn't what clients use here.
        tls: match to.tls {
            TlsMode::VerifyFull => TlsMode::VerifyCa,
            TlsMode::Disabled | TlsMode::Required | TlsMode::VerifyCa => to.tls,
        },
        tls_ca: to.tls_ca.clone(),
    })
}
