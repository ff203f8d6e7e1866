//! Progress, for a person at a terminal: a line for each step that ended, and one that is written over
//! while something takes long.

use std::io::Write;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use super::pace::{Pace, Rate};
use super::page::{Page, shown};
use super::ui::{bytes, duration};
use crate::sys::progress::Event;

/// Where a step's words begin.
const INDENT: usize = 11;

/// Prints events until the last sender is gone; a terminal that stalls holds up only this thread.
pub fn print_events(events: &Receiver<Event>, shows: bool) {
    let page = Page::of_stderr();
    let began = Instant::now();
    let mut pace = Pace::default();
    let mut in_line = false;
    for event in events {
        if !shows {
            continue;
        }
        let (text, stays) = match event {
            Event::Step { name, detail, took } => {
                let took = format!(" {}", duration(took));
                let mut lines = page.hanging(&head(name), INDENT, &detail);
                let room = page.columns().unwrap_or(usize::MAX);
                if let Some(last) = lines.last_mut() {
                    match last.chars().count() + took.len() > room {
                        true => lines.push(format!("{:INDENT$}{}", "", dim(&page, took.trim()))),
                        false => last.push_str(&dim(&page, &took)),
                    }
                }
                (lines.join("\n"), true)
            }
            Event::Still { name, detail, took } => {
                let words = format!("{detail} {}", duration(took));
                (one_line(&page, name, &words), false)
            }
            Event::Bytes {
                name,
                words,
                done,
                total,
            } => {
                let rate = pace.look(name, began.elapsed(), done, total);
                let words = moved(&words, done, total, rate);
                (one_line(&page, name, &words), false)
            }
        };
        let clear = if in_line { "\r\x1b[K" } else { "" };
        let end = if stays { "\n" } else { "" };
        in_line = !stays;
        let mut err = std::io::stderr().lock();
        drop(write!(err, "{clear}{text}{end}"));
        drop(err.flush());
    }
}

fn head(name: &str) -> String {
    format!("{name:>9}  ")
}

fn dim(page: &Page, text: &str) -> String {
    match page.has_colours() {
        true => format!("\x1b[2m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}

/// What is written over must be one line: what a terminal breaks can't be.
fn one_line(page: &Page, name: &str, words: &str) -> String {
    let line = format!("{}{}", head(name), shown(words));
    let room = page.columns().map_or(usize::MAX, |columns| columns - 1);
    line.chars().take(room).collect()
}

/// `12 of 40 tables, 1.2 GiB of 3.4 GiB (35 %), 120.0 MiB/s, 18 s left`
fn moved(words: &str, done: u64, total: Option<u64>, rate: Option<Rate>) -> String {
    let mut parts = Vec::new();
    if !words.is_empty() {
        parts.push(words.to_owned());
    }
    parts.push(match total {
        None => bytes(done),
        Some(total) => {
            let share = done.saturating_mul(100).checked_div(total).unwrap_or(100);
            format!("{} of {} ({share} %)", bytes(done), bytes(total))
        }
    });
    if let Some(rate) = rate {
        parts.push(format!("{}/s", bytes(rate.bytes_per_s)));
        let left = rate
            .left
            .filter(|_| total.is_some_and(|total| total > done));
        parts.extend(left.map(|left| format!("{} left", whole_seconds(left.as_secs()))));
    }
    parts.join(", ")
}

fn whole_seconds(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        _ => super::ui::age(seconds),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn long_work_says_how_fast_it_goes_and_how_long_yet() {
        let rate = Rate {
            bytes_per_s: 100 << 20,
            left: Some(Duration::from_secs(20)),
        };
        assert_eq!(
            moved("3 of 9 tables", 1 << 30, Some(3 << 30), Some(rate)),
            "3 of 9 tables, 1.0 GiB of 3.0 GiB (33 %), 100.0 MiB/s, 20 s left"
        );
        assert_eq!(moved("", 1 << 20, None, Some(rate)), "1.0 MiB, 100.0 MiB/s");
        assert_eq!(moved("", 5, Some(5), None), "5 B of 5 B (100 %)");
        assert_eq!(moved("", 0, Some(0), None), "0 B of 0 B (100 %)");
    }

    #[test]
    fn what_is_written_over_is_one_line() {
        for columns in [20, 60, 80] {
            let page = Page::of_width(Some(columns));
            let line = one_line(&page, "catch up", &"0-1-12345678,".repeat(20));
            assert_eq!(line.chars().count(), columns - 1);
        }
    }
}
