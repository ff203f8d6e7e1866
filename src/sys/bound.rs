//! A program that runs beside us for a while and can't outlive us: the kernel kills it when the
//! thread that started it ends, also by SIGKILL.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::exec::{self, ExecError, render_argv};

/// It ends when this is dropped, by SIGKILL if need be.
#[derive(Debug)]
pub struct BoundChild {
    child: Child,
}

/// Starts `program` as user and group `owner`, with an empty environment, what it says appended to
/// the file `output` (0600).
pub fn start(
    program: &Path,
    args: &[std::ffi::OsString],
    owner: (u32, u32),
    output: &Path,
) -> Result<BoundChild, ExecError> {
    let failed = |source| ExecError::Start {
        argv: render_argv(program, args),
        source,
    };
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        // An earlier program may have put something else there.
        .custom_flags(libc::O_NOFOLLOW)
        .open(output)
        .map_err(failed)?;
    std::os::unix::fs::fchown(&log, Some(owner.0), Some(owner.1)).map_err(failed)?;
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log)
        .gid(owner.1)
        .uid(owner.0)
        .process_group(0);
    exec::gain_nothing(&mut command);
    // After the change of user, which would clear the death signal.
    exec::die_with_starter(&mut command);
    let child = command.spawn().map_err(failed)?;
    Ok(BoundChild { child })
}

impl BoundChild {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end; `None` when it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        exec::wait_until(&mut self.child, Instant::now() + limit)
            .ok()
            .flatten()
    }

    /// Ends it at once (SIGKILL); it is still to be waited for.
    pub fn kill(&self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
    }

    /// Asks it to end (SIGTERM).
    pub fn ask_to_end(&self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
    }
}

impl Drop for BoundChild {
    fn drop(&mut self) {
        if self.ended().is_none() {
            exec::end(&mut self.child, Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_with_the_thread_that_started_it() {
        let dir = tempfile::tempdir().unwrap();
        let me = nix::unistd::geteuid().as_raw();
        let group = nix::unistd::getegid().as_raw();
        let log = dir.path().join("log");
        let mut left = std::thread::spawn(move || {
            start(
                Path::new("/usr/bin/sleep"),
                &["60".into()],
                (me, group),
                &log,
            )
            .unwrap()
        })
        .join()
        .unwrap();
        let status = left.wait(Duration::from_secs(10)).expect("it lived on");
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(Signal::SIGKILL as i32)
        );
    }
}
