//! Failovers whose old source hasn't rejoined.

use super::{Severity, Verdict};
use crate::health::picture::Picture;
use crate::journal::receipt::Receipt;
use crate::server::replication::ThreadState;

/// Roles were moved back by other ways: the one that took over follows the old source again.
fn is_moved_back(picture: &Picture<'_>, receipt: &Receipt) -> bool {
    let place = |name: &str| picture.view.servers.iter().position(|s| s.name == name);
    match (place(&receipt.new_source), place(&receipt.old_source)) {
        (Some(new), Some(old)) => picture.roles.follows[new] == Some(old),
        (_, _) => false,
    }
}

/// It has rejoined, from a host that has no such receipt: it follows the source, closed, with nothing of
/// its own.
fn is_back(picture: &Picture<'_>, receipt: &Receipt) -> bool {
    let servers = &picture.view.servers;
    let Some(old) = servers.iter().position(|s| s.name == receipt.old_source) else {
        return false;
    };
    let follows = picture.roles.follows[old];
    let is_replica = follows.is_some() && follows == picture.roles.source;
    let runs = picture
        .link(old)
        .is_some_and(|link| link.io == ThreadState::Running && link.sql == ThreadState::Running);
    let condition = picture.server(old).condition();
    let is_closed = condition.is_some_and(|condition| condition.is_read_only() == Some(true));
    let errant = picture.errant[old].as_ref();
    let has_nothing = errant.is_some_and(|own| own.known().is_some_and(String::is_empty));
    is_replica && runs && is_closed && has_nothing
}

fn open<'p>(picture: &'p Picture<'_>) -> impl Iterator<Item = &'p Receipt> {
    let receipts = picture.view.receipts.open.iter();
    receipts.filter(|receipt| !is_moved_back(picture, receipt) && !is_back(picture, receipt))
}

/// The newest failover in which this server was given up, if it takes writes all the same.
fn writable_again<'p>(picture: &'p Picture<'_>, server: usize) -> Option<&'p Receipt> {
    let view = picture.server(server);
    let is_writable = view.condition()?.is_read_only() == Some(false);
    open(picture)
        .filter(|receipt| is_writable && receipt.old_source == view.name)
        .last()
}

/// What cures several writable servers, when one of them was given up.
pub(super) fn cure(picture: &Picture<'_>) -> Option<String> {
    let mut servers = 0..picture.view.servers.len();
    let again = servers.find_map(|server| writable_again(picture, server))?;
    Some(format!(
        "{old} was given up for {new}: run `understudy rejoin {old}`, which closes it first.",
        old = again.old_source,
        new = again.new_source,
    ))
}

/// As `cure`, where no receipt here tells who was given up.
pub(super) fn cure_unknown() -> String {
    "Was one of them given up in a failover? Its receipt is on the host that ran that: see `understudy \
     status` there. `understudy rejoin` the one that isn't the source: it closes it first, keeps what it \
     alone has, and makes it follow."
        .to_owned()
}

pub(super) fn demoted_writable(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let receipt = writable_again(picture, server)?;
    let (old, new) = (&receipt.old_source, &receipt.new_source);
    Some(Verdict::new(
        Severity::Critical,
        format!(
            "{old} accepts writes, and was given up at {}, when {new} took its place: \
             `understudy rejoin {old}` closes it",
            receipt.at
        ),
        format!("Run it now. Then {old} follows, or you are told what it has that {new} hasn't."),
    ))
}

/// Those that are writable have a finding of their own.
pub(super) fn not_rejoined(picture: &Picture<'_>) -> Option<Verdict> {
    let is_told = |receipt: &&Receipt| {
        let mut servers = 0..picture.view.servers.len();
        servers.any(|server| {
            picture.server(server).name == receipt.old_source
                && writable_again(picture, server).is_some()
        })
    };
    let mut told: Vec<String> = Vec::new();
    for receipt in open(picture).filter(|receipt| !is_told(receipt)) {
        let lost = match (receipt.lost.known, receipt.lost.transactions) {
            (true, Some(0)) => "nothing is lost".to_owned(),
            (true, Some(count)) => format!("{count} transactions are lost"),
            (true, None) | (false, _) => "what is lost isn't known".to_owned(),
        };
        told.push(format!(
            "{old} was given up at {} for {} ({lost}) and hasn't rejoined: `understudy rejoin {old}`",
            receipt.at,
            receipt.new_source,
            old = receipt.old_source,
        ));
    }
    if let Some(reason) = picture.view.receipts.unreadable.first() {
        return Some(Verdict::new(
            Severity::Unknown,
            format!("whether a server waits for its rejoin isn't known: {reason}"),
            "See that this account may read the receipts in state_dir; one that is damaged can go \
             when every server of the pair follows its source.",
        ));
    }
    (!told.is_empty()).then(|| {
        Verdict::new(
            Severity::Warning,
            told.join("; "),
            "Run that as soon as it runs again; until then keep it off.",
        )
    })
}
