//! A thread with a view of its own: what it mounts nobody else sees, and it has no network.
//!
//! All of it is gone when the thread and what it started have ended, however they ended.

use std::io;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Why there is no such thread.
#[derive(Debug, thiserror::Error)]
#[error("separate a thread from the machine's mounts and network ({action}): {source}")]
pub struct RoomError {
    action: &'static str,
    #[source]
    source: io::Error,
}

/// Runs `job` in a mount namespace and an empty network namespace of its own. Threads and programs
/// that it starts are in them too. Needs CAP_SYS_ADMIN.
pub fn within<T: Send>(job: impl FnOnce() -> T + Send) -> Result<T, RoomError> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            enter()?;
            Ok(job())
        });
        match inside.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn enter() -> Result<(), RoomError> {
    let failed = |action: &'static str| {
        move |errno: nix::errno::Errno| RoomError {
            action,
            source: errno.into(),
        }
    };
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).map_err(failed("unshare"))?;
    let none = None::<&str>;
    // What others unmount or mount meanwhile shows here, so that we keep nothing busy; not the
    // other way round.
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(none, "/", none, flags, none).map_err(failed("leave mount propagation"))
}

#[cfg(test)]
mod tests {
    use super::within;

    #[test]
    fn mounts_stay_inside() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let seen = within(|| {
            let none = None::<&str>;
            let flags = nix::mount::MsFlags::empty();
            nix::mount::mount(none, dir.path(), Some("tmpfs"), flags, none).unwrap();
            std::fs::write(dir.path().join("inside"), "").unwrap();
            // The loopback device of a new network namespace is down, and there is no other.
            std::net::TcpStream::connect("127.0.0.1:3306")
                .unwrap_err()
                .raw_os_error()
        });
        assert_eq!(seen.unwrap(), Some(libc::ENETUNREACH));
        assert!(!dir.path().join("inside").exists());
    }
}
