//! `grants SERVER`.

use serde_json::json;

use super::Cli;
use super::failure::Failure;
use super::session::with_plain_context;
use super::ui::Ui;
use crate::server::Session;
use crate::server::grants::Purpose;
use crate::snapshot::SnapshotError;

/// Print the SQL for accounts that may do one thing only
///
/// For the version that the server is. Nothing is changed: run what you need as an administrator,
/// on the source (its replicas get the accounts from there), with passwords of your own, and put
/// name and password into the option file that `credentials` names.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// As the configuration names it
    server: String,

    /// Where understudy connects from, as the server sees it
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    host: String,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let flavour = with_plain_context(cli, |ctx| {
        let target = ctx.target(ctx.server(&args.server)?)?;
        let session = Session::connect(&target).map_err(SnapshotError::from)?;
        Ok(session.flavour().clone())
    })?;
    let accounts: Vec<_> = Purpose::ALL
        .into_iter()
        .map(|purpose| (purpose, flavour.grants(purpose, &args.host)))
        .collect();
    let document = json!({"grants": {
        "server": args.server,
        "version": flavour.text,
        "accounts": accounts
            .iter()
            .map(|(purpose, statements)| json!({
                "account": purpose.account(),
                "for": purpose.commands(),
                "statements": statements,
            }))
            .collect::<Vec<_>>(),
    }});
    ui.result(&document, || {
        let part = |(purpose, statements): &(Purpose, Vec<String>)| {
            format!("-- {}\n{}", purpose.commands(), statements.join("\n"))
        };
        let head = format!("-- for {}, which is {}", args.server, flavour.text);
        let parts: Vec<String> = accounts.iter().map(part).collect();
        format!("{head}\n\n{}", parts.join("\n\n"))
    });
    Ok(())
}
