//! Semi-synchronous replication moves with the roles, where the pair had it on: the source's side goes to
//! the new source, the replica's to the old one.

use crate::journal::Party;
use crate::journal::act::{Act, Rest};
use crate::server::semi_sync::{self, Side, Sides, set_now};
use crate::server::session::{READ_LIMIT, Session, SessionError};
use crate::snapshot::SnapshotError;
use crate::snapshot::error::Refusal;
use crate::sys::words::counted;

/// What moves.
#[derive(Debug, Clone, Default)]
pub struct Moving {
    switch: Option<String>,
    /// The old source's.
    sides: Sides,
    /// For the new source, once it is open; for the old one, before it follows.
    candidate: Vec<String>,
    old: Vec<String>,
    /// What doesn't move, and why.
    pub told: Vec<String>,
}

/// One server's part in it.
struct Part<'a> {
    party: &'a Party,
    sides: Sides,
}

impl<'a> Part<'a> {
    fn observe(party: &'a Party) -> Result<Self, SessionError> {
        let (_, sides) = semi_sync::observe(party.session()?)?;
        Ok(Self { party, sides })
    }

    /// Why a side of it can't be switched here.
    fn cannot(&self, side: Side) -> Result<Option<String>, SessionError> {
        let name = &self.party.name;
        let Some(switch) = self.sides.switch(side) else {
            let plugin = self.party.flavour.semi_sync_plugin(side);
            let plugin = plugin.map_or("it", |plugin| plugin.name);
            return Ok(Some(format!("{name} hasn't the plugin {plugin}")));
        };
        // Tried with the value that it has.
        let value = if self.sides.is_on(side) { "ON" } else { "OFF" };
        let session = self.party.session()?;
        let (_, answer) = session.attempt(&set_now(&switch, value), READ_LIMIT)?;
        Ok(answer.err().map(|error| format!("{name}: {error}")))
    }

    fn becomes_source(&self, settings: &[(String, String)], waits: bool) -> Vec<String> {
        let flavour = &self.party.flavour;
        let settings = settings
            .iter()
            .map(|(name, value)| flavour.set_kept(name, value));
        let on = self.switch(Side::Source, "ON").filter(|_| waits);
        settings
            .chain(on)
            .chain(self.switch(Side::Replica, "OFF"))
            .collect()
    }

    /// Also where its own source's side would hold its applier up.
    fn becomes_replica(&self) -> Vec<String> {
        let off = self.switch(Side::Source, "OFF");
        off.into_iter()
            .chain(self.switch(Side::Replica, "ON"))
            .collect()
    }

    fn switch(&self, side: Side, value: &str) -> Option<String> {
        let name = self.sides.switch(side)?;
        Some(self.party.flavour.set_kept(&name, value))
    }
}

/// How many of them acknowledge.
fn acknowledging(others: &[Party]) -> Result<u64, SessionError> {
    let mut count = 0;
    for party in others {
        count += u64::from(Part::observe(party)?.sides.is_on(Side::Replica));
    }
    Ok(count)
}

/// Whether writers of a new source go on: enough acknowledge, or it doesn't wait for long.
fn may_wait(sides: &Sides, acknowledging: u64) -> bool {
    acknowledging >= sides.wanted() || sides.is_patient()
}

fn nobody_acknowledges(name: &str, sides: &Sides, acknowledging: u64) -> String {
    format!(
        "semi-synchronous replication isn't on at {name}: {} would have to acknowledge, {acknowledging} \
         would, and its writers would wait for {} s; when enough acknowledge, switch {} on there",
        counted(sides.wanted(), "replica"),
        sides.timeout().map_or(0, |(_, ms)| ms / 1000),
        sides.switch(Side::Source).unwrap_or_default()
    )
}

/// For a planned change. Nobody is asked to give up what they rely on: what can't move is refused.
pub fn planned(old: &Party, candidate: &Party, others: &[Party]) -> Result<Moving, SnapshotError> {
    let old = Part::observe(old)?;
    if !old.sides.is_on(Side::Source) {
        return Ok(Moving::default());
    }
    let new = Part::observe(candidate)?;
    let mut refusals = Vec::new();
    for (part, side) in [
        (&old, Side::Source),
        (&old, Side::Replica),
        (&new, Side::Source),
    ] {
        if let Some(reason) = part.cannot(side)? {
            refusals.push(Refusal::new(
                format!("semi-synchronous replication couldn't move along: {reason}"),
                format!(
                    "`understudy setup … --semi-sync` installs what is missing, `understudy grants {}` \
                     prints what the account needs. Or switch it off on {}.",
                    part.party.name, old.party.name
                ),
            ));
        }
    }
    if !refusals.is_empty() {
        return Err(SnapshotError::Refused { refusals });
    }
    let settings = new.sides.settings_of(&old.sides);
    let then = new.sides.with(&settings);
    // The old source is going to.
    let count = acknowledging(others)? + 1;
    let waits = may_wait(&then, count);
    Ok(Moving {
        switch: old.sides.switch(Side::Source),
        sides: old.sides.clone(),
        candidate: new.becomes_source(&settings, waits),
        old: old.becomes_replica(),
        told: (!waits)
            .then(|| nobody_acknowledges(&candidate.name, &then, count))
            .into_iter()
            .collect(),
    })
}

/// The old source is dead: that the candidate acknowledged to it tells that the pair had it.
pub fn after_death(candidate: &Party, others: &[Party]) -> Result<Moving, SnapshotError> {
    let new = Part::observe(candidate)?;
    if !new.sides.is_on(Side::Replica) {
        return Ok(Moving::default());
    }
    let cannot = match new.cannot(Side::Source)? {
        Some(reason) => Some(format!(
            "semi-synchronous replication isn't on at the new source: {reason}"
        )),
        None => {
            let count = acknowledging(others)?;
            (!may_wait(&new.sides, count))
                .then(|| nobody_acknowledges(&candidate.name, &new.sides, count))
        }
    };
    Ok(Moving {
        candidate: match &cannot {
            None => new.becomes_source(&[], true),
            Some(_) => Vec::new(),
        },
        told: cannot.into_iter().collect(),
        ..Moving::default()
    })
}

impl Moving {
    /// The old source's switch, while that waits for its replicas.
    pub fn switch(&self) -> Option<&str> {
        self.switch.as_deref()
    }

    /// How many acknowledge to the old source, where it waits for more than that.
    pub fn too_few(&self, session: Session) -> Result<(Session, Option<u64>), SessionError> {
        let (session, waits) = semi_sync::is_active(session, &self.sides, Side::Source)?;
        let (session, count) = semi_sync::clients(session, &self.sides)?;
        Ok((
            session,
            (waits && count < self.sides.wanted()).then_some(count),
        ))
    }

    /// For the new source, right after its opening.
    pub fn to_candidate(&self, candidate: &Party) -> Option<Rest> {
        rest(candidate, "on", &self.candidate)
    }

    /// For the old one, before it follows.
    pub fn to_old(&self, old: &Party) -> Option<Rest> {
        rest(old, "as a replica", &self.old)
    }
}

fn rest(party: &Party, words: &str, statements: &[String]) -> Option<Rest> {
    (!statements.is_empty()).then(|| Rest {
        act: Act::Statements {
            on: party.reach(),
            words: format!("semi-sync {words}"),
            statements: statements.to_vec(),
        },
        gate: false,
    })
}

/// What is done, and what doesn't move.
type Returning = (Vec<Rest>, Vec<String>);

/// A server comes back as a replica of `source`: its part before it follows, and what the source waited
/// with until then. It follows in any case; what doesn't move is told.
pub fn returning(party: &Party, source: &Party, follow: Rest) -> Returning {
    match around(party, source, &follow) {
        Ok(Ok(all_and_told)) => all_and_told,
        Ok(Err(reason)) => {
            let told = format!("it doesn't acknowledge to {}: {reason}", source.name);
            (vec![follow], vec![told])
        }
        Err(error) => {
            let told = format!("semi-synchronous replication isn't looked at: {error}");
            (vec![follow], vec![told])
        }
    }
}

fn around(
    party: &Party,
    source: &Party,
    follow: &Rest,
) -> Result<Result<Returning, String>, SessionError> {
    let (back, at) = (Part::observe(party)?, Part::observe(source)?);
    let was_source = back.sides.is_on(Side::Source);
    let has_it = was_source || at.sides.is_on(Side::Source);
    if !has_it {
        return Ok(Ok((vec![follow.clone()], Vec::new())));
    }
    let cannot = match back.cannot(Side::Replica)? {
        None if was_source => back.cannot(Side::Source)?,
        cannot => cannot,
    };
    if let Some(reason) = cannot {
        return Ok(Err(reason));
    }
    let mut told = Vec::new();
    let mut all: Vec<Rest> = rest(party, "as a replica", &back.becomes_replica())
        .into_iter()
        .chain([follow.clone()])
        .collect();
    // After a failover in which nobody was left to acknowledge.
    if was_source && !at.sides.is_on(Side::Source) && at.cannot(Side::Source)?.is_none() {
        let settings = at.sides.settings_of(&back.sides);
        let then = at.sides.with(&settings);
        // It comes to those who do already.
        let (_, others) = semi_sync::clients(source.session()?, &at.sides)?;
        let may = may_wait(&then, others + 1);
        all.extend(rest(source, "on", &at.becomes_source(&settings, may)));
        told.extend((!may).then(|| nobody_acknowledges(&source.name, &then, others + 1)));
    }
    Ok(Ok((all, told)))
}
