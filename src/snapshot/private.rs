//! A private server on clones: started in a room of its own, waited for, asked, ended.
//!
//! Everything here runs inside the room (`sys::room`), in which the clones stand where their origins
//! are and nothing else can be written to.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::boot_log::{self, Flaw};
use super::context::Context;
use super::error::SnapshotError;
use super::id;
use super::using::Use;
use crate::config::{Address, Secret, TlsMode};
use crate::journal::StateDir;
use crate::server::private::{self, BootFacts, Private};
use crate::server::{Flavour, Session, Target};
use crate::sys::guarded::{self, Guarded};
use crate::sys::{failpoint, files, memory, process};
use crate::volume::Mountable;
use crate::volume::view::{self, Stand};

/// A server that neither answers nor does anything for so long hangs.
const STALL: Duration = Duration::from_secs(300);
/// How long an orderly end may take before it is killed.
const END_LIMIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const TELL_EVERY: Duration = Duration::from_secs(1);
/// So much of the end of a log is looked at.
const LOG_BYTES_MAX: u64 = 1024 * 1024;
const BUFFER_POOL_BYTES: std::ops::RangeInclusive<u64> = 128 << 20..=1 << 30;
/// Not a server id that anybody gives by hand.
const SERVER_ID: u32 = 4_276_992_701;

/// A snapshot that isn't good, or something else that went wrong.
#[derive(Debug)]
pub enum Failure {
    Flaw { flaw: Flaw, detail: String },
    Other(SnapshotError),
}

impl<E: Into<SnapshotError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// How a server is to be booted.
#[derive(Debug, Clone)]
pub struct Plan {
    pub facts: BootFacts,
    pub binary: PathBuf,
    /// The files will be thrown away.
    pub is_throwaway: bool,
}

/// A server that came up.
pub struct Booted {
    server: Guarded,
    target: Target,
    flavour: Flavour,
    /// From its start to its first answer.
    pub boot: Duration,
    log: PathBuf,
}

/// Makes the view in which the clones stand where their origins are.
pub fn arrange(using: &Use<'_>, clones: &[Stand]) -> Result<(), SnapshotError> {
    let (run, work) = using.make_places((0, 0))?;
    let tmp = run.join("tmp");
    files::make_private_dir(&tmp)?;
    let mut stands = clones.to_vec();
    stands.push(Stand {
        clone: Mountable::Directory(work),
        at: tmp,
    });
    // The temporary directory lies in the run place, so that comes first.
    view::arrange(&stands, &[run])?;
    Ok(())
}

/// Starts the server on the files at `facts.data_dir` and waits until it answers.
pub fn boot(using: &Use<'_>, plan: &Plan) -> Result<(Booted, Session), Failure> {
    let since = Instant::now();
    let flavour = Flavour::of_version(&plan.facts.version);
    let data_dir = &plan.facts.data_dir;
    let owner = files::owner_of(data_dir).map_err(|error| Failure::Flaw {
        flaw: Flaw::MissingFile,
        detail: error.to_string(),
    })?;
    let place = StateDir::run_place(&using.id);
    let private = Private {
        data_dir: data_dir.clone(),
        server_id: SERVER_ID,
        buffer_pool_bytes: buffer_pool_bytes(&plan.facts),
        init_file: place.join("init"),
        is_throwaway: plan.is_throwaway,
        as_root: owner.0 == 0,
        place,
    };
    for path in [&private.place, &private.tmp()] {
        files::own(path, owner)?;
    }
    // Another server_uuid than the original's, or it would pass for it.
    files::remove(&data_dir.join("auto.cnf"))?;
    let user = format!("understudy{}", id::random_hex(2));
    let password = Secret::new(format!("Ab1-{}", id::random_hex(16)));
    let statements = private::account_statements(&flavour, &user, password.reveal());
    files::write_for(&private.init_file, statements.as_bytes(), owner)?;
    let options = private.place.join("options");
    let text = private::option_file(&flavour, &plan.facts, &private);
    files::write_for(&options, text.as_bytes(), owner)?;

    let arguments = [format!("--defaults-file={}", options.display()).into()];
    let server =
        guarded::start(&plan.binary, &arguments, owner, &private.log()).map_err(|error| {
            SnapshotError::Failed {
                step: "start the private server",
                reason: error.to_string(),
                hint: Some(
                    "Name a server program of the snapshot's flavour as server_binary in the \
                 server's [service] table."
                        .to_owned(),
                ),
            }
        })?;
    failpoint::hit("booting");
    let target = Target {
        server: format!("the private server of {}", using.manifest.id),
        address: Address::Socket(private.socket()),
        user,
        password,
        tls: TlsMode::Disabled,
        tls_ca: None,
    };
    let mut booted = Booted {
        server,
        target,
        flavour,
        boot: Duration::ZERO,
        log: private.log(),
    };
    let session = booted.wait(using.ctx, since)?;
    booted.boot = since.elapsed();
    booted.flavour = session.flavour().clone();
    failpoint::hit("booted");
    using.ctx.progress.step(
        "boot",
        format!("a private {} came up", booted.flavour.text),
        since,
    );
    Ok((booted, session))
}

impl Booted {
    pub fn flavour(&self) -> &Flavour {
        &self.flavour
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// One more connection.
    pub fn connect(&self) -> Result<Session, Failure> {
        Session::connect(&self.target).map_err(Failure::from)
    }

    fn wait(&mut self, ctx: &Context, since: Instant) -> Result<Session, Failure> {
        let Address::Socket(socket) = self.target.address.clone() else {
            unreachable!("a private server has a socket");
        };
        let (mut told, mut moved) = (since, since);
        let mut activity = process::activity(self.server.id());
        loop {
            ctx.cancel.check("waiting for the private server")?;
            if socket.exists()
                && let Ok(session) = Session::connect(&self.target)
            {
                return Ok(session);
            }
            if let Some(status) = self.server.ended() {
                return Err(self.explain(&format!("{status}")));
            }
            if told.elapsed() > TELL_EVERY {
                told = Instant::now();
                let log = files::read_end(&self.log, LOG_BYTES_MAX).unwrap_or_default();
                ctx.progress.still(
                    "boot",
                    boot_log::recovery_progress(&log).unwrap_or("starting"),
                    since,
                );
                let now = process::activity(self.server.id());
                if now != activity {
                    (activity, moved) = (now, told);
                }
                if moved.elapsed() > STALL {
                    return Err(Failure::Other(SnapshotError::Failed {
                        step: "wait for the private server",
                        reason: format!(
                            "it neither answers nor does anything since {} s",
                            STALL.as_secs()
                        ),
                        hint: Some("Look at the disk under the snapshot.".to_owned()),
                    }));
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Why it ended, by its log.
    pub fn explain(&self, status: &str) -> Failure {
        let log = files::read_end(&self.log, LOG_BYTES_MAX).unwrap_or_default();
        let (flaw, line) = boot_log::diagnose(&log);
        tracing::info!(log, "the private server's log");
        Failure::Flaw {
            flaw,
            detail: format!("{line} ({status})"),
        }
    }

    /// After a connection was lost: the server's end explains it, if it ended.
    pub fn explain_loss(&mut self, error: crate::server::SessionError) -> Failure {
        match self.server.wait(Duration::from_secs(10)) {
            Some(status) => match self.explain(&status.to_string()) {
                Failure::Flaw {
                    flaw: Flaw::DidNotStart,
                    detail,
                } => Failure::Flaw {
                    flaw: Flaw::CorruptTable,
                    detail: format!("the server ended while it was asked: {detail}"),
                },
                other => other,
            },
            None => Failure::from(error),
        }
    }

    /// An orderly end.
    pub fn shut_down(mut self, ctx: &Context) -> Result<(), SnapshotError> {
        let since = Instant::now();
        self.server.ask_to_end();
        match self.server.wait(END_LIMIT) {
            Some(status) if status.success() => {
                ctx.progress.step("stop", "the private server ended", since);
                Ok(())
            }
            Some(status) => Err(SnapshotError::Failed {
                step: "stop the private server",
                reason: format!("it ended with {status}"),
                hint: None,
            }),
            None => Err(SnapshotError::Failed {
                step: "stop the private server",
                reason: format!(
                    "it still ran after {} s, and was killed",
                    END_LIMIT.as_secs()
                ),
                hint: None,
            }),
        }
    }
}

/// Enough to recover at a good pace, and little beside the live server.
fn buffer_pool_bytes(facts: &BootFacts) -> u64 {
    let (least, most) = BUFFER_POOL_BYTES.into_inner();
    let own = facts
        .settings
        .get("innodb_buffer_pool_size")
        .and_then(|value| value.parse().ok())
        .unwrap_or(most);
    (memory::available_bytes() / 8)
        .min(own)
        .clamp(least.min(own.max(8 << 20)), most)
}

/// The program to boot with: the configured one, else the one that ran the server, else the usual
/// one of that flavour.
pub fn find_binary(
    ctx: &Context,
    server: &str,
    facts: &BootFacts,
) -> Result<PathBuf, SnapshotError> {
    let configured = ctx
        .config
        .servers
        .get(server)
        .and_then(|server| server.service.as_ref()?.server_binary.clone());
    if let Some(path) = configured {
        return Ok(path);
    }
    let flavour = Flavour::of_version(&facts.version);
    let usual = flavour
        .server_programs()
        .iter()
        .map(|name| Path::new(name).to_owned());
    facts
        .binary
        .clone()
        .into_iter()
        .chain(usual)
        .find(|path| path.is_file())
        .ok_or_else(|| {
            SnapshotError::refused(
                format!("no server program for {} is here", facts.version),
                format!("Install one, or name it as server_binary in [server.{server}.service]."),
            )
        })
}
