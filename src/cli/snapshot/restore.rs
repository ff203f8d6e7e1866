//! `snapshot restore ID --to DIR`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::cli::Cli;
use crate::cli::failure::Failure;
use crate::cli::session::with_context;
use crate::cli::ui::{self, Ui};
use crate::snapshot::restore::{self, Restored};

/// Restore a snapshot as a full, independent copy
///
/// The copy in DIR shares nothing with the snapshot and boots as it is: a private server has come up
/// on it, recovered it, forgotten what it replicated from, and ended cleanly. The statements that
/// make a replica of it are printed. Interrupted, the same command goes on where it was.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An id, an unambiguous prefix of one, or latest:SERVER
    id: String,

    /// An empty directory with room for all of it
    #[arg(long, value_name = "DIR")]
    to: PathBuf,

    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let restored = with_context(cli, ui, |ctx| {
        Ok(restore::restore_to(ctx, &args.id, &args.to, args.dry_run)?)
    })?;
    let json = json!({"restore": restored, "dry_run": args.dry_run});
    ui.result(&json, || words(&restored, args.dry_run));
    Ok(())
}

fn words(restored: &Restored, dry_run: bool) -> String {
    if dry_run {
        let how = if restored.resumed {
            "go on restoring"
        } else {
            "restore"
        };
        return format!(
            "would {how} {} to {} and start {} on it, without network",
            restored.snapshot,
            restored.directory.display(),
            restored.server_binary.display()
        );
    }
    let took = |ms| ui::duration(Duration::from_millis(ms));
    let mut lines = vec![format!(
        "restored {} to {}: {} in {}, a server came up on it and ended cleanly in {}",
        restored.snapshot,
        restored.directory.display(),
        ui::bytes(restored.bytes),
        took(restored.copy_ms),
        took(restored.boot_ms)
    )];
    lines.push(format!(
        "  to start it:  {} --defaults-file={}",
        restored.server_binary.display(),
        restored.option_file.display()
    ));
    if !restored.statements.is_empty() {
        lines.push("  to make a replica of it, with a server_id of its own:".to_owned());
        lines.extend(
            restored
                .statements
                .iter()
                .map(|line| format!("    {line};")),
        );
    }
    lines.join("\n")
}
