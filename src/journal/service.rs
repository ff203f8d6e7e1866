//! A server stopped and started through its service, as its configuration says.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::config::ServiceControl;
use crate::server::session::{Session, Target};
use crate::sys::exec::{ExecError, Program};
use crate::sys::process;

/// Crash recovery of a large server is long, and so is writing a large buffer pool.
pub const SERVICE_LIMIT: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("the server still runs in {} after its service was stopped", .0.display())]
    StillUp(PathBuf),
    #[error("stop the server: {0}")]
    Stop(#[source] ExecError),
    #[error("start the server: {0}")]
    Start(#[source] ExecError),
}

/// Stops the server through its service and waits until no process works in its directory; a stop
/// command that returned early is given `down_within` for that.
pub fn stop(
    service: &ServiceControl,
    target: &Target,
    data_dir: &Path,
    down_within: Duration,
) -> Result<(), ServiceError> {
    run(&service.stop_argv()).map_err(ServiceError::Stop)?;
    let until = Instant::now() + down_within;
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
    run(&service.start_argv()).map_err(ServiceError::Start)
}

fn run(argv: &[String]) -> Result<(), ExecError> {
    let (program, args) = argv.split_first().expect("checked when configured");
    Program::at(program).run(args, SERVICE_LIMIT).map(drop)
}
