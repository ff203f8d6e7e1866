//! A write load whose every state is known: after N transactions of it the tables hold exactly this.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use super::server::{Flavour, Server, sequence};

/// At most this long, should a test forget it.
const LONGEST: Duration = Duration::from_secs(600);

/// The tables: `t` transactional, `m` of an engine that forgets a crash, `c` one row that changes.
pub fn tables(flavour: Flavour) -> [String; 6] {
    let forgetful = if flavour.is_mariadb() {
        "Aria TRANSACTIONAL=0"
    } else {
        "MyISAM"
    };
    [
        "CREATE DATABASE lab".to_owned(),
        "CREATE TABLE lab.t (id INT PRIMARY KEY, v VARCHAR(300) NOT NULL) ENGINE=InnoDB".to_owned(),
        format!(
            "CREATE TABLE lab.m (id INT PRIMARY KEY, v VARCHAR(300) NOT NULL) ENGINE={forgetful}"
        ),
        "CREATE TABLE lab.c (id INT PRIMARY KEY, n INT NOT NULL) ENGINE=InnoDB".to_owned(),
        "CREATE TABLE lab.ping (id INT PRIMARY KEY AUTO_INCREMENT) ENGINE=InnoDB".to_owned(),
        "INSERT INTO lab.c VALUES (1, 0)".to_owned(),
    ]
}

/// How far the load has come in one server's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub transactional: u64,
    pub forgetful: u64,
    pub counter: u64,
}

impl Progress {
    /// Reads it and checks that there are no gaps.
    pub fn of(server: &Server) -> Self {
        let number = |statement: &str| server.value(statement).parse::<u64>().unwrap();
        let rows = |table: &str| {
            let count = number(&format!("SELECT COUNT(*) FROM lab.{table}"));
            let highest = number(&format!("SELECT COALESCE(MAX(id), 0) FROM lab.{table}"));
            assert_eq!(count, highest, "rows are missing in lab.{table}");
            count
        };
        Self {
            transactional: rows("t"),
            forgetful: rows("m"),
            counter: number("SELECT n FROM lab.c WHERE id = 1"),
        }
    }

    /// Transactions that led here.
    pub fn transactions(self) -> u64 {
        self.transactional + self.forgetful + self.counter
    }

    /// One transaction after the other: t, m, c, and again.
    pub fn is_a_state_of_the_load(self) -> bool {
        let Self {
            transactional: t,
            forgetful: m,
            counter: c,
        } = self;
        t >= m && m >= c && t <= c + 1
    }
}

/// One client that writes round after round.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// The source's sequence number minus the load's own transactions.
    pub offset: u64,
}

impl Load {
    /// Nobody else may write to the source meanwhile, if sequence numbers are to be compared.
    pub fn start(source: &Server, every: Duration) -> Self {
        let before = Progress::of(source);
        let offset = sequence(&source.gtid()) - before.transactions();
        let stop = Arc::new(AtomicBool::new(false));
        let mut conn = source.connect();
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            let mut round = before.counter;
            while !told.load(Ordering::SeqCst) && began.elapsed() < LONGEST {
                round += 1;
                let text = format!("REPEAT(SHA2({round}, 256), 4)");
                for statement in [
                    format!("INSERT INTO lab.t VALUES ({round}, {text})"),
                    format!("INSERT INTO lab.m VALUES ({round}, {text})"),
                    format!("UPDATE lab.c SET n = {round} WHERE id = 1"),
                ] {
                    conn.query_drop(&statement)
                        .unwrap_or_else(|error| panic!("{statement}: {error}"));
                }
                sleep(every);
            }
        });
        Self {
            stop,
            thread: Some(thread),
            offset,
        }
    }

    /// Ends it between two rounds.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take()
            && let Err(error) = thread.join()
        {
            let words = error.downcast_ref::<String>();
            panic!("the load failed: {}", words.map_or("", String::as_str));
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
