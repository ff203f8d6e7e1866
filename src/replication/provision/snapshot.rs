//! From a kept snapshot of this tool: restored beside the replica's data directory, then put in its
//! place.

use std::path::Path;

use super::{reopen, swap};
use crate::journal::operation::Outcome;
use crate::journal::receipt;
use crate::replication::error::SetupError;
use crate::replication::plan::Side;
use crate::replication::request::Prepared;
use crate::replication::work::{Who, Work};
use crate::server::gtid::GtidSet;
use crate::server::pair;
use crate::snapshot::keep::fit::{self, Fit, History};
use crate::snapshot::keep::{catalog, present};
use crate::snapshot::restore::directory;
use crate::snapshot::{Context, Manifest};
use crate::sys::{failpoint, files};

/// The snapshot, if it is a part of the source's history that can be gone on from.
pub fn find(ctx: &Context, wanted: &str, source: &Side) -> Result<Manifest, SetupError> {
    ctx.state.create()?;
    let manifest = catalog::find(ctx, wanted)?;
    let gtid = manifest
        .position
        .as_ref()
        .map(|position| position.gtid.clone())
        .unwrap_or_default();
    let parse = |text: &str| {
        source.flavour.parse_gtid(text).map_err(|error| {
            SetupError::refused(
                format!("the GTIDs of {} can't be read: {error}", manifest.id),
                "Choose another snapshot, or use --provision dump.",
            )
        })
    };
    let (at, written, purged) = (
        parse(&gtid)?,
        parse(&source.written)?,
        parse(&source.purged)?,
    );
    let refused = |words: String| {
        SetupError::refused(
            format!(
                "{} isn't a part of the history of {} (it is at {gtid:?}){words}",
                manifest.id, source.name
            ),
            "Choose a snapshot of a server of this pair that fits (`understudy snapshot list`), or use \
             --provision dump.",
        )
    };
    if gtid.is_empty() || !at.is_subset_of(&written).unwrap_or(false) {
        return Err(refused(String::new()));
    }
    if let Fit::Ahead(ahead) = fit(ctx, &manifest, source)? {
        return Err(refused(format!(": it is ahead by {}", ahead.words())));
    }
    if !purged.is_subset_of(&at).unwrap_or(false) {
        return Err(SetupError::refused(
            format!(
                "{} has purged binary logs that a replica at {} would need",
                source.name, manifest.id
            ),
            "Choose a newer snapshot, or use --provision dump.",
        ));
    }
    Ok(manifest)
}

/// A position alone can lie: the number may be another server's transaction.
fn fit(ctx: &Context, manifest: &Manifest, source: &Side) -> Result<Fit, SetupError> {
    let read = |text: &str| source.flavour.parse_gtid(text).ok();
    let applied = match read(&source.applied) {
        Some(GtidSet::Mariadb(applied)) => Some(applied),
        Some(GtidSet::Mysql(_)) | None => None,
    };
    let executed = read(&source.by_origin).ok_or("its GTIDs can't be read".to_owned());
    let history = executed.map(|executed| History {
        source: source.name.clone(),
        executed,
        applied,
    });
    let pair = ctx.config.pair_of(&source.name);
    let pair = pair.map_or("", |pair| pair.name.as_str());
    let past = receipt::past(&ctx.state)?;
    Ok(fit::judge(present::stand(manifest, pair), &history, &past))
}

pub fn bring(work: &mut Work<'_>, ready: &Prepared) -> Result<Outcome, SetupError> {
    let Some(manifest) = &ready.tools.snapshot else {
        return Err(SetupError::failed(
            "restore",
            "its snapshot wasn't looked for",
        ));
    };
    let places = swap::places(ready)?;
    swap::make_new(work, &places)?;
    let restored = directory::restore_to(work.ctx, &manifest.id, &places.new, false)?;
    files::remove(&restored.option_file)?;
    drop_binary_log(manifest, &places.new)?;
    failpoint::hit("setup-restored");
    swap::exchange(work, &places)?;
    let position = restored.gtid.unwrap_or_default();
    let session = reopen(work.session(Who::Replica)?)?;
    drop(pair::set_applied(session, &position)?);
    failpoint::hit("setup-positioned");
    Ok(Outcome::Changed(format!(
        "put {} in place of its data, at {position}; its accounts are those of the snapshot",
        manifest.id
    )))
}

/// The copy's binary log is of another server, and its index names the files where they won't be.
/// The server that settled the copy has ended cleanly, so that nothing of it is needed.
fn drop_binary_log(manifest: &Manifest, directory: &Path) -> Result<(), SetupError> {
    let log = manifest
        .boot
        .as_ref()
        .and_then(|boot| boot.binary_log.as_ref());
    let Some(log) = log else { return Ok(()) };
    let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
    let base = format!("{}.", name(&log.base).to_string_lossy());
    for path in files::list(directory)? {
        let own = name(&path);
        if own == name(&log.index) || own.to_string_lossy().starts_with(&base) {
            files::remove(&path)?;
        }
    }
    Ok(())
}
