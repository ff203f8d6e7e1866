//! MySQL 5.6, which has no super_read_only and knows only the old statements.

use crate::lab::server::Flavour;
use crate::lab::trio::{Trio, Watch, Writer};

/// Given a pair of old servers under load, when roles move there and back, and when the source dies and
/// comes again, expect one source at every moment, everything acknowledged on it, and a pair in the end.
#[test]
fn roles_move_on_old_servers() {
    let flavour = Flavour::Mysql56;
    if let Some(missing) = flavour.missing() {
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        return;
    }
    let mut trio = Trio::start(flavour, 2);
    let watch = Watch::start(&trio);
    let writer = Writer::start(&trio, 0);
    for (from, to) in [("a", "b"), ("b", "a")] {
        writer.wait_more(20);
        trio.switchover(to).ok();
        writer.wait_more(20);
        assert!(trio.is_writable(to) && !trio.is_writable(from));
    }
    let (acknowledged, _) = writer.end();
    watch.end();
    trio.assert_source("a", &["b"]);
    let count = trio.server("a").value("SELECT COUNT(*) FROM lab.w");
    assert!(
        count.parse::<usize>().unwrap() >= acknowledged.len(),
        "{count}"
    );

    trio.wait_same("a", "b");
    trio.kill("a");
    trio.failover(&["--unfenced"]).ok();
    assert!(trio.is_writable("b"));
    trio.revive("a");
    trio.tool.run(&["rejoin", "a"]).ok();
    trio.assert_source("b", &["a"]);
}
