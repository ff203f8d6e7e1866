//! `methods SERVER`: in which ways it can be backed up, and what each costs and gives.

use std::time::Duration;

use serde_json::json;

use super::Cli;
use super::failure::Failure;
use super::page::Page;
use super::session::with_context;
use super::ui::{self, Ui};
use crate::snapshot::methods::weigh::Weighed;
use crate::snapshot::methods::{self, Methods};

/// Show in which ways a server can be backed up, and what each costs and gives
///
/// Looks at the server and its storage as `snapshot create` would, at every way instead of the
/// configured one, and changes nothing. Where snapshots were taken in a way already, the pause, the
/// size and the time until a server answered again are those that were measured here; nothing is
/// guessed in numbers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose
    server: String,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let found = with_context(cli, ui, |ctx| Ok(methods::look(ctx, &args.server)?))?;
    let document = json!({
        "server": args.server,
        "data_bytes": found.common.data_bytes,
        "methods": found.ways,
    });
    ui.result(&document, || {
        render(&Page::of_stdout(), &args.server, &found)
    });
    Ok(())
}

fn render(page: &Page, server: &str, found: &Methods) -> String {
    let size = found.common.data_bytes.map_or_else(String::new, |bytes| {
        format!(", {} of tables", ui::bytes(bytes))
    });
    let role = match found.common.is_replica {
        true => "replica",
        false => "no replica",
    };
    let mut lines = vec![format!("{server}: {role}{size}")];
    for way in &found.ways {
        lines.push(String::new());
        lines.extend(block(page, way));
    }
    lines.join("\n")
}

fn block(page: &Page, way: &Weighed) -> Vec<String> {
    let name = serde_json::to_value(way.method).unwrap_or_default();
    let name = name.as_str().unwrap_or_default().to_owned();
    let state = match (way.possible, way.configured) {
        (true, true) => "what `snapshot create` takes now",
        (true, false) => "possible",
        (false, _) => "not here",
    };
    let mut lines = vec![format!("{name}: {state}")];
    let mut add = |head: &str, text: &str| {
        lines.extend(page.wrapped(&format!("  {head:<9}"), text));
    };
    if let Some(reason) = &way.reason {
        add("why not", reason);
        add("cure", way.cure.as_deref().unwrap_or_default());
        return lines;
    }
    let of = |count: usize| match count {
        1 => "of one".to_owned(),
        count => format!("median of {count}"),
    };
    let measured = |ms: Option<u64>| {
        ms.map_or_else(String::new, |ms| {
            let took = ui::duration(Duration::from_millis(ms));
            format!(" ({took}, {})", of(way.measured))
        })
    };
    add("pause", &format!("{}{}", way.pause, measured(way.pause_ms)));
    add("load", way.load);
    let newest = way.size_bytes.map_or_else(String::new, |bytes| {
        format!(" (the newest: {})", ui::bytes(bytes))
    });
    add("size", &format!("{}{newest}", way.size));
    add(
        "restore",
        &format!("{}{}", way.restore, measured(way.restore_ms)),
    );
    add("against", &way.protects_from.join(", "));
    if !way.not_from.is_empty() {
        add("not", &way.not_from.join(", "));
    }
    lines
}
