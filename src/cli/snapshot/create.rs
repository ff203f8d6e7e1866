//! `snapshot create SERVER`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::render;
use crate::cli::Cli;
use crate::cli::failure::Failure;
use crate::cli::page::{Cell, Page, prose_table};
use crate::cli::session::with_context;
use crate::cli::ui::Ui;
use crate::config::{BACKENDS, BackendChoice};
use crate::snapshot::manifest::Level;
use crate::snapshot::prove::verify;
use crate::snapshot::take::create;
use crate::snapshot::take::plan;
use crate::snapshot::take::preflight::Options;

/// Take a snapshot of a replica with its SQL threads paused
///
/// Checks first, pauses only for the moment of the snapshot, resumes exactly what ran before, and
/// waits until it runs. If this command is killed, its watchdog resumes replication.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The replica, as the configuration names it
    server: String,

    /// Words for people
    #[arg(long, value_name = "TEXT", value_parser = parse_label)]
    label: Option<String>,

    /// A mark for scripts; may be given several times
    #[arg(long = "tag", value_name = "K=V", value_parser = parse_tag)]
    tags: Vec<(String, String)>,

    /// Protect it from delete and prune
    #[arg(long)]
    hold: bool,

    /// Prove it right away: a private server must come up on a clone of it
    #[arg(long)]
    verify: bool,

    /// Allow it on a server that is no replica: its writes are locked for the moment
    #[arg(long)]
    allow_source: bool,

    /// Instead of the configured back-end: `auto`, `zfs`, `lvm`, `btrfs`, `reflink`, `copy` or `dump`
    #[arg(long, value_name = "NAME", value_parser = parse_backend)]
    backend: Option<BackendChoice>,

    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

fn parse_backend(text: &str) -> Result<BackendChoice, String> {
    let known = BACKENDS.iter().find(|(word, _)| *word == text);
    known.map(|(_, choice)| *choice).ok_or_else(|| {
        let words: Vec<&str> = BACKENDS.iter().map(|(word, _)| *word).collect();
        format!("it is one of {}", words.join(", "))
    })
}

/// It is printed for years, wherever snapshots are listed.
pub fn parse_label(text: &str) -> Result<String, String> {
    match text.chars().find(|c| c.is_control()) {
        None => Ok(text.to_owned()),
        Some(found) => Err(format!("it holds a control character ({found:?})")),
    }
}

fn parse_tag(text: &str) -> Result<(String, String), String> {
    match parse_label(text)?.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("a tag looks like key=value".to_owned()),
    }
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let options = Options {
        label: args.label.clone(),
        tags: args.tags.iter().cloned().collect::<BTreeMap<_, _>>(),
        hold: args.hold,
        allow_source: args.allow_source,
        backend: args.backend,
        cow_size: None,
    };
    if args.dry_run {
        return dry_run(cli, ui, args, &options);
    }
    let manifest = with_context(cli, ui, |ctx| {
        let manifest = create::create(ctx, &args.server, &options)?;
        if !args.verify {
            return Ok(manifest);
        }
        verify::verify(ctx, &manifest.id, PROOF).map_err(|error| {
            // The snapshot is there and may be good; only its proof is missing.
            let mut failure =
                Failure::from(error).with(json!({"snapshot": render::document(&manifest, None)}));
            failure.message = format!(
                "{} was taken, but not proven: {}",
                manifest.id, failure.message
            );
            failure
        })
    })?;
    if args.verify {
        return super::verify::report(ui, &manifest, |manifest| {
            format!(
                "{}\n{}",
                render::ticket_line(manifest),
                render::proof_line(manifest)
            )
        });
    }
    ui.result(
        &json!({"snapshot": render::document(&manifest, None)}),
        || render::ticket_line(&manifest),
    );
    Ok(())
}

/// What --verify asks of a new snapshot: quick, whatever its size.
const PROOF: verify::Options = verify::Options {
    level: Level::Boot,
    foreign_keys: false,
};

fn dry_run(cli: &Cli, ui: &Ui, args: &Args, options: &Options) -> Result<(), Failure> {
    let ready = with_context(cli, ui, |ctx| {
        Ok(create::plan_only(ctx, &args.server, options)?)
    })?;
    let steps = plan::describe(&ready.plan);
    let volumes: Vec<&Path> = ready.mount_points();
    let takes = ready.takes();
    let json = json!({"dry_run": true, "plan": {
        "server": args.server,
        "backend": ready.plan.backend.choice(),
        "backend_kind": ready.plan.backend,
        "consistency": ready.plan.consistency,
        "max_pause_ms": ready.plan.max_pause.as_millis() as u64,
        "volumes": volumes,
        "takes": takes,
        "steps": steps,
        "warnings": ready.plan.warnings,
    }});
    ui.result(&json, || {
        let mut lines = vec![format!("would take a snapshot of {}:", args.server)];
        let page = Page::of_stdout();
        let rows: Vec<Vec<Cell>> = steps
            .iter()
            .map(|step| vec![step.step.into(), step.detail.as_str().into()])
            .collect();
        lines.extend(prose_table(&page, 2, &rows));
        let rows: Vec<Vec<Cell>> = takes
            .iter()
            .map(|taken| {
                let path = taken.path.display().to_string();
                vec![
                    "takes".into(),
                    taken.what.into(),
                    path.into(),
                    taken.source().into(),
                ]
            })
            .collect();
        lines.extend(prose_table(&page, 2, &rows));
        for warning in &ready.plan.warnings {
            lines.extend(page.hanging("  warning: ", 4, warning));
        }
        lines.join("\n")
    });
    Ok(())
}
