//! `snapshot verify ID`.

use clap::ValueEnum;
use serde_json::json;

use super::render;
use crate::cli::Cli;
use crate::cli::failure::{Failure, Kind};
use crate::cli::session::with_context;
use crate::cli::ui::Ui;
use crate::snapshot::keep::catalog;
use crate::snapshot::manifest::{Level, Manifest};
use crate::snapshot::prove::verify::{self, Options};

/// Prove a snapshot: a private server comes up on a clone of it
///
/// The clone is writable and thrown away; the snapshot itself stays as it is. The private server has
/// no network, doesn't replicate, and sees nothing else that it could write to. It must come up with
/// all its files, at the recorded position; with `--level tables` every table is checked too, and with
/// `--level rows` the previous proven snapshot, brought forward with the binary logs that this one
/// holds, must be equal to it, table by table. A dump is read through and held against its checksums
/// (`read`, also where `boot` is asked for); with `--level tables` it is loaded into a private server,
/// and rows and checksum of every table are compared with what the dump's own transaction saw. The outcome is kept: `snapshot list` shows it and `prune` honours it. Exit 1 when the snapshot isn't
/// good, with the reason.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An id, an unambiguous prefix of one, or latest:SERVER
    id: String,

    /// How far to look: `boot`; `tables` for CHECK TABLE of every table; `rows` to compare them besides
    /// with the previous proven snapshot, brought forward by the binary logs in this one
    #[arg(long, value_enum, default_value_t = LevelArg::Boot)]
    level: LevelArg,

    /// Look for rows whose parents are missing, in every foreign key
    #[arg(long)]
    foreign_keys: bool,

    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LevelArg {
    Read,
    Boot,
    Tables,
    Rows,
}

impl From<LevelArg> for Level {
    fn from(level: LevelArg) -> Self {
        match level {
            LevelArg::Read => Self::Read,
            LevelArg::Boot => Self::Boot,
            LevelArg::Tables => Self::Tables,
            LevelArg::Rows => Self::Rows,
        }
    }
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    if args.dry_run {
        return dry_run(cli, ui, args);
    }
    let options = Options {
        level: args.level.into(),
        foreign_keys: args.foreign_keys,
    };
    let manifest = with_context(cli, ui, |ctx| Ok(verify::verify(ctx, &args.id, options)?))?;
    report(ui, &manifest, render::proof_line)
}

/// The failure that a snapshot's verdict is, when it isn't good.
pub fn unproven(manifest: &Manifest) -> Option<Failure> {
    let mut failure = Failure::new(Kind::Unproven, manifest.verdict()?);
    let record = manifest.verification.as_ref();
    failure
        .hints
        .extend(record.map(|record| record.hints()).unwrap_or_default());
    Some(failure)
}

/// One line for a good one; a failure for one that isn't.
pub fn report(ui: &Ui, manifest: &Manifest, text: fn(&Manifest) -> String) -> Result<(), Failure> {
    let json = json!({"snapshot": render::document(manifest, None)});
    if let Some(failure) = unproven(manifest) {
        return Err(failure.with(json));
    }
    ui.result(&json, || text(manifest));
    Ok(())
}

fn dry_run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let (manifest, plan) = with_context(cli, ui, |ctx| {
        let manifest = catalog::find(ctx, &args.id)?;
        let plan = verify::plan(ctx, &manifest)?;
        Ok((manifest, plan))
    })?;
    let level: Level = args.level.into();
    let json = json!({"dry_run": true, "plan": {
        "snapshot": manifest.id,
        "level": level,
        "server_binary": plan.binary.name(),
        "data_dir": plan.facts.data_dir,
    }});
    ui.result(&json, || {
        format!(
            "would clone {}, start {} on it with its data directory at {}, without network, and \
             throw both away",
            manifest.id,
            plan.binary.name().display(),
            plan.facts.data_dir.display()
        )
    });
    Ok(())
}
