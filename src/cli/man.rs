//! `man DIR`.

use std::path::PathBuf;

use super::examples;
use super::failure::{Failure, Kind};

/// Write the manual pages into a directory
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An existing directory, such as /usr/local/share/man/man1
    directory: PathBuf,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    clap_mangen::generate_to(examples::command(), &args.directory).map_err(|error| {
        Failure::new(
            Kind::Failed,
            format!("write {}: {error}", args.directory.display()),
        )
        .hint("Name an existing directory that you may write to.")
    })
}
