//! DataJoint workers in the middle of `populate()` when their server stops being the source, and
//! clients that are led by DataJoint's own configuration files; with each version of DataJoint.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use crate::lab::program::{DataJoint, datajoints, write};
use crate::lab::server::flavours;
use crate::lab::trio::Trio;

fn let_in(trio: &Trio) {
    for statement in [
        "CREATE USER 'lab'@'%' IDENTIFIED BY 'lab at work'",
        "GRANT ALL ON `lab\\_%`.* TO 'lab'@'%'",
    ] {
        trio.server("a").execute(statement);
    }
}

/// DataJoint's own files, of the old and the new version, which a change of roles rewrites.
fn configure(trio: &mut Trio) {
    let base = trio.tool.base.clone();
    let port = trio.server("a").port;
    let mut lines = String::new();
    for (name, text) in [
        (
            "dj_local_conf.json",
            format!(
                "{{\n  \"database.host\": \"127.0.0.1\",\n  \"database.port\": {port},\n  \
                 \"database.user\": \"lab\",\n  \"database.password\": \"lab at work\"\n}}"
            ),
        ),
        (
            "datajoint.json",
            format!(
                "{{\n  \"database\": {{\n    \"host\": \"127.0.0.1\",\n    \"port\": {port},\n    \
                 \"user\": \"lab\",\n    \"password\": \"lab at work\"\n  }}\n}}\n"
            ),
        ),
    ] {
        write(&base.join(name), &text, 0o600);
        lines += &format!(
            "[[pair.lab.reroute]]\nway = \"file\"\npath = \"{}\"\nformat = \"json\"\n\
             key = \"database.host\"\nport_key = \"database.port\"\n",
            base.join(name).display()
        );
    }
    trio.more = lines;
    trio.configure();
}

struct Worker {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Worker {
    /// One that makes its second task.
    fn start(trio: &Trio, datajoint: &DataJoint, what: &str) -> Self {
        let mut command = datajoint.command(&trio.tool.base, "worker.py", &[what]);
        let command = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// The task that is done, and the one that it makes.
    fn two_tasks(&mut self) -> [String; 2] {
        [(); 2].map(|()| {
            let mut line = String::new();
            self.out.read_line(&mut line).unwrap();
            let task = line.trim().strip_prefix("making ");
            task.unwrap_or_else(|| panic!("{line}")).to_owned()
        })
    }

    /// Its last words, after what took long is done.
    fn end(mut self) -> String {
        drop(self.child.stdin.take());
        let rest: Vec<String> = self.out.lines().map(Result::unwrap).collect();
        assert_eq!(self.child.wait().unwrap().code(), Some(1), "{rest:?}");
        rest.last().unwrap().clone()
    }
}

/// Given workers that make something in a transaction, and DataJoint's own files, which name the source,
/// when roles move as planned, and when the source dies, expect that each worker ends with one error,
/// that its reservation is found on the new source, that nothing of what it was making is, and that a
/// new worker, led by the files, does what is left.
#[test]
fn a_populate_ends_and_another_goes_on() {
    let datajoints = datajoints();
    // Seen on both in both ways; each way once in every run.
    for (flavour, planned) in flavours().into_iter().zip([true, false]) {
        let mut trio = Trio::start(flavour, 2);
        let_in(&trio);
        configure(&mut trio);
        let start = |what| -> Vec<Worker> {
            let start = |datajoint| Worker::start(&trio, datajoint, what);
            datajoints.iter().map(start).collect()
        };
        let mut workers = start("begin");
        let mut late = if planned { start("late") } else { Vec::new() };
        let tasks: Vec<_> = workers.iter_mut().map(Worker::two_tasks).collect();
        late.iter_mut().for_each(|worker| drop(worker.two_tasks()));
        let error = if planned {
            trio.switchover("b").ok();
            "OperationalError 1290"
        } else {
            trio.kill("a");
            trio.failover(&["--unfenced"]).ok();
            "OperationalError 2003"
        };
        for (worker, schema) in late.into_iter().zip(["lab_late", "lab_late_2"]) {
            let last = worker.end();
            assert!(last.starts_with("ended by LostConnectionError"), "{last}");
            let rows = format!("SELECT COUNT(*) FROM `{schema}`.`__result`");
            assert_eq!(trio.server("b").value(&rows), "1", "{schema}");
        }
        let port = trio.server("b").port.to_string();
        for ((datajoint, worker), [done, made]) in datajoints.iter().zip(workers).zip(tasks) {
            let (name, last) = (datajoint.name, worker.end());
            assert!(
                last.starts_with(&format!("ended by {error}")),
                "{name}: {last}"
            );
            let said = |args: &[&str]| datajoint.said(&trio.tool.base, "worker.py", args);
            let left = said(&["left", &port]);
            let expected = format!("done {done}\nrows 1 2\njobs {made} reserved\n");
            assert_eq!(left, expected, "{name}");
            let resumed = said(&["resume"]);
            assert!(
                resumed.starts_with(&format!("at {port}\n")),
                "{name}: {resumed}"
            );
            assert!(resumed.ends_with("\ndone 1 2 3 4 5\n"), "{name}: {resumed}");
        }
    }
}
