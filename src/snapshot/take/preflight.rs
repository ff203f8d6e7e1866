//! What stands before anything is changed: the server observed, the plan decided, the back-end found.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::config::{BackendChoice, Consistency, CowSize, ServerConfig, SnapshotConfig};
use crate::server::facts::ServerFacts;
use crate::server::private::BootFacts;
use crate::server::replication;
use crate::server::session::Session;
use crate::server::{Identity, Target};
use crate::snapshot::archive::look::Look;
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::observe;
use crate::snapshot::take::plan::{self, Observed, Plan};
use crate::volume::layout::{Layout, Mount, Place, Role};
use crate::volume::{self, Backend, Stillness, TakeRequest};

/// What the user may say about one snapshot.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub label: Option<String>,
    pub tags: std::collections::BTreeMap<String, String>,
    pub hold: bool,
    pub allow_source: bool,
    /// Instead of the configured ones.
    pub backend: Option<BackendChoice>,
    pub cow_size: Option<CowSize>,
}

/// What stands before anything is changed.
pub struct Preflight {
    pub plan: Plan,
    pub server: ServerConfig,
    pub target: Target,
    pub identity: Identity,
    pub facts: ServerFacts,
    pub layout: Layout,
    /// Not taken, and not needed.
    pub logs_apart: Vec<Place>,
    pub boot: BootFacts,
    pub backend: Box<dyn Backend>,
    /// Of a dump: what it will bring.
    pub dump: Option<Look>,
}

impl Preflight {
    /// What of the server's files would be taken, and from where; then what is left out.
    pub fn takes(&self) -> Vec<Taken> {
        let of = |place: &Place, from: Option<&Mount>| Taken {
            what: place.role.words(),
            path: place.path.clone(),
            from: from.map(|mount| mount.mount_point.clone()),
            filesystem: from.map(|mount| mount.fs_type.to_string()),
        };
        let volumes = self.layout.volumes.iter();
        let taken = volumes.flat_map(|volume| {
            let places = volume.places.iter();
            places.map(|place| of(place, Some(&volume.mount)))
        });
        let apart = self.logs_apart.iter().map(|place| of(place, None));
        taken.chain(apart).collect()
    }

    /// Where the volumes are mounted that the snapshot is taken of.
    pub fn mount_points(&self) -> Vec<&Path> {
        self.layout
            .volumes
            .iter()
            .map(|volume| volume.mount.mount_point.as_path())
            .collect()
    }
}

/// One of the server's places. A log's path is the beginning of its files' names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Taken {
    pub what: &'static str,
    pub path: PathBuf,
    /// Where its volume is mounted; `None` when it isn't taken.
    pub from: Option<PathBuf>,
    pub filesystem: Option<String>,
}

impl Taken {
    /// `btrfs on /srv`
    pub fn source(&self) -> String {
        match (&self.filesystem, &self.from) {
            (Some(filesystem), Some(from)) => format!("{filesystem} on {}", from.display()),
            _ => "not taken, and not needed".to_owned(),
        }
    }
}

/// Observes and decides; changes nothing.
pub fn observe_and_plan(
    ctx: &Context,
    name: &str,
    options: &Options,
) -> Result<Preflight, SnapshotError> {
    let since = Instant::now();
    let server = ctx.server(name)?.clone();
    let target = ctx.target(&server)?;
    let session = Session::connect(&target)?;
    refuse_unsupported(&session, name)?;
    let identity = session.identity().clone();
    let (session, facts) = crate::server::facts::observe_server(session)?;
    let flavour = session.flavour().clone();
    let refusals = plan::refusals(&server, &facts, options.allow_source);
    if !refusals.is_empty() {
        return Err(SnapshotError::Refused { refusals });
    }
    let settings = &server.snapshot;
    let choice = options.backend.unwrap_or(settings.backend);
    if choice == BackendChoice::Dump {
        return plan_dump(ctx, server, (target, identity), (session, facts), since);
    }
    let (session, map) = observe::path_map(session, &facts, &settings.path_map)?;
    let (session, layout) = observe::layout(session, &facts, &map)?;
    let (session, boot) = observe::boot_facts(session, &facts, &layout.data_dir, &map)?;
    drop(session);
    let is_stopped = settings.consistency == Consistency::Stop;
    let directory = settings.directory.as_deref();
    let volume::Chosen {
        kind,
        layout,
        logs_apart,
    } = volume::choose(choice, &layout, directory, is_stopped)?;
    let mut boot = leave_logs(boot, &logs_apart);
    boot.links_apart.clone_from(&layout.links_apart);
    let freeze = freeze_points(ctx, settings, kind, &layout)?;
    if boot.log_apart && flavour.leave_binary_log().is_none() {
        return Err(SnapshotError::refused(
            format!(
                "the binary log of {name} isn't on the volume of its data, and {} doesn't come up at \
                 its position without it",
                flavour.text
            ),
            "Put the binary log on the volume of the data (log_bin), or use a [snapshot] directory and \
             backend = \"copy\".",
        ));
    }
    let plan = plan::plan_create(&Observed {
        config: &server,
        facts: &facts,
        backend: kind,
        freeze,
        logs_apart: &logs_apart,
        log_apart: boot.log_apart,
    });
    let backend = volume::open(kind)?;
    ctx.progress.step(
        "check",
        format!(
            "{} {}, {} snapshot",
            name,
            facts.version,
            plan::kind_word(kind)
        ),
        since,
    );
    Ok(Preflight {
        plan,
        server,
        target,
        identity,
        facts,
        layout,
        logs_apart,
        boot,
        backend,
        dump: None,
    })
}

/// As `observe_and_plan`, of what is taken by SQL alone: where the server's files are doesn't matter.
fn plan_dump(
    ctx: &Context,
    server: ServerConfig,
    (target, identity): (Target, Identity),
    (session, facts): (Session, ServerFacts),
    since: Instant,
) -> Result<Preflight, SnapshotError> {
    if server.snapshot.consistency == Consistency::Stop {
        return Err(SnapshotError::refused(
            format!("{} can't be dumped while it is stopped", server.name),
            "Use consistency = \"pause\" for backend = \"dump\".",
        ));
    }
    let none = std::collections::BTreeMap::new();
    let data_dir = observe::host_data_dir(&facts, &none);
    let (session, boot) = observe::boot_facts(session, &facts, &data_dir, &none)?;
    let boot = crate::snapshot::archive::look::facts_to_keep(boot);
    let (session, look) =
        crate::snapshot::archive::look::look(ctx, session, &server, &facts, &boot)?;
    drop(session);
    let plan = plan::plan_create(&Observed {
        config: &server,
        facts: &facts,
        backend: volume::BackendKind::Dump,
        freeze: Vec::new(),
        logs_apart: &[],
        log_apart: false,
    });
    let words = format!(
        "{} {}, {} tables, about {} MiB",
        server.name,
        facts.version,
        look.tables.len(),
        look.bytes() >> 20
    );
    ctx.progress.step("check", words, since);
    Ok(Preflight {
        plan,
        server,
        target,
        identity,
        facts,
        layout: Layout {
            data_dir,
            volumes: Vec::new(),
            warnings: Vec::new(),
            links_apart: Vec::new(),
        },
        logs_apart: Vec::new(),
        boot,
        backend: volume::open(volume::BackendKind::Dump)?,
        dump: Some(look),
    })
}

/// A server on what is taken finds no log that isn't in it.
fn leave_logs(mut boot: BootFacts, apart: &[Place]) -> BootFacts {
    let has = |role| apart.iter().any(|place| place.role == role);
    if has(Role::BinaryLog) {
        boot.log_apart = boot.binary_log.take().is_some();
    }
    if has(Role::RelayLog) {
        boot.relay_log = None;
    }
    boot
}

fn refuse_unsupported(session: &Session, name: &str) -> Result<(), SnapshotError> {
    if session.flavour().is_supported() {
        return Ok(());
    }
    Err(SnapshotError::refused(
        format!(
            "{name} is {}, a version this tool doesn't know",
            session.flavour().text
        ),
        "Use MySQL 5.6 or later, or MariaDB 10.5 or later.",
    ))
}

/// The mount points that have to stand still together, or why they can't.
fn freeze_points(
    ctx: &Context,
    settings: &SnapshotConfig,
    kind: volume::BackendKind,
    layout: &Layout,
) -> Result<Vec<PathBuf>, SnapshotError> {
    let is_stopped = settings.consistency == Consistency::Stop;
    if is_stopped || !volume::needs_freeze(kind, layout) {
        return Ok(Vec::new());
    }
    if let Some(problem) = volume::freeze_problem(kind, layout, ctx.state.root())? {
        return Err(problem.into());
    }
    let mut points: Vec<PathBuf> = layout
        .volumes
        .iter()
        .map(|volume| volume.mount.mount_point.clone())
        .collect();
    points.dedup();
    Ok(points)
}

/// Replicated temporary tables are waited out before anything is paused.
pub fn wait_for_temp_tables(ctx: &Context, preflight: &Preflight) -> Result<(), SnapshotError> {
    if preflight.facts.open_temp_tables == 0 || !preflight.facts.is_replica() {
        return Ok(());
    }
    let since = Instant::now();
    let until = since + preflight.server.snapshot.temp_table_wait;
    let mut session = Session::connect_to(&preflight.target, &preflight.identity)?;
    loop {
        ctx.cancel.check("waiting for temporary tables")?;
        let (back, open) = replication::observe_open_temp_tables(session)?;
        session = back;
        if open == 0 {
            ctx.progress
                .step("wait", "replicated temporary tables closed", since);
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(SnapshotError::refused(
                format!(
                    "{open} replicated temporary tables are open on {}",
                    preflight.server.name
                ),
                "Let the sessions on the source drop them, or raise temp_table_wait.",
            ));
        }
        sleep(Duration::from_millis(100));
    }
}

/// How long one storage command may take.
const STORAGE_LIMIT: Duration = Duration::from_secs(120);

/// What is asked of the back-end.
pub fn request(preflight: &Preflight, id: &str, options: &Options) -> TakeRequest {
    TakeRequest {
        id: id.to_owned(),
        server: preflight.server.name.clone(),
        layout: preflight.layout.clone(),
        directory: preflight.server.snapshot.directory.clone(),
        cow_size: options
            .cow_size
            .unwrap_or(preflight.server.snapshot.cow_size),
        limit: STORAGE_LIMIT.min(preflight.server.snapshot.max_pause),
        stillness: stillness(&preflight.plan),
    }
}

fn stillness(plan: &Plan) -> Stillness {
    if plan.stops_server() {
        Stillness::Stopped
    } else if plan.freeze.is_empty() {
        Stillness::Live
    } else {
        Stillness::Frozen
    }
}
