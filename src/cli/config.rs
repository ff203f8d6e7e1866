//! `config check`, `config example`, `config reference` and `config schema`.

use clap::Subcommand;
use serde_json::json;

use super::Cli;
use super::failure::{Failure, Kind};
use super::ui::{Ui, print_json, print_text};
use crate::config;
use crate::sys::words::counted;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read the configuration and every file it names, and report all that is wrong with them
    Check,
    /// Print a commented configuration to start from
    Example,
    /// Print every table and key with its values and defaults, as Markdown (docs/CONFIGURATION.md)
    Reference,
    /// Print the JSON schema of the configuration, for editors that know TOML schemas
    Schema,
}

pub fn run(cli: &Cli, ui: &Ui, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Check => check(cli, ui),
        Command::Example => {
            print_text(config::example());
            Ok(())
        }
        Command::Reference => {
            print_text(&config::reference::markdown());
            Ok(())
        }
        Command::Schema => {
            print_json(&config::reference::schema());
            Ok(())
        }
    }
}

fn check(cli: &Cli, ui: &Ui) -> Result<(), Failure> {
    let config = config::load(cli.config.as_deref())?;
    let issues = config::validate_files(&config);
    if !issues.is_empty() {
        let lines: Vec<String> = issues.iter().map(ToString::to_string).collect();
        return Err(Failure::new(Kind::Config, lines.join("\n")));
    }
    let report = json!({"config": {
        "path": config.path,
        "servers": config.servers.keys().collect::<Vec<_>>(),
        "pairs": config.pairs.keys().collect::<Vec<_>>(),
    }});
    ui.result(&report, || {
        format!(
            "{} is good: {}, {}",
            config.path.display(),
            counted(config.servers.len() as u64, "server"),
            counted(config.pairs.len() as u64, "pair")
        )
    });
    Ok(())
}
