//! `history`: what ran, and whether something grows.

use serde_json::json;

use super::lab::pair::Pair;
use super::lab::runner::Case;
use super::lab::server::Flavour;
use super::start_over;
use crate::cases;

pub fn cases(flavour: Flavour) -> Vec<Case> {
    match flavour.is_mariadb() {
        true => cases![
            false tells_what_ran_and_what_failed,
            false says_what_grows,
            false fits_every_terminal,
        ],
        false => Vec::new(),
    }
}

/// Every line, but for one with a path or a command that must stay whole.
fn fits(text: &str, columns: usize) -> bool {
    text.lines().all(|line| {
        let words = line.split(' ').map(|word| word.chars().count());
        let is_whole = words.max() > Some(columns / 2) || line.contains('`');
        line.chars().count() <= columns || is_whole
    })
}

fn fits_every_terminal(pair: &mut Pair) {
    start_over(pair);
    let name = pair.name();
    pair.tool.run(&["run", &name]).ok();
    pair.configure(|settings| settings.max_pause = std::time::Duration::from_millis(1));
    pair.tool
        .run_at("stopped=sleep:300", &["run", &name])
        .expect_code(1);
    pair.configure_plain();
    let latest = format!("latest:{name}");
    for command in [
        &["status"][..],
        &["doctor", &name],
        &["history"],
        &["snapshot", "list"],
        &["snapshot", "show", &latest],
        &["snapshot", "create", &name, "--dry-run"],
        &["snapshot", "prune", "--dry-run"],
        &["run", &name, "--dry-run"],
    ] {
        for columns in [60, 80, 120] {
            let text = pair.tool.on_terminal(command, columns, false);
            assert!(!text.contains('\u{1b}'), "{command:?}: {text:?}");
            assert!(text.contains('\n'), "{command:?}: {text}");
            let fits = fits(&text, usize::from(columns));
            assert!(fits, "{command:?} at {columns}:\n{text}");
        }
    }
    let list = |columns| pair.tool.on_terminal(&["snapshot", "list"], columns, false);
    assert!(list(120).contains("USED") && list(80).starts_with("ID"));
    assert!(list(50).contains("\n  proof    booted"), "{}", list(50));
    let coloured = pair.tool.on_terminal(&["history"], 80, true);
    assert!(coloured.contains("\u{1b}[1;31mfailed"), "{coloured:?}");
    pair.wait_caught_up();
}

fn tells_what_ran_and_what_failed(pair: &mut Pair) {
    start_over(pair);
    let name = pair.name();
    let empty = pair.tool.text(&["history", &name], false).ok().stdout;
    assert_eq!(
        empty,
        format!("{name}: `understudy run {name}` hasn't run yet\n")
    );
    let good = pair.tool.run(&["run", &name]).ok().json();
    pair.configure(|settings| settings.max_pause = std::time::Duration::from_millis(1));
    pair.tool
        .run_at("stopped=sleep:300", &["run", &name])
        .expect_code(1);
    // A power cut in the middle of a line.
    let path = pair
        .state_dir()
        .join("history")
        .join(format!("{name}.jsonl"));
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"version\": 1, \"serv");
    std::fs::write(&path, text).unwrap();
    pair.configure_plain();
    pair.tool.run(&["run", &name]).ok();

    let json = pair.tool.run(&["history", &name]).ok().json();
    let server = &json["history"]["servers"][0];
    assert_eq!(server["unreadable_lines"], 1);
    let results: Vec<_> = (0..3)
        .map(|run| server["runs"][run]["result"].clone())
        .collect();
    assert_eq!(results, ["done", "failed", "done"]);
    assert_eq!(server["runs"][1]["step"], "snapshot");
    assert_eq!(
        server["runs"][2]["snapshot"],
        good["run"]["servers"][0]["snapshot"]
    );
    assert_eq!(
        server["trend"],
        json!({"pause_ms": null, "kept_bytes": null})
    );
    let last = pair.tool.run(&["history", "--last", "1"]).ok().json();
    let servers = last["history"]["servers"].as_array().unwrap();
    assert_eq!(servers.len(), 2, "the source has a table of snapshots, too");
    assert_eq!(servers[0]["runs"].as_array().unwrap().len(), 1);

    let text = pair.tool.text(&["history"], false).ok().stdout;
    assert!(
        text.contains(&format!("{name}: 3 runs, the newest first")),
        "{text}"
    );
    assert!(text.contains("\n      snapshot: "), "{text}");
    assert!(text.contains("  1 lines can't be read"), "{text}");
    pair.tool.run(&["history", "nobody"]).expect_code(2);
    pair.tool.run(&["history", "../history/x"]).expect_code(2);
    pair.wait_caught_up();
}

fn says_what_grows(pair: &mut Pair) {
    start_over(pair);
    let name = pair.name();
    let path = pair
        .state_dir()
        .join("history")
        .join(format!("{name}.jsonl"));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let now = jiff::Timestamp::now();
    let lines: Vec<String> = (0..14)
        .rev()
        .map(|night| {
            let began = now - jiff::SignedDuration::from_hours(24 * night + 3);
            let (pause, gib) = if night < 7 { (80, 14u64) } else { (13, 10) };
            json!({"version": 1, "server": name, "began": began.to_string(),
                   "ended": (began + jiff::SignedDuration::from_secs(2)).to_string(), "result": "done",
                   "pause_ms": pause, "took_ms": 2000, "proof": "booted", "kept": 9,
                   "kept_bytes": gib << 30})
            .to_string()
        })
        .collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    let text = pair.tool.text(&["history", &name], false).ok().stdout;
    // Wrapped at will.
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains(
            "The pause grows: 80 ms in the median of the last 7 days, 13 ms in the 7 before."
        ),
        "{text}"
    );
    assert!(
        words.contains("The snapshots grow: 14.0 GiB in the median of the last 7 days, 10.0 GiB"),
        "{text}"
    );
    let json = pair.tool.run(&["history", &name]).ok().json();
    let trend = &json["history"]["servers"][0]["trend"];
    assert_eq!(
        trend["pause_ms"],
        json!({"last_week": 80, "week_before": 13, "grows": true})
    );
}
