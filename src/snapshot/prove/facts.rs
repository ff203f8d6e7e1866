//! What a server must be started with to read a snapshot: as recorded, else as its live server says.

use crate::server::Session;
use crate::server::private::BootFacts;
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::manifest::Manifest;
use crate::snapshot::observe;

/// Snapshots of older versions of this tool, and orphans, have no record of it.
pub fn of_snapshot(ctx: &Context, manifest: &Manifest) -> Result<BootFacts, SnapshotError> {
    if let Some(facts) = &manifest.boot {
        return Ok(facts.clone());
    }
    let no_record = |why: String| {
        SnapshotError::refused(
            format!(
                "{} has no record of how its server is started, and {} can't be asked: {why}",
                manifest.id, manifest.server
            ),
            format!(
                "Start {}, or any server with the same settings under that name in the \
                 configuration.",
                manifest.server
            ),
        )
    };
    let server = ctx
        .server(&manifest.server)
        .map_err(|error| no_record(error.to_string()))?;
    let target = ctx.target(server)?;
    let session = Session::connect(&target).map_err(|error| no_record(error.to_string()))?;
    let (session, facts) = crate::server::facts::observe_server(session)?;
    let (session, map) = observe::path_map(session, &facts, &server.snapshot.path_map)?;
    let data_dir = observe::host_data_dir(&facts, &map);
    let (_, boot) = observe::boot_facts(session, &facts, &data_dir, &map)?;
    Ok(boot)
}
