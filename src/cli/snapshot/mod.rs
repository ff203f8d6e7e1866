//! `snapshot …`: one file per command.

mod create;
mod delete;
mod extract;
mod hold;
mod list;
mod mount;
mod prune;
mod render;
mod restore;
mod show;
mod unmount;
mod verify;

use clap::Subcommand;

pub(super) use create::parse_label;
pub(super) use verify::unproven;

use super::Cli;
use super::failure::Failure;
use super::ui::Ui;

#[derive(Debug, Subcommand)]
pub enum Command {
    Create(create::Args),
    List(list::Args),
    Show(show::Args),
    Delete(delete::Args),
    /// Protect a snapshot from delete and prune
    Hold(hold::Args),
    /// End the protection that `hold` gave
    Release(hold::Args),
    Prune(prune::Args),
    Verify(verify::Args),
    Mount(mount::Args),
    Restore(restore::Args),
    Extract(extract::Args),
    Unmount(unmount::Args),
}

pub fn run(cli: &Cli, ui: &Ui, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create::run(cli, ui, args),
        Command::List(args) => list::run(cli, ui, args),
        Command::Show(args) => show::run(cli, ui, args),
        Command::Delete(args) => delete::run(cli, ui, args),
        Command::Hold(args) => hold::run(cli, ui, args, true),
        Command::Release(args) => hold::run(cli, ui, args, false),
        Command::Prune(args) => prune::run(cli, ui, args),
        Command::Verify(args) => verify::run(cli, ui, args),
        Command::Mount(args) => mount::run(cli, ui, args),
        Command::Restore(args) => restore::run(cli, ui, args),
        Command::Extract(args) => extract::run(cli, ui, args),
        Command::Unmount(args) => unmount::run(cli, ui, args),
    }
}
