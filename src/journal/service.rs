//! A server stopped and started through its service, as its configuration says.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::config::ServiceControl;
use crate::server::session::{Session, Target};
use crate::sys::exec::{ExecError, Program};
use crate::sys::process;

/// Crash recovery of a large server is long.
pub const SERVICE_LIMIT: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("the server still runs in {0}")]
    StillUp(PathBuf),
    #[error("start the server: {0}")]
    Program(#[source] ExecError),
}

/// Stops the server through its service and waits until no process works in its directory.
pub fn stop(
    service: &ServiceControl,
    target: &Target,
    data_dir: &Path,
) -> Result<(), ServiceError> {
    run(&service.stop_argv())?;
    let until = Instant::now() + SERVICE_LIMIT;
    while Session::connect(target).is_ok() || process::runs_in(data_dir) {
        if Instant::now() >= until {
            return Err(ServiceError::StillUp(data_dir.to_owned()));
        }
        sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Starts it without waiting until it answers.
pub fn start(service: &ServiceControl) -> Result<(), ServiceError> {
    run(&service.start_argv())
}

fn run(argv: &[String]) -> Result<(), ServiceError> {
    let (program, args) = argv.split_first().expect("checked when configured");
    Program::at(program)
        .run(args, SERVICE_LIMIT)
        .map_err(ServiceError::Program)?;
    Ok(())
}
