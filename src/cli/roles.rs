//! What the commands that move roles print.

use std::time::Duration;

use serde_json::json;

use super::failure::{Failure, Kind};
use super::page::{Cell, Page, prose_table};
use super::ui::{self, Ui};
use crate::failover::report::{Ended, Report};
use crate::journal::operation::Step;
use crate::sys::words::counted;

/// Prints it; exit 5 when something is left for an operator.
pub fn tell(ui: &Ui, report: &Report) -> Result<(), Failure> {
    let document = json!({"failover": report});
    match report.result {
        Ended::Planned | Ended::Done => {
            ui.result(&document, || text(report, &Page::of_stdout()));
            Ok(())
        }
        Ended::NeedsOperator => {
            if !ui.is_json() {
                ui.result(&document, || text(report, &Page::of_stdout()));
            }
            let message = format!(
                "{} is the source, and not everything is as it should be: see the report",
                report.new_source
            );
            let hint = match report.not_repointed.first() {
                Some(left) => {
                    format!("Cure that, then run `understudy rejoin {}`.", left.server)
                }
                None => "`understudy status` shows how the pair is now.".to_owned(),
            };
            Err(Failure::new(Kind::NeedsOperator, message)
                .hint(hint)
                .with(document))
        }
    }
}

/// A line for each step.
pub fn steps(steps: &[Step], page: &Page) -> Vec<String> {
    let rows: Vec<Vec<Cell>> = steps
        .iter()
        .map(|step| {
            let took = match step.ms {
                0 => String::new(),
                ms => ui::duration(Duration::from_millis(ms)),
            };
            vec![
                step.name.into(),
                step.result.replace('-', " ").into(),
                took.into(),
                step.detail.as_str().into(),
            ]
        })
        .collect();
    prose_table(page, 2, &rows)
}

fn text(report: &Report, page: &Page) -> String {
    let head = match report.dry_run {
        true => format!(
            "{} would become the source instead of {}:",
            report.new_source, report.old_source
        ),
        false => format!(
            "{} is the source now, instead of {}:",
            report.new_source, report.old_source
        ),
    };
    let mut lines = vec![head];
    lines.extend(steps(&report.steps, page));
    if let Some(ms) = report.write_outage_ms {
        lines.push(format!("  nobody could write for {ms} ms"));
    }
    if !report.dry_run {
        lines.extend(page.wrapped("  ", &lost(report)));
    }
    for left in &report.not_repointed {
        let text = format!("{}: {}", left.server, left.reason);
        lines.extend(page.hanging("  not turned: ", 4, &text));
    }
    for warning in &report.warnings {
        lines.extend(page.hanging("  warning: ", 4, warning));
    }
    lines.join("\n")
}

fn lost(report: &Report) -> String {
    let lost = &report.lost;
    let more = lost
        .reason
        .as_ref()
        .map_or(String::new(), |reason| format!(": {reason}"));
    match (lost.known, lost.transactions) {
        (true, Some(0) | None) => "nothing was lost".to_owned(),
        (true, Some(count)) => format!(
            "lost: {}, {}{more}",
            counted(count, "transaction"),
            lost.gtid
        ),
        (false, _) => format!("what was lost isn't known{more}"),
    }
}
