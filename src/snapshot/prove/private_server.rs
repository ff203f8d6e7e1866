//! A private server on clones: started in a room of its own, waited for, asked, ended.
//!
//! Everything here runs inside the room (`sys::room`), in which the clones stand where their origins
//! are and nothing else can be written to.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crate::config::{Address, Secret, TlsMode};
use crate::journal::StateDir;
use crate::server::private::{self, BootFacts, Private};
use crate::server::{Flavour, Session, SessionError, Target};
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::id;
use crate::snapshot::prove::boot_log::{self, Cause, Diagnosis, Flaw, Lack};
use crate::snapshot::prove::clone_session::CloneSession;
use crate::snapshot::prove::essentials;
use crate::snapshot::prove::program::{Ready, ServerProgram};
use crate::sys::bound::{self, BoundChild};
use crate::sys::process::Idle;
use crate::sys::{failpoint, files, memory};
use crate::volume::Mountable;
use crate::volume::clone::FULL_BYTES;
use crate::volume::kept;
use crate::volume::view::{self, Stand};

mod tools;

/// A server that neither answers nor does anything for so long trouble.
const STALL: Duration = Duration::from_secs(300);
/// The same, of one whose filesystem stays full: it may try again for ever (MariaDB 10.11.14 does).
const FULL_LIMIT: Duration = Duration::from_secs(30);
/// A server that answers and doesn't let us in won't do so later.
const DENIED_LIMIT: Duration = Duration::from_secs(10);
/// How long an orderly end may take before it is killed.
const END_LIMIT: Duration = Duration::from_secs(120);
const VERSION_LIMIT: Duration = Duration::from_secs(20);
/// How long the end of a server is waited for that hung up on us.
const CRASH_LIMIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const TELL_EVERY: Duration = Duration::from_secs(1);
/// So much of a log's beginning and of its end is looked at: MySQL dumps corrupt pages into it.
const LOG_BYTES_EACH: u64 = 512 * 1024;
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
    pub binary: ServerProgram,
    /// The files will be thrown away.
    pub is_throwaway: bool,
}

/// A server that came up.
pub struct Booted {
    server: BoundChild,
    target: Target,
    flavour: Flavour,
    /// From its start to its first answer.
    pub boot: Duration,
    log: PathBuf,
    data_dir: PathBuf,
    full_since: Option<Instant>,
    /// Who wrote the files.
    writer: Flavour,
    ready: Ready,
    owner: (u32, u32),
}

/// Makes the view in which the clones stand where their origins are.
pub fn arrange(using: &CloneSession<'_>, clones: &[Stand]) -> Result<(), SnapshotError> {
    arrange_beside(using, clones, &[]).map(drop)
}

/// As `arrange`, and shows another snapshot's clones, on which no server runs, in places beside: those.
pub fn arrange_beside(
    using: &CloneSession<'_>,
    clones: &[Stand],
    others: &[Stand],
) -> Result<Vec<PathBuf>, SnapshotError> {
    let (run, work) = using.make_places((0, 0))?;
    let tmp = run.join("tmp");
    files::make_private_dir(&tmp)?;
    let mut stands = clones.to_vec();
    stands.push(Stand {
        clone: Mountable::Directory(work),
        at: tmp,
    });
    let mut beside = Vec::new();
    for (number, other) in others.iter().enumerate() {
        let at = run.join(format!("beside-{number}"));
        files::make_private_dir(&at)?;
        stands.push(Stand {
            clone: other.clone.clone(),
            at: at.clone(),
        });
        beside.push(at);
    }
    // The temporary directory lies in the run place, so that comes first.
    view::arrange(&stands, &[run])?;
    Ok(beside)
}

/// Starts the server on the files at `facts.data_dir` and waits until it answers.
pub fn boot(using: &CloneSession<'_>, plan: &Plan) -> Result<(Booted, Session), Failure> {
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
    if let Some((flaw, detail)) = essentials::first_flaw(&flavour, &plan.facts) {
        return Err(Failure::Flaw { flaw, detail });
    }
    let ready = plan
        .binary
        .make_ready(&plan.facts, owner, &private.place.join("root"))?;
    for path in [&private.place, &private.tmp()] {
        files::own(path, owner)?;
    }
    // Another server_uuid than the original's, or it would pass for it.
    files::remove(&data_dir.join("auto.cnf"))?;
    // MariaDB doesn't start where it lists named channels whose relay logs aren't where it looks for
    // them ("Failed to initialize multi master structures"). What was applied is in a table.
    files::remove(&data_dir.join("multi-master.info"))?;
    let user = format!("understudy{}", id::random_hex(2));
    let password = Secret::new(format!("Ab1-{}", id::random_hex(16)));
    let statements = private::account_statements(&flavour, &user, password.reveal());
    files::write_for(&private.init_file, statements.as_bytes(), owner)?;
    let options = private.place.join("options");
    let text = private::option_file(&flavour, &ready.facts, &private);
    files::write_for(&options, text.as_bytes(), owner)?;

    let mut arguments = ready.arguments.clone();
    arguments.push(format!("--defaults-file={}", options.display()).into());
    let server =
        bound::start(&ready.program, &arguments, owner, &private.log()).map_err(|error| {
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
        writer: flavour.clone(),
        ready,
        owner,
        flavour,
        boot: Duration::ZERO,
        log: private.log(),
        data_dir: data_dir.clone(),
        full_since: None,
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

    /// Runs `questions` on a thread of its own and looks after the server meanwhile: a signal to us
    /// ends it, and so does doing nothing for too long, whereupon whoever waits for its answer
    /// gets an error. `step` says what is asked.
    pub fn answer<T: Send>(
        &mut self,
        ctx: &Context,
        step: &'static str,
        questions: impl FnOnce() -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        let mut trouble = None;
        let answered = std::thread::scope(|scope| {
            let asking = scope.spawn(questions);
            let mut idle = Idle::watch(self.server.id());
            let mut looked = Instant::now();
            while !asking.is_finished() {
                if looked.elapsed() > TELL_EVERY && trouble.is_none() {
                    looked = Instant::now();
                    trouble = self.trouble(&mut idle);
                }
                if ctx.cancel.is_set() || trouble.is_some() {
                    self.server.kill();
                }
                std::thread::sleep(LOOK_EVERY);
            }
            asking
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        ctx.cancel.check(step)?;
        match (answered, trouble) {
            (Err(Failure::Other(SnapshotError::Session(_))), Some(trouble)) => Err(trouble.into()),
            (Err(Failure::Other(SnapshotError::Session(error))), None) => {
                Err(self.explain_loss(error))
            }
            (answered, _) => answered,
        }
    }

    /// A bad table, with the cause where the server's log names one.
    pub fn sharpen(&self, failure: Failure) -> Failure {
        let Failure::Flaw {
            flaw: Flaw::CorruptTable,
            detail,
        } = failure
        else {
            return failure;
        };
        let diagnosis = self.diagnose();
        match diagnosis.cause {
            Cause::Flaw(
                flaw @ (Flaw::CorruptPage | Flaw::TruncatedFile | Flaw::MissingKeyRing),
            ) => Failure::Flaw {
                flaw,
                detail: format!("{detail} ({})", diagnosis.evidence),
            },
            Cause::Flaw(_) => Failure::Flaw {
                flaw: Flaw::CorruptTable,
                detail,
            },
            Cause::Machine(lack) => Failure::Other(SnapshotError::Failed {
                step: "check the tables",
                reason: detail,
                hint: Some(lack.hint().to_owned()),
            }),
        }
    }

    /// What its log holds against the files although it came up.
    pub fn complaints(&self) -> Vec<String> {
        boot_log::complaints(&self.read_log())
    }

    fn diagnose(&self) -> Diagnosis {
        boot_log::diagnose(&self.read_log(), &self.writer, self.version().as_ref())
    }

    /// Of the program, which may have ended before it said so.
    fn version(&self) -> Option<Flavour> {
        let mut arguments = self.ready.arguments.clone();
        arguments.extend(["--no-defaults", "--version"].map(Into::into));
        // As the account of the files, never as root: it may be a container's.
        let said = self.log.with_file_name("version");
        let mut asked = bound::start(&self.ready.program, &arguments, self.owner, &said).ok()?;
        asked.wait(VERSION_LIMIT)?;
        boot_log::parse_version(&files::read_ends(&said, LOG_BYTES_EACH).ok()?)
    }

    fn read_log(&self) -> String {
        files::read_ends(&self.log, LOG_BYTES_EACH).unwrap_or_default()
    }

    /// Why no answer is to be waited for any more.
    fn trouble(&mut self, idle: &mut Idle) -> Option<SnapshotError> {
        let failed = |reason: String, hint: &str| SnapshotError::Failed {
            step: "wait for the private server",
            reason,
            hint: Some(hint.to_owned()),
        };
        if let Some(words) = boot_log::waits_for_room(&self.read_log()) {
            return Some(failed(words.to_owned(), Lack::Room.hint()));
        }
        if self
            .full_since()
            .is_some_and(|since| since.elapsed() > FULL_LIMIT)
        {
            let reason = format!("the filesystem of {} is full", self.data_dir.display());
            return Some(failed(reason, Lack::Room.hint()));
        }
        (idle.look() > STALL).then(|| {
            let reason = format!(
                "it neither answers nor does anything since {} s",
                STALL.as_secs()
            );
            failed(reason, "Look at the disk under the snapshot.")
        })
    }

    /// Since when its filesystem has been full, as far as it was looked at.
    fn full_since(&mut self) -> Option<Instant> {
        let is_full = kept::free_space(&self.data_dir).is_ok_and(|(free, _)| free < FULL_BYTES);
        let since = self.full_since.unwrap_or_else(Instant::now);
        self.full_since = is_full.then_some(since);
        self.full_since
    }

    fn wait(&mut self, ctx: &Context, since: Instant) -> Result<Session, Failure> {
        let Address::Socket(socket) = self.target.address.clone() else {
            unreachable!("a private server has a socket");
        };
        let mut told = since;
        let mut denied = None;
        let mut idle = Idle::watch(self.server.id());
        loop {
            ctx.cancel.check("waiting for the private server")?;
            if socket.exists() {
                match Session::connect(&self.target) {
                    Ok(session) => return Ok(session),
                    Err(error) => refuse_denial(error, &mut denied)?,
                }
            }
            if let Some(status) = self.server.ended() {
                return Err(self.explain(status));
            }
            if told.elapsed() > TELL_EVERY {
                told = Instant::now();
                let log = self.read_log();
                let words = boot_log::recovery_progress(&log).unwrap_or("starting");
                ctx.progress.still("boot", words, since);
                if let Some(trouble) = self.trouble(&mut idle) {
                    return Err(trouble.into());
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Why it ended, by its log. Only a server that gave up by itself tells anything of its files.
    fn explain(&self, status: ExitStatus) -> Failure {
        let diagnosis = self.diagnose();
        let gave_up = match status.signal() {
            None => !status.success(),
            Some(signal) => ![libc::SIGKILL, libc::SIGTERM, libc::SIGINT].contains(&signal),
        };
        let failed = |hint: &str| {
            Failure::Other(SnapshotError::Failed {
                step: "run the private server",
                reason: format!("{} ({status})", diagnosis.evidence),
                hint: Some(hint.to_owned()),
            })
        };
        match diagnosis.cause {
            _ if !gave_up => failed(
                "Somebody ended it: see whether the machine ran out of memory (`dmesg`), then \
                 verify again.",
            ),
            Cause::Machine(lack) => failed(lack.hint()),
            Cause::Flaw(flaw) => Failure::Flaw {
                flaw,
                detail: format!("{} ({status})", diagnosis.evidence),
            },
        }
    }

    /// After a connection was lost: the server's end explains it, if it ended.
    fn explain_loss(&mut self, error: SessionError) -> Failure {
        let Some(status) = self.server.wait(CRASH_LIMIT) else {
            return Failure::from(error);
        };
        match self.explain(status) {
            Failure::Flaw {
                flaw: Flaw::DidNotStart,
                detail,
            } => Failure::Flaw {
                flaw: Flaw::CorruptTable,
                detail: format!("the server ended while it was asked: {detail}"),
            },
            other => other,
        }
    }

    /// Ends it at once, unless it has ended by itself meanwhile, which tells something. For files
    /// that are thrown away: an orderly end takes more than a second.
    pub fn finish(mut self) -> Result<(), Failure> {
        match self.server.ended() {
            Some(status) => Err(self.explain(status)),
            None => Ok(()),
        }
    }

    /// An orderly end.
    pub fn shut_down(mut self, ctx: &Context) -> Result<(), Failure> {
        let since = Instant::now();
        self.server.ask_to_end();
        match self.server.wait(END_LIMIT) {
            Some(status) if status.success() => {
                ctx.progress.step("stop", "the private server ended", since);
                Ok(())
            }
            Some(status) => Err(self.explain(status)),
            None => Err(Failure::Other(SnapshotError::Failed {
                step: "stop the private server",
                reason: format!(
                    "it still ran after {} s, and was killed",
                    END_LIMIT.as_secs()
                ),
                hint: None,
            })),
        }
    }
}

/// Its account was made before it let anybody in, so that a refusal is final; a lost connection or
/// one too early isn't.
fn refuse_denial(error: SessionError, denied: &mut Option<Instant>) -> Result<(), Failure> {
    let SessionError::Connect {
        code: Some(1045), ..
    } = &error
    else {
        return Ok(());
    };
    let since = *denied.get_or_insert_with(Instant::now);
    if since.elapsed() < DENIED_LIMIT {
        return Ok(());
    }
    Err(Failure::Other(SnapshotError::Failed {
        step: "log in to the private server",
        reason: error.to_string(),
        hint: Some(
            "Its log says why the account couldn't be made; a plugin for password rules may be \
             stricter than usual."
                .to_owned(),
        ),
    }))
}

/// Keeps what the private server said, for people: a use's own place goes with it. `None` when
/// there is nothing to keep, or no room for it.
pub fn keep_log(using: &CloneSession<'_>) -> Option<PathBuf> {
    let log = StateDir::run_place(&using.id).join("log");
    let text = files::read_ends(&log, LOG_BYTES_EACH).ok()?;
    let kept = using.ctx.state.kept_log(&using.id);
    match files::replace(&kept, text.as_bytes()) {
        Ok(()) => Some(kept),
        Err(error) => {
            tracing::warn!(%error, "the private server's log isn't kept");
            None
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
