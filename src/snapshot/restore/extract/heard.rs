//! What the client program says while it loads rows, and whether they may stay.

/// Rows whose keys are there already: that is what INSERT IGNORE is for.
const THERE_ALREADY: u16 = 1062;

/// Of statements, not of rows: 1592 is of binlog_format = STATEMENT, the others of words that are going away.
const HARMLESS: [u16; 4] = [1287, 1592, 1681, 3719];

/// How many different things are told.
const TOLD_MAX: usize = 3;

/// In front of what a question of ours at the end finds: a table whose rows refer to nothing.
pub const ORPHANS: &str = "understudy: rows refer to nothing";

/// What was heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// The line that is waited for.
    end: String,
    pub is_at_end: bool,
    pub there_already: u64,
    /// Why the rows may not stay.
    bad: Vec<String>,
    bad_count: u64,
}

impl Heard {
    /// `end` is the line after the last row.
    pub fn until(end: &str) -> Self {
        Self {
            end: end.to_owned(),
            ..Self::default()
        }
    }

    /// A line of the client's.
    pub fn line(&mut self, line: &str) {
        if line == self.end {
            self.is_at_end = true;
        } else if line.starts_with(ORPHANS) {
            self.note(line.trim_start_matches("understudy: "));
        } else {
            match code_of(line) {
                Some(THERE_ALREADY) => self.there_already += 1,
                Some(code) if !HARMLESS.contains(&code) => self.note(line),
                Some(_) | None => {}
            }
        }
    }

    fn note(&mut self, line: &str) {
        self.bad_count += 1;
        if self.bad.len() < TOLD_MAX && !self.bad.iter().any(|told| told == line) {
            self.bad.push(line.to_owned());
        }
    }

    /// Why the rows may not stay, if so.
    pub fn bad(&self) -> Option<String> {
        let rest = match self.bad_count {
            0 => return None,
            1 => String::new(),
            count => format!(" ({count} of these)"),
        };
        Some(format!("{}{rest}", self.bad.join("; ")))
    }
}

/// `Warning (Code 1062): Duplicate entry …`
fn code_of(line: &str) -> Option<u16> {
    let (level, rest) = line.split_once(" (Code ")?;
    let is_level = ["Warning", "Error", "Note"].contains(&level);
    let (code, _) = rest.split_once(')').filter(|_| is_level)?;
    code.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[&str]) -> Heard {
        let mut heard = Heard::until("end");
        for line in lines {
            heard.line(line);
        }
        heard
    }

    #[test]
    fn rows_that_are_there_are_counted_and_those_lost_are_bad() {
        let there = "Warning (Code 1062): Duplicate entry '1' for key 'p.PRIMARY'";
        let lost =
            "Warning (Code 1452): Cannot add or update a child row: a foreign key constraint fails";
        let good = heard(&[there, there, "Note (Code 1592): Unsafe statement", "1\t2"]);
        assert_eq!(
            (good.there_already, good.bad(), good.is_at_end),
            (2, None, false)
        );
        let bad = heard(&[there, lost, lost, "end"]);
        assert_eq!(bad.bad(), Some(format!("{lost} (2 of these)")));
        assert!(bad.is_at_end);
        let cut = "Warning (Code 1265): Data truncated for column 'a' at row 1";
        assert_eq!(heard(&[cut]).bad().as_deref(), Some(cut));
        let orphans = format!("{ORPHANS}: l.a (fk)\t3");
        assert_eq!(
            heard(&[&orphans]).bad().as_deref(),
            Some("rows refer to nothing: l.a (fk)\t3")
        );
    }
}
