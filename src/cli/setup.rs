//! `setup PAIR`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::Cli;
use super::failure::Failure;
use super::page::Page;
use super::roles::steps;
use super::session::with_context;
use super::ui::Ui;
use crate::health;
use crate::replication::plan::{Provision, Wish};
use crate::replication::request::Request;
use crate::replication::setup::{self, Report};

/// Make replicas follow their source: checked, provisioned, linked, proven
///
/// Checks first everything that would stop replication later, and changes nothing unless all is
/// well: versions, server ids, binary log, GTID mode, row format, case of names, TLS, packet sizes,
/// disk space, and that the replica has no data of its own. Then it makes the replication account
/// (its password in a file of state_dir), brings the data, points the replica by GTID, makes it
/// read-only, starts it, waits until it has caught up, and writes a marker through.
///
/// Run it again at any time: what is so already stays as it is. When a step fails, or you interrupt
/// it, everything that it changed is put back; after a kill, `understudy recover` does that.
///
/// docs/PAIRS.md has a pair in five minutes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pair, as the configuration names it
    pair: String,

    /// Only this replica of the pair; else all of them, one after the other
    #[arg(long, value_name = "SERVER")]
    replica: Option<String>,

    /// How the data comes to the replica: none (by replication alone, where the source still has
    /// its whole history), dump (any versions that replicate), clone (the same version: MySQL's
    /// clone plugin; on one host MariaDB's backup program), snapshot:ID (on one host)
    /// [default: none if that will do]
    #[arg(long, value_name = "none|dump|clone|snapshot:ID", value_parser = parse_provision)]
    provision: Option<Provision>,

    /// Drop what the replica has of its own: schemas, transactions, replication from elsewhere
    #[arg(long)]
    replace: bool,

    /// Hold up all writers of the source while it is dumped: for tables without transactions
    #[arg(long)]
    lock_source: bool,

    /// Leave out of a dump the views that can't be read, since what they refer to is gone
    #[arg(long)]
    skip_invalid_views: bool,

    /// The host part of the replication account [default: the replica's address]
    #[arg(long, value_name = "HOST")]
    account_host: Option<String>,

    /// How long the replica may take to catch up
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    catch_up: Duration,

    /// Commits on the source wait until a replica has received them (semi-synchronous replication),
    /// for a second at most; roles take it along. Off by default
    #[arg(long)]
    semi_sync: bool,

    /// Write what the replica needs to come up closed into this option file of its host, which is
    /// understudy's alone (such as /etc/mysql/mariadb.conf.d/zz-understudy.cnf). For servers that
    /// can't keep it by themselves (MariaDB, MySQL before 8.0.11); else nothing is written. Changes
    /// of roles need it
    #[arg(long, value_name = "PATH")]
    write_option_file: Option<PathBuf>,

    /// Only check, and say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

fn parse_provision(word: &str) -> Result<Provision, String> {
    match (word, word.strip_prefix("snapshot:")) {
        ("none", _) => Ok(Provision::Nothing),
        ("dump", _) => Ok(Provision::Dump),
        ("clone", _) => Ok(Provision::Clone),
        (_, Some(id)) if !id.is_empty() => Ok(Provision::Snapshot(id.to_owned())),
        (_, _) => Err("it is none, dump, clone or snapshot:ID".to_owned()),
    }
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let request = Request {
        pair: args.pair.clone(),
        replica: args.replica.clone(),
        source: None,
        wish: Wish {
            provision: args.provision.clone(),
            replace: args.replace,
            lock_source: args.lock_source,
            skip_invalid_views: args.skip_invalid_views,
        },
        account_host: args.account_host.clone(),
        catch_up: args.catch_up,
        semi_sync: args.semi_sync,
        option_file: args.write_option_file.clone(),
    };
    let reports = with_context(cli, ui, |ctx| {
        let (pair, names) = setup::replicas(ctx, &request)?;
        let mut reports = Vec::new();
        for name in names {
            let one = (|| -> Result<Report, Failure> {
                let ready = setup::look(ctx, pair, &name, &request)?;
                if args.dry_run {
                    return Ok(ready.dry_run(ctx));
                }
                if !ready.plan.erases.is_empty() {
                    let things = ready.plan.erases.join(", ");
                    ui.confirm(&format!("drop from {name} for good: {things}?"))?;
                }
                Ok(setup::perform(ctx, &request, &ready)?)
            })();
            match one {
                Ok(report) => reports.push(report),
                Err(failure) if reports.is_empty() => return Err(failure),
                Err(failure) => return Err(failure.with(document(&reports))),
            }
        }
        if !args.dry_run {
            let members = [std::slice::from_ref(&pair.source), &pair.replicas].concat();
            health::observe::remember(ctx, &pair.name, &members);
        }
        Ok(reports)
    })?;
    ui.result(&document(&reports), || {
        let page = Page::of_stdout();
        let texts: Vec<String> = reports.iter().map(|report| text(report, &page)).collect();
        texts.join("\n\n")
    });
    Ok(())
}

/// Always with `replicas`; those of a single one stand at the top, too.
fn document(reports: &[Report]) -> Value {
    let mut setup = match reports {
        [one] => json!(one),
        [first, ..] => json!({
            "pair": first.pair, "source": first.source, "dry_run": first.dry_run,
        }),
        [] => json!({}),
    };
    setup["replicas"] = json!(reports);
    json!({"setup": setup})
}

fn text(report: &Report, page: &Page) -> String {
    let head = match report.dry_run {
        true => format!("{} would follow {}:", report.replica, report.source),
        false => format!("{} follows {}:", report.replica, report.source),
    };
    let mut lines = vec![head];
    lines.extend(steps(&report.steps, page));
    for warning in &report.warnings {
        let head = format!("  warning ({}): ", warning.rule);
        lines.extend(page.hanging(&head, 4, &warning.message));
    }
    let account = format!(
        "the replication account is {}@{}, its password in {}",
        report.account.user,
        report.account.host,
        report.account.password_file.display()
    );
    lines.extend(page.hanging("  ", 4, &account));
    lines.join("\n")
}
