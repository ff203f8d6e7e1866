//! `methods`: in which ways this very server can be backed up; what each would cost and give.
//!
//! Looks as a snapshot's preflight does, at every way instead of the configured one; changes nothing.

pub mod weigh;

use std::path::Path;
use std::time::Duration;

use crate::config::{BackendChoice, Consistency, ServerConfig};
use crate::server::Session;
use crate::server::session::READ_LIMIT;
use crate::snapshot::context::Context;
use crate::snapshot::error::{Refusal, SnapshotError};
use crate::snapshot::keep::catalog;
use crate::snapshot::manifest::{Manifest, State};
use crate::snapshot::observe;
use crate::snapshot::take::preflight::{self, Options};
use crate::volume::layout::{Layout, Mount, mount_of, observe_mounts};
use crate::volume::{self, BackendKind, VolumeError};
use weigh::{Common, MEASURED_MAX, Seen, Taken, WAYS, Weighed, weigh};

/// What was found out about a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Methods {
    pub common: Common,
    pub ways: Vec<Weighed>,
}

/// Asks the server and the storage.
pub fn look(ctx: &Context, name: &str) -> Result<Methods, SnapshotError> {
    let server = ctx.server(name)?;
    let session = Session::connect(&ctx.target(server)?)?;
    let (session, facts) = crate::server::facts::observe_server(session)?;
    let statement = session.flavour().data_bytes_query();
    let (session, bytes) = session.value(&statement, READ_LIMIT)?;
    let common = Common {
        is_replica: facts.is_replica(),
        consistency: server.snapshot.consistency,
        data_bytes: bytes.and_then(|bytes| bytes.parse().ok()),
    };
    let (session, map) = observe::path_map(session, &facts, &server.snapshot.path_map)?;
    let layout = match observe::layout(session, &facts, &map) {
        Ok((_, layout)) => Ok(layout),
        Err(error) => Err(refusal(error)?),
    };
    let mounts = observe_mounts()?;
    let taken = catalog::list(&ctx.config, &ctx.state, Some(name))?;
    let configured = choose(server, server.snapshot.backend, &layout)?;
    let mut ways = Vec::new();
    for way in WAYS {
        let fits = match way {
            BackendChoice::Dump => can_dump(ctx, name)?,
            way => choose(server, way, &layout)?,
        };
        let is_configured = configured
            .as_ref()
            .is_ok_and(|kind| kind.choice() == way && fits.is_ok());
        let place = kept_in(server, way);
        let seen = Seen {
            way,
            is_configured,
            fits,
            is_elsewhere: place.is_some_and(|place| is_elsewhere(place, &layout, &mounts)),
            is_off_host: place.is_some_and(|place| layout.is_err() || is_off_host(place, &mounts)),
            taken: measured(&taken, way),
        };
        ways.push(weigh(&seen, &common));
    }
    Ok(Methods { common, ways })
}

/// Which back-end a way would be, or why it can't.
fn choose(
    server: &ServerConfig,
    way: BackendChoice,
    layout: &Result<Layout, Refusal>,
) -> Result<Result<BackendKind, Refusal>, SnapshotError> {
    let layout = match layout {
        Ok(layout) => layout,
        Err(refusal) => return Ok(Err(refusal.clone())),
    };
    let settings = &server.snapshot;
    let is_stopped = settings.consistency == Consistency::Stop;
    match volume::choose(way, layout, settings.directory.as_deref(), is_stopped) {
        Ok(chosen) => Ok(Ok(chosen.kind)),
        Err(error) => Ok(Err(refusal(error.into())?)),
    }
}

/// Whether a dump would be taken, by all that its preflight looks at.
fn can_dump(ctx: &Context, name: &str) -> Result<Result<BackendKind, Refusal>, SnapshotError> {
    let options = Options {
        backend: Some(BackendChoice::Dump),
        allow_source: true,
        ..Options::default()
    };
    match preflight::observe_and_plan(ctx, name, &options) {
        Ok(_) => Ok(Ok(BackendKind::Dump)),
        Err(error) => Ok(Err(refusal(error)?)),
    }
}

/// A rule that says no is an answer here; anything else is an error.
fn refusal(error: SnapshotError) -> Result<Refusal, SnapshotError> {
    match error {
        SnapshotError::Refused { refusals } => {
            let join = |of: fn(&Refusal) -> &str, between: &str| {
                refusals.iter().map(of).collect::<Vec<_>>().join(between)
            };
            Ok(Refusal::new(
                join(|one| &one.reason, "; "),
                join(|one| &one.hint, " "),
            ))
        }
        SnapshotError::Volume(VolumeError::Refused { reason, hint }) => {
            Ok(Refusal::new(reason, hint))
        }
        error => Err(error),
    }
}

/// Where what is kept lies, when that isn't the data's own volume.
fn kept_in(server: &ServerConfig, way: BackendChoice) -> Option<&Path> {
    match way {
        BackendChoice::Copy | BackendChoice::Dump => server.snapshot.directory.as_deref(),
        // They share blocks with the data, and so its filesystem.
        BackendChoice::Zfs
        | BackendChoice::Lvm
        | BackendChoice::Btrfs
        | BackendChoice::Reflink
        | BackendChoice::Auto => None,
    }
}

fn is_elsewhere(place: &Path, layout: &Result<Layout, Refusal>, mounts: &[Mount]) -> bool {
    // Where the data isn't on this host, whatever is, is elsewhere.
    let Ok(layout) = layout else { return true };
    let Some(mount) = mount_of(place, mounts) else {
        return false;
    };
    let mut volumes = layout.volumes.iter();
    volumes.all(|volume| volume.mount.device != mount.device)
}

/// Filesystems whose data is another machine's.
fn is_off_host(place: &Path, mounts: &[Mount]) -> bool {
    const NETWORK: [&str; 9] = [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "ceph",
        "glusterfs",
        "lustre",
        "beegfs",
        "9p",
    ];
    mount_of(place, mounts).is_some_and(|mount| {
        let fs_type = &*mount.fs_type;
        NETWORK.contains(&fs_type) || fs_type.starts_with("fuse.")
    })
}

/// The newest that were taken so, whole ones alone.
fn measured(all: &[Manifest], way: BackendChoice) -> Vec<Taken> {
    let of_way = |manifest: &&Manifest| {
        manifest.backend == way && manifest.state == State::Complete && manifest.timing.is_some()
    };
    let taken = |manifest: &Manifest| Taken {
        pause: manifest
            .timing
            .map(|timing| Duration::from_millis(timing.pause_ms)),
        bytes: manifest
            .volumes
            .iter()
            .map(|volume| volume.bytes_used)
            .sum(),
        back: manifest.verification.as_ref().and_then(|proof| {
            let boot_ms = proof.boot_ms?;
            Some(Duration::from_millis(match way {
                // Its loading is most of it; the looks at the tables behind it count as well.
                BackendChoice::Dump => proof.total_ms,
                _ => proof.clone_ms + boot_ms,
            }))
        }),
    };
    let newest = all.iter().filter(of_way).take(MEASURED_MAX);
    newest.map(taken).collect()
}
