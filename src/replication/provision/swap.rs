//! A whole data directory put in place of the replica's own, which stays beside it until all is
//! done and comes back when anything fails.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::ServiceControl;
use crate::journal::InHand;
use crate::journal::act::Act;
use crate::journal::service::{self, SERVICE_LIMIT, ServiceError};
use crate::replication::error::SetupError;
use crate::replication::request::Prepared;
use crate::replication::work::{Who, Work};
use crate::server::session::SessionError;
use crate::sys::{failpoint, files};

/// Crash recovery of a large server is long.
const START_LIMIT: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The three places.
pub struct Places {
    pub data_dir: PathBuf,
    /// What is to take its place.
    pub new: PathBuf,
    /// Its own data meanwhile.
    pub aside: PathBuf,
    service: ServiceControl,
}

/// Refused where the directory can't be exchanged by renaming.
pub fn places(ready: &Prepared) -> Result<Places, SetupError> {
    let data_dir: PathBuf = Path::new(&ready.replica_side.identity.data_dir)
        .components()
        .collect();
    let beside = |ending: &str| {
        let name = data_dir.file_name().unwrap_or_default().to_string_lossy();
        data_dir.with_file_name(format!("{name}.understudy-{ending}"))
    };
    let places = Places {
        new: beside("new"),
        aside: beside("before"),
        service: ready
            .replica
            .service
            .as_ref()
            .and_then(|service| service.control.clone())
            .ok_or_else(|| SetupError::failed("provision", "no service is configured"))?,
        data_dir,
    };
    let parent = places.data_dir.parent().unwrap_or(Path::new("/"));
    if !files::are_on_one_filesystem(&places.data_dir, parent) {
        return Err(SetupError::failed(
            "provision",
            format!(
                "{} is a filesystem of its own, which can't be exchanged by renaming",
                places.data_dir.display()
            ),
        )
        .hint("Use --provision dump."));
    }
    for path in [&places.new, &places.aside] {
        if path.symlink_metadata().is_ok() {
            return Err(SetupError::failed(
                "provision",
                format!("{} is there already", path.display()),
            )
            .hint("An earlier run left it: look at it and remove it."));
        }
    }
    Ok(places)
}

/// Makes the new directory, which goes again after a failure.
pub fn make_new(work: &mut Work<'_>, places: &Places) -> Result<(), SetupError> {
    work.note(Act::Tree {
        path: places.new.clone(),
    })?;
    Ok(files::make_private_dir(&places.new)?)
}

/// Stops the server, exchanges the directories, starts it.
pub fn exchange(work: &mut Work<'_>, places: &Places) -> Result<(), SetupError> {
    let failed = |error: ServiceError| SetupError::failed("provision", error.to_string());
    let owner = files::owner_of(&places.data_dir)?;
    files::own_tree(&places.new, owner)?;
    files::copy_mode(&places.data_dir, &places.new)?;
    // The server stays who it was.
    if let Some(identity) = files::read_text(&places.data_dir.join("auto.cnf"))? {
        files::write_for(&places.new.join("auto.cnf"), identity.as_bytes(), owner)?;
    }
    let on = work.replica.reach();
    work.note(Act::DataDir {
        on,
        service: places.service.clone(),
        data_dir: places.data_dir.clone(),
        aside: places.aside.clone(),
    })?;
    work.aside = Some(places.aside.clone());
    service::stop(
        &places.service,
        &work.replica.target,
        &places.data_dir,
        SERVICE_LIMIT,
    )
    .map_err(failed)?;
    failpoint::hit("setup-stopped");
    files::rename(&places.data_dir, &places.aside)?;
    failpoint::hit("setup-aside");
    files::rename(&places.new, &places.data_dir)?;
    failpoint::hit("setup-exchanged");
    service::start(&places.service).map_err(failed)?;
    let until = Instant::now() + START_LIMIT;
    loop {
        match work.session(Who::Replica) {
            Ok(_) => return Ok(()),
            Err(error @ SetupError::Session(SessionError::WrongServer { .. })) => {
                return Err(error);
            }
            Err(error) if Instant::now() >= until => {
                return Err(SetupError::failed(
                    "start the replica on its new data",
                    error.to_string(),
                ));
            }
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}
