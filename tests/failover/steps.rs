//! What is done are the steps of the plan, of which the documentation is made, in its order.

use serde_json::Value;
use understudy::failover::steps;

use crate::lab::server::flavours;
use crate::lab::trio::Trio;

fn names(report: &Value) -> Vec<&str> {
    let steps = report["steps"].as_array().unwrap().iter();
    let mut names: Vec<&str> = steps.map(|step| step["name"].as_str().unwrap()).collect();
    names.dedup();
    names
}

/// A report's steps are those of its command, in their order, and none is missing.
#[track_caller]
pub fn assert_steps(command: &str, report: &Value) {
    let plan = steps::of(command).unwrap();
    assert_eq!(plan.against(&names(report)), None, "{report}");
}

/// What a dry run says is what is done then.
#[track_caller]
fn assert_planned(command: &str, planned: &Value, done: &Value) {
    assert_steps(command, planned);
    assert_steps(command, done);
    assert_eq!(names(planned), names(done), "{planned} {done}");
}

/// Every step that a journal has begun.
fn journalled(trio: &Trio, command: &str) -> Vec<String> {
    let done = std::fs::read_dir(trio.state_dir().join("journal/done")).unwrap();
    let mut steps = Vec::new();
    for entry in done.map(Result::unwrap) {
        if !entry.file_name().to_string_lossy().starts_with(command) {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let begun = lines.filter(|line: &Value| line["event"] == "intent");
        steps.extend(begun.map(|line| line["step"].as_str().unwrap().to_owned()));
    }
    steps
}

/// Given a trio with an event, when each of the four commands is planned and then run, expect the same
/// steps both times, and in the journal none that the plan hasn't.
#[test]
fn what_is_planned_is_done_in_that_order() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 3);
        trio.server("a").execute(
            "CREATE EVENT lab.tick ON SCHEDULE EVERY 1 HOUR DO INSERT IGNORE INTO lab.w VALUES (1)",
        );
        trio.wait_same("a", "b");
        let both = |trio: &Trio, args: &[&str], key: &str| {
            let planned = trio.tool.run(&[args, &["--dry-run"]].concat()).ok().json();
            let done = trio.tool.run(args).ok().json();
            assert_planned(args[0], &planned[key], &done[key]);
        };
        let args = ["switchover", "lab", "--to", "b", "--yes"];
        both(&trio, &args, "failover");
        both(&trio, &["repoint", "c", "--to", "a"], "repoint");
        trio.tool.run(&["repoint", "c", "--to", "b"]).ok();
        trio.wait_same("b", "a");
        trio.wait_same("b", "c");
        trio.kill("b");
        let args = ["failover", "lab", "--confirm", "0s", "--unfenced", "--yes"];
        both(&trio, &args, "failover");
        trio.revive("b");
        both(&trio, &["rejoin", "b"], "rejoin");
        for command in ["switchover", "failover", "rejoin", "repoint"] {
            let plan = steps::of(command).unwrap();
            let journalled = journalled(&trio, command);
            assert!(!journalled.is_empty(), "{command}");
            for step in journalled {
                let is_planned = plan.rows.iter().any(|row| row.name == step);
                assert!(is_planned, "{command} has no step {step}");
            }
        }
    }
}
