//! Leading clients to a new source.

use super::ActError;
use crate::reroute::{self, RerouteAct};

/// A line of what was done; what failed, with its cure, of all ways together.
pub fn lead(ways: &[RerouteAct]) -> Result<String, ActError> {
    let came = reroute::side_by_side(ways, |way| {
        let done = reroute::perform(way)?;
        Ok((done, reroute::see(way)?))
    });
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for (way, came) in ways.iter().zip(came) {
        match came {
            Ok((came, seen)) => {
                let word = way.reroute.way.name();
                let what = match came.outcome {
                    reroute::Outcome::Changed(what) => what,
                    reroute::Outcome::AlreadySo => "so already".to_owned(),
                };
                let seen = match seen {
                    reroute::Seen::Reached { through } => format!(", reached through {through}"),
                    reroute::Seen::Asked(words) => format!(", {words}"),
                    reroute::Seen::Unseen => ", not looked through".to_owned(),
                };
                done.push(format!("{word}: {what}{seen}"));
                done.extend(came.warnings);
            }
            Err(error) => failed.push(format!("{error} ({})", error.hint)),
        }
    }
    match failed.is_empty() {
        true => Ok(done.join("; ")),
        false => Err(ActError::Reroute(failed.join("; "))),
    }
}
