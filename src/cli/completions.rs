//! `completions SHELL`.

use clap_complete::Shell;

use super::examples;
use super::failure::Failure;
use super::ui::print_text;

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
pub struct Args {
    shell: Shell,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut examples::command(),
        "understudy",
        &mut script,
    );
    print_text(&String::from_utf8_lossy(&script));
    Ok(())
}
