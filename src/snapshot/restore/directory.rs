//! `snapshot restore --to DIR`: a whole copy that boots as it is, and belongs to nobody's
//! replication.
//!
//! The files go to `DIR/.understudy-partial` first, so that half a copy never looks like a data
//! directory; a note beside it says whose it is, and a later run of the same restore takes it up
//! where it was left. A private server then comes up on the copy: it recovers the files, forgets the
//! sources, and ends cleanly.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::journal::OperationKind;
use crate::server::flavour::Flavour;
use crate::server::pair;
use crate::server::private::{BinaryLog, BootFacts};
use crate::server::{Session, replication};
use crate::snapshot::archive;
use crate::snapshot::archive::index::Index;
use crate::snapshot::archive::load::{self, Load};
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::keep::catalog;
use crate::snapshot::manifest::Manifest;
use crate::snapshot::prove::clone_session::{CloneFailure, CloneSession};
use crate::snapshot::prove::private_server::{self, Failure, Plan};
use crate::snapshot::prove::tables;
use crate::snapshot::prove::verify;
use crate::snapshot::take::pause::ms;
use crate::sys::cancel::Interrupted;
use crate::sys::{failpoint, files, room};
use crate::volume::mirror::{Method, Mirror};
use crate::volume::mount::{self, Access};
use crate::volume::view::{self, Stand};
use crate::volume::walk::Roots;
use crate::volume::{Mountable, kept};

/// The copy while it isn't whole, within the wanted directory.
const PARTIAL: &str = ".understudy-partial";
const NOTE: &str = ".understudy-restore.json";
/// What a server is started with on the copy, in it.
pub const OPTIONS: &str = "understudy-restored.cnf";

const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

/// Settings that name other directories than the data directory: the copy has all in one.
const DIRECTORIES: [&str; 6] = [
    "aria_log_dir_path",
    "innodb_data_home_dir",
    "innodb_directories",
    "innodb_doublewrite_dir",
    "innodb_log_group_home_dir",
    "innodb_undo_directory",
];

/// What was restored, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Restored {
    pub snapshot: String,
    pub directory: PathBuf,
    pub bytes: u64,
    pub copy_ms: u64,
    pub boot_ms: u64,
    /// What an earlier run had brought across already.
    pub resumed: bool,
    pub gtid: Option<String>,
    pub server_binary: PathBuf,
    pub option_file: PathBuf,
    /// To make a replica of it, in order, one statement each.
    pub statements: Vec<String>,
}

/// Whose half-done copy it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    snapshot: String,
    /// Everything is across and synced: only names are to be changed.
    whole: bool,
}

/// Copies a snapshot to an empty directory, or goes on with an interrupted copy.
pub fn restore_to(
    ctx: &Context,
    wanted: &str,
    directory: &Path,
    dry_run: bool,
) -> Result<Restored, SnapshotError> {
    ctx.state.create()?;
    let manifest = catalog::find(ctx, wanted)?;
    let plan = plan(ctx, &manifest)?;
    let directory = std::path::absolute(directory)
        .map_err(|source| crate::volume::VolumeError::call("find", directory, source))?;
    if let Some((dump, index)) = archive::index_of(&manifest)? {
        return restore_dump(ctx, &manifest, (&dump, &index), &plan, &directory, dry_run);
    }
    let note = look(&directory, &manifest)?;
    let mut restored = Restored {
        snapshot: manifest.id.clone(),
        directory: directory.clone(),
        bytes: 0,
        copy_ms: 0,
        boot_ms: 0,
        resumed: note.is_some(),
        gtid: manifest.position.as_ref().map(|p| p.gtid.clone()),
        server_binary: plan.binary.name(),
        option_file: directory.join(OPTIONS),
        statements: statements(&manifest, &plan.facts),
    };
    if dry_run {
        return Ok(restored);
    }
    let mut using = CloneSession::begin(ctx, &manifest, OperationKind::RestoreTo, "restore")?;
    let since = Instant::now();
    if note.as_ref().is_none_or(|note| !note.whole) {
        restored.bytes = copy(&mut using, &plan, &directory)?;
    }
    put_together(&using, &directory)?;
    restored.copy_ms = ms(since.elapsed());
    using.end("copied")?;

    let since = Instant::now();
    let mut using = CloneSession::begin(ctx, &manifest, OperationKind::RestoreTo, "settle")?;
    settle(&mut using, &plan, &directory)?;
    restored.boot_ms = ms(since.elapsed());
    using.end("done")?;
    files::remove(&directory.join(NOTE))?;
    Ok(restored)
}

/// As `restore_to`, of a dump: loaded into a new data directory. One that was interrupted begins anew.
fn restore_dump(
    ctx: &Context,
    manifest: &Manifest,
    (dump, index): (&Path, &Index),
    plan: &Plan,
    directory: &Path,
    dry_run: bool,
) -> Result<Restored, SnapshotError> {
    let is_loaded = look(directory, manifest)?.is_some_and(|note| note.whole);
    let facts = load::facts(index, directory.to_owned());
    let mut restored = Restored {
        snapshot: manifest.id.clone(),
        directory: directory.to_owned(),
        bytes: index.streams().map(|stream| stream.raw_bytes).sum(),
        copy_ms: 0,
        boot_ms: 0,
        resumed: is_loaded,
        gtid: manifest.position.as_ref().map(|p| p.gtid.clone()),
        server_binary: plan.binary.name(),
        option_file: directory.join(OPTIONS),
        statements: statements(manifest, &facts),
    };
    if dry_run {
        return Ok(restored);
    }
    let using = CloneSession::begin(ctx, manifest, OperationKind::RestoreTo, "restore")?;
    using.check_volumes().map_err(|failure| match failure {
        CloneFailure::Spoilt { volume, reason } => SnapshotError::refused(
            format!("{volume} isn't good any more: {reason}"),
            "Choose another snapshot.",
        ),
        CloneFailure::Other(error) => error,
    })?;
    let since = Instant::now();
    if !is_loaded {
        let load = Load {
            using: &using,
            index,
            directory: dump,
            data: &directory.join(PARTIAL),
            binary: &plan.binary,
            is_throwaway: false,
        };
        let boot = load_beside(&load, directory, restored.bytes, &restored.gtid)?;
        restored.boot_ms = ms(boot);
    }
    failpoint::hit("copied");
    put_together(&using, directory)?;
    let owner = files::owner_of(directory)?;
    let text = option_text(&facts, directory);
    files::write_for(&directory.join(OPTIONS), text.as_bytes(), owner)?;
    restored.copy_ms = ms(since.elapsed());
    using.end("done")?;
    files::remove(&directory.join(NOTE))?;
    Ok(restored)
}

/// Into a directory within the wanted one, so that half of it never looks like a data directory.
fn load_beside(
    load: &Load<'_>,
    directory: &Path,
    bytes: u64,
    gtid: &Option<String>,
) -> Result<Duration, SnapshotError> {
    let note = |whole| Note {
        snapshot: load.using.manifest.id.clone(),
        whole,
    };
    write_note(directory, &note(false))?;
    files::remove_tree(load.data)?;
    kept::check_free_space(directory, bytes)?;
    files::make_dir_for(load.data, files::owner_of(directory)?)?;
    let gtid = gtid.as_deref().unwrap_or_default();
    let loaded = room::within(|| load_whole(load, gtid)).map_err(SnapshotError::from)?;
    let boot = loaded.map_err(|failure| match failure {
        Failure::Other(error) => error,
        Failure::Flaw { flaw, detail } => SnapshotError::Failed {
            step: "load the dump",
            reason: format!("{}: {detail}", flaw.words()),
            hint: Some(flaw.hint().to_owned()),
        },
    })?;
    write_note(directory, &note(true))?;
    Ok(boot)
}

/// In the room: with its accounts and at its position, ended cleanly.
fn load_whole(load: &Load<'_>, gtid: &str) -> Result<Duration, Failure> {
    let ctx = load.using.ctx;
    let (booted, session) = load::load(load)?;
    let boot = booted.boot;
    let session = load::make_accounts(load, session, booted.target())?;
    let session = pair::set_applied(session, gtid)?;
    drop(forget(session, booted.target().user.as_str())?);
    booted.shut_down(ctx)?;
    Ok(boot)
}

/// The plan of a private server on the copy: all in one directory, and to be kept.
fn plan(ctx: &Context, manifest: &Manifest) -> Result<Plan, SnapshotError> {
    let mut plan = verify::plan(ctx, manifest)?;
    plan.is_throwaway = false;
    if let Some(file) = plan.facts.outside_files.first() {
        return Err(SnapshotError::refused(
            format!(
                "{} has files of tables outside of its data directory ({}), whose place is written \
                 in them",
                manifest.server,
                file.display()
            ),
            "Use `understudy snapshot mount --writable`, or `snapshot extract`.",
        ));
    }
    Ok(plan)
}

/// What is in the directory: nothing, or an earlier run's half-done copy of the same snapshot.
fn look(directory: &Path, manifest: &Manifest) -> Result<Option<Note>, SnapshotError> {
    if !directory.is_dir() {
        return Err(SnapshotError::refused(
            format!("{} is no directory", directory.display()),
            format!("Make it with `install -d -m 0700 {}`.", directory.display()),
        ));
    }
    let text = files::read_text(&directory.join(NOTE))?;
    let note: Option<Note> = text.and_then(|text| serde_json::from_str(&text).ok());
    if let Some(note) = note {
        if note.snapshot == manifest.id {
            return Ok(Some(note));
        }
        return Err(SnapshotError::refused(
            format!(
                "{} holds an unfinished copy of {}",
                directory.display(),
                note.snapshot
            ),
            "Finish that one, or empty the directory.",
        ));
    }
    // A new filesystem's own directory is nothing.
    let is_empty = files::list(directory)?
        .iter()
        .all(|path| path.file_name().is_some_and(|name| name == "lost+found"));
    if is_empty {
        return Ok(None);
    }
    Err(SnapshotError::refused(
        format!("{} isn't empty", directory.display()),
        "Give an empty directory.",
    ))
}

/// Brings the files across; the bytes of all of them.
fn copy(using: &mut CloneSession<'_>, plan: &Plan, directory: &Path) -> Result<u64, SnapshotError> {
    let note = Note {
        snapshot: using.manifest.id.clone(),
        whole: false,
    };
    write_note(directory, &note)?;
    let stands = using.readable_or_clone().map_err(|failure| match failure {
        CloneFailure::Spoilt { volume, reason } => SnapshotError::refused(
            format!("{volume} isn't good any more: {reason}"),
            "Choose another snapshot.",
        ),
        CloneFailure::Other(error) => error,
    })?;
    let (run, _) = using.make_places((0, 0))?;
    let since = Instant::now();
    let bytes = room::within(|| {
        view::let_go(&[])?;
        // Elsewhere than their origins, which may be below or above the wanted directory.
        let mut seen = Vec::new();
        for (index, stand) in stands.iter().enumerate() {
            let at = run.join(index.to_string());
            files::make_private_dir(&at)?;
            mount::mount(&stand.clone, &at, Access::ReadOnly)?;
            seen.push((stand.at.clone(), at));
        }
        let copied = copy_all(using, plan, &seen, directory);
        for (_, at) in seen.iter().rev() {
            mount::unmount(at)?;
        }
        copied
    })
    .map_err(SnapshotError::from)??;
    write_note(
        directory,
        &Note {
            whole: true,
            ..note
        },
    )?;
    let rate = bytes as f64 / since.elapsed().as_secs_f64() / 1_048_576.0;
    using.ctx.progress.step(
        "copy",
        format!("{} MiB, {rate:.0} MiB/s", bytes >> 20),
        since,
    );
    failpoint::hit("copied");
    Ok(bytes)
}

/// In the room. `seen` maps where a volume was mounted to where it is now.
fn copy_all(
    using: &CloneSession<'_>,
    plan: &Plan,
    seen: &[(PathBuf, PathBuf)],
    directory: &Path,
) -> Result<u64, SnapshotError> {
    let from = now_at(seen, &plan.facts.data_dir).ok_or_else(|| SnapshotError::Failed {
        step: "find the data directory in the snapshot",
        reason: format!(
            "{} is in none of its volumes",
            plan.facts.data_dir.display()
        ),
        hint: None,
    })?;
    // One tree each: what comes of a mirror holds nothing that its source hasn't.
    let mut trees = vec![Roots::whole(&from)];
    trees.extend(
        others(plan, seen, &from)
            .iter()
            .map(|other| Roots::whole(other)),
    );
    let binary_log = plan.facts.binary_log.as_ref();
    let log_elsewhere = binary_log
        .and_then(|log| now_at(seen, &log.base))
        .filter(|base| !base.starts_with(&from));
    trees.extend(log_elsewhere.and_then(|base| Roots::of_log(&base)));
    let relay_log = plan.facts.relay_log.as_ref();
    let relay_log = relay_log.and_then(|base| now_at(seen, base));
    let mut mirrors = Vec::new();
    let (mut bytes, mut inodes, mut there) = (0, 0, 0);
    for (index, mut roots) in trees.into_iter().enumerate() {
        let to = directory.join(match index {
            0 => PARTIAL.to_owned(),
            other => format!("{PARTIAL}-{other}"),
        });
        files::make_private_dir(&to)?;
        if let Some(base) = &relay_log {
            roots = roots.without_relay_log(base);
        }
        let mut mirror = Mirror::open(roots, to.clone(), Method::Copy)?;
        refuse_link(&mirror, plan, seen)?;
        let needs = mirror.measure()?;
        (bytes, inodes) = (bytes + needs.0, inodes + needs.1);
        there += kept::disk_usage(&to)?;
        mirrors.push(mirror);
    }
    kept::check_free_space(directory, bytes.saturating_sub(there))?;
    kept::check_free_inodes(directory, inodes)?;
    let mut copied = 0;
    for mut mirror in mirrors {
        let cancel = &using.ctx.cancel;
        let progress = &mut |done, total| using.ctx.progress.bytes(done, total);
        match mirror.copy_still(&|| cancel.is_set(), progress) {
            Ok(round) => copied += round.bytes,
            Err(_) if cancel.is_set() => {
                return Err(SnapshotError::Interrupted(Interrupted {
                    step: "copying; the same command goes on with it",
                }));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(copied)
}

/// A link in the copy would lead its server to the live server's files; one that never led to any of
/// them stays as it is.
fn refuse_link(
    mirror: &Mirror,
    plan: &Plan,
    seen: &[(PathBuf, PathBuf)],
) -> Result<(), SnapshotError> {
    let apart: Vec<PathBuf> = plan
        .facts
        .links_apart
        .iter()
        .filter_map(|link| now_at(seen, link))
        .collect();
    let leads = mirror
        .links()?
        .into_iter()
        .find(|link| !apart.contains(link));
    match leads {
        None => Ok(()),
        Some(link) => Err(SnapshotError::refused(
            format!(
                "{} is a link, which would lead the copy's server to other files",
                link.display()
            ),
            "Use `understudy snapshot mount --writable`, or `snapshot extract`.",
        )),
    }
}

/// Where a path of the live server is now.
fn now_at(seen: &[(PathBuf, PathBuf)], path: &Path) -> Option<PathBuf> {
    seen.iter()
        .filter_map(|(was, now)| {
            let rest = path.strip_prefix(was).ok()?;
            Some((was.components().count(), now.join(rest)))
        })
        .max_by_key(|(depth, _)| *depth)
        .map(|(_, path)| path.components().collect())
}

/// The directories of logs and system tablespaces beside the data directory.
fn others(plan: &Plan, seen: &[(PathBuf, PathBuf)], data: &Path) -> Vec<PathBuf> {
    let facts = &plan.facts;
    let mut found: Vec<PathBuf> = DIRECTORIES
        .iter()
        .filter_map(|name| facts.settings.get(*name))
        .flat_map(|value| value.split(';'))
        .map(|value| facts.data_dir.join(value))
        .filter_map(|path| now_at(seen, &path))
        .filter(|path| !path.starts_with(data) && path.is_dir())
        .collect();
    found.sort();
    found.dedup();
    found
}

fn write_note(directory: &Path, note: &Note) -> Result<(), SnapshotError> {
    let text = serde_json::to_vec(note).expect("a note holds only plain data");
    Ok(files::replace(&directory.join(NOTE), &text)?)
}

/// Gives the files their places, and scrubs what would make a server on them an impostor. May be
/// done again after it was interrupted.
fn put_together(using: &CloneSession<'_>, directory: &Path) -> Result<(), SnapshotError> {
    let partials: Vec<PathBuf> = files::list(directory)?
        .into_iter()
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(PARTIAL)
        })
        .collect();
    for partial in partials {
        let owner = files::owner_of(&partial)?;
        for path in files::list(&partial)? {
            let name = path.file_name().unwrap_or_default();
            files::rename(&path, &directory.join(name))?;
        }
        failpoint::hit("moved");
        if partial.ends_with(PARTIAL) {
            files::own(directory, owner)?;
            files::make_private(directory)?;
        }
        files::remove_empty_dir(&partial)?;
    }
    for name in files::list(directory)? {
        let text = name
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if is_identity(&text) {
            files::remove(&name)?;
        }
    }
    Ok(using
        .ctx
        .cancel
        .check("restoring; the same command goes on with it")?)
}

/// MySQL's uuid and persisted settings; the files in which older servers keep what they replicate
/// from.
fn is_identity(name: &str) -> bool {
    let is_info = ["master", "relay-log", "multi-master"]
        .iter()
        .any(|start| name.starts_with(start))
        && name.ends_with(".info");
    is_info || matches!(name, "auto.cnf" | "mysqld-auto.cnf")
}

/// A private server on the copy itself: it recovers, forgets its sources, and ends cleanly.
fn settle(
    using: &mut CloneSession<'_>,
    plan: &Plan,
    directory: &Path,
) -> Result<(), SnapshotError> {
    let plan = Plan {
        facts: facts_of_copy(&plan.facts, directory),
        ..plan.clone()
    };
    if let Some(log) = &plan.facts.binary_log {
        lead_index(&log.index, directory)?;
    }
    let done = room::within(|| {
        let (run, work) = using.make_places((0, 0))?;
        let tmp = run.join("tmp");
        files::make_private_dir(&tmp)?;
        let stands = [Stand {
            clone: Mountable::Directory(work),
            at: tmp,
        }];
        view::arrange(&stands, &[run, directory.to_owned()])?;
        let (booted, session) = private_server::boot(using, &plan)?;
        let session = tables::check_files(session, &plan.facts.data_dir, &[directory])?;
        let session = forget(session, booted.target().user.as_str())?;
        drop(session);
        booted.shut_down(using.ctx)?;
        Ok::<(), Failure>(())
    })
    .map_err(SnapshotError::from)?;
    done.map_err(|failure| match failure {
        Failure::Other(error) => error,
        Failure::Flaw { flaw, detail } => SnapshotError::Failed {
            step: "bring up a server on the copy",
            reason: format!("{}: {detail}", flaw.words()),
            hint: Some(flaw.hint().to_owned()),
        },
    })?;
    // As whoever starts the next server will be.
    files::remove(&directory.join("auto.cnf"))?;
    let owner = files::owner_of(directory)?;
    let options = directory.join(OPTIONS);
    files::write_for(
        &options,
        option_text(&plan.facts, directory).as_bytes(),
        owner,
    )?;
    Ok(())
}

/// The binary log's index may name its files by their old absolute paths, which are the live
/// server's.
fn lead_index(index: &Path, directory: &Path) -> Result<(), SnapshotError> {
    let Some(text) = files::read_text(index)? else {
        return Ok(());
    };
    let own = index.parent().unwrap_or(directory);
    let lines: Vec<String> = text
        .lines()
        .map(|line| Path::new(line).file_name().unwrap_or_default())
        .map(|name| format!("{}\n", own.join(name).display()))
        .collect();
    let owner = files::owner_of(index)?;
    Ok(files::write_for(index, lines.concat().as_bytes(), owner)?)
}

/// Replication metadata in tables, and our own account, go.
fn forget(session: Session, user: &str) -> Result<Session, Failure> {
    let (mut session, channels) = replication::observe_channels(session)?;
    for channel in channels {
        let statement = session.flavour().forget_sources(&channel.name);
        session = session.execute(&statement, STATEMENT_LIMIT)?;
    }
    let statement = format!("DROP USER '{user}'@'localhost'");
    Ok(session.execute(&statement, STATEMENT_LIMIT)?)
}

fn facts_of_copy(facts: &BootFacts, directory: &Path) -> BootFacts {
    let mut copy = facts.clone();
    copy.settings
        .retain(|name, _| !DIRECTORIES.contains(&name.as_str()));
    // Its binary log goes on within the copy.
    copy.binary_log = facts.binary_log.as_ref().map(|log| {
        let within = |path: &Path| match path.strip_prefix(&facts.data_dir) {
            Ok(rest) => directory.join(rest),
            Err(_) => directory.join(path.file_name().unwrap_or_default()),
        };
        BinaryLog {
            base: within(&log.base),
            index: within(&log.index),
        }
    });
    copy.data_dir = directory.to_owned();
    copy
}

/// What a server needs to be told to come up on the copy as its own master.
fn option_text(facts: &BootFacts, directory: &Path) -> String {
    let mut lines = vec![
        "# Made by understudy: a server comes up on this directory with".to_owned(),
        format!(
            "#   mysqld --defaults-file={}",
            directory.join(OPTIONS).display()
        ),
        "# Give it a server_id that no other server of its replication has.".to_owned(),
        "[mysqld]".to_owned(),
        format!("datadir={}", directory.display()),
        format!("socket={}", directory.join("restored.sock").display()),
        "skip-networking".to_owned(),
        "server-id=4276992702".to_owned(),
    ];
    let skip = match Flavour::of_version(&facts.version) {
        flavour if flavour.is_mariadb() => "skip-slave-start",
        flavour if flavour.version >= (8, 0, 26) => "skip-replica-start",
        _ => "skip-slave-start",
    };
    lines.push(skip.to_owned());
    for name in [
        "aria_block_size",
        "basedir",
        "character_sets_dir",
        "enforce_gtid_consistency",
        "gtid_mode",
        "innodb_checksum_algorithm",
        "innodb_data_file_path",
        "innodb_page_size",
        "innodb_undo_tablespaces",
        "lc_messages_dir",
        "lower_case_table_names",
        "plugin_dir",
    ] {
        if let Some(value) = facts.settings.get(name) {
            lines.push(format!("loose-{}={value}", name.replace('_', "-")));
        }
    }
    for (name, value) in facts.binary_log.iter().flat_map(BinaryLog::options) {
        lines.push(format!("{}={value}", name.replace('_', "-")));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// The statements that make a replica of the copy, from the recorded position.
fn statements(manifest: &Manifest, facts: &BootFacts) -> Vec<String> {
    let Some(position) = &manifest.position else {
        return Vec::new();
    };
    Flavour::of_version(&facts.version).replicate_from(position)
}
