//! What a text for people looks like on the terminal that it is for: how wide it may be, and colours. A
//! table that is too wide leaves out what other commands show as well, and then becomes a block for each
//! row. Where there is no terminal nothing is broken into lines, left out or coloured. But for
//! `of_stdout` and `of_stderr`, pure.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use crate::health::Severity;

/// Of a terminal that doesn't say.
const USUAL_COLUMNS: usize = 80;

/// A terminal narrower than this is written to as if it had as much.
const LEAST_COLUMNS: usize = 20;

/// Between two columns.
const GAP: usize = 2;

/// Prose in a table's last column has at least this much, or stands in lines of its own.
const PROSE_COLUMNS: usize = 32;

/// Where a text is printed.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// `None`: no terminal, any width.
    columns: Option<usize>,
    colours: bool,
}

impl Page {
    pub fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        Self::on(stdout.is_terminal(), &stdout)
    }

    pub fn of_stderr() -> Self {
        let stderr = std::io::stderr();
        Self::on(stderr.is_terminal(), &stderr)
    }

    fn on(is_terminal: bool, stream: &impl AsFd) -> Self {
        let told = terminal_size::terminal_size_of(stream);
        let told = told.map_or(USUAL_COLUMNS, |(width, _)| usize::from(width.0));
        let columns = is_terminal.then(|| match told {
            0 => USUAL_COLUMNS,
            told => told.max(LEAST_COLUMNS),
        });
        Self {
            columns,
            colours: is_terminal && wants_colours(std::env::var_os("NO_COLOR").as_deref()),
        }
    }

    /// `None`: any width.
    #[cfg(test)]
    pub fn of_width(columns: Option<usize>) -> Self {
        Self {
            columns,
            colours: false,
        }
    }

    pub fn columns(&self) -> Option<usize> {
        self.columns
    }

    pub fn has_colours(&self) -> bool {
        self.colours
    }

    /// `None` is good.
    pub fn severity(&self, severity: Option<Severity>, text: &str) -> String {
        let colour = match severity {
            None => "32",
            Some(Severity::Info) => "36",
            Some(Severity::Warning) => "33",
            Some(Severity::Unknown) => "35",
            Some(Severity::Critical) => "1;31",
        };
        match self.colours {
            true => format!("\x1b[{colour}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// Lines that fit: the first begins with `head`, the others are as far in. A word that is too long
    /// for a line stays whole, and so does what stands between backticks: it is there to be copied.
    pub fn wrapped(&self, head: &str, text: &str) -> Vec<String> {
        self.hanging(head, head.chars().count(), text)
    }

    /// As `hanging`; a line that fits stays as it is, its spaces too.
    pub fn broken(&self, head: &str, indent: usize, line: &str) -> Vec<String> {
        let whole = format!("{head}{}", shown(line));
        match self.columns {
            Some(columns) if visible(&whole) > columns => self.hanging(head, indent, line),
            _ => vec![whole],
        }
    }

    /// As `wrapped`, with the other lines `indent` in.
    pub fn hanging(&self, head: &str, indent: usize, text: &str) -> Vec<String> {
        let text = shown(text);
        let Some(columns) = self.columns else {
            return vec![format!("{head}{}", text.trim())];
        };
        let mut lines = vec![head.to_owned()];
        let mut at = visible(head);
        let mut is_bare = true;
        for word in words(&text, columns.saturating_sub(indent)) {
            let needed = word.text.chars().count() + usize::from(!is_bare && word.spaced);
            if !is_bare && at + needed > columns {
                lines.push(" ".repeat(indent));
                at = indent;
                is_bare = true;
            }
            if let Some(line) = lines.last_mut() {
                if !is_bare && word.spaced {
                    line.push(' ');
                    at += 1;
                }
                line.push_str(word.text);
                at += word.text.chars().count();
            }
            is_bare = false;
        }
        lines
    }
}

/// Without what colours it.
fn visible(text: &str) -> usize {
    let mut count = 0;
    let mut in_colour = false;
    for c in text.chars() {
        match (in_colour, c) {
            (false, '\x1b') => in_colour = true,
            (false, _) => count += 1,
            (true, 'm') => in_colour = false,
            (true, _) => {}
        }
    }
    count
}

/// <https://no-color.org>: set and not empty.
fn wants_colours(no_color: Option<&std::ffi::OsStr>) -> bool {
    no_color.is_none_or(|value| value.is_empty())
}

/// What stays together on a line.
struct Word<'a> {
    text: &'a str,
    /// A space is before it.
    spaced: bool,
}

/// At spaces that are between no backticks; one of more than `room` also behind its commas, which a
/// GTID set may be broken at.
fn words(text: &str, room: usize) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    let mut is_quoted = false;
    let ends = |c: char| {
        is_quoted ^= c == '`';
        c.is_whitespace() && !is_quoted
    };
    for text in text.split(ends).filter(|word| !word.is_empty()) {
        if text.chars().count() <= room || text.contains('`') {
            found.push(Word { text, spaced: true });
            continue;
        }
        for (index, text) in text.split_inclusive(',').enumerate() {
            let spaced = index == 0;
            found.push(Word { text, spaced });
        }
    }
    found
}

/// A column and what it may do where there is too little room.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    title: &'static str,
    /// Left out before anything else, the smallest first; 0 never.
    spare: u8,
}

impl Column {
    pub const fn new(title: &'static str) -> Self {
        Self { title, spare: 0 }
    }

    /// Another command shows it as well. The smallest goes first.
    pub const fn spare(title: &'static str, order: u8) -> Self {
        Self {
            title,
            spare: order,
        }
    }
}

/// What stands in a table.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    /// `Some(None)` is good; `None` isn't judged.
    severity: Option<Option<Severity>>,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self {
            text: shown(&text),
            severity: None,
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Cell {
    /// `None` is good.
    pub fn judged(text: impl Into<String>, severity: Option<Severity>) -> Self {
        Self {
            text: shown(&text.into()),
            severity: Some(severity),
        }
    }

    fn len(&self) -> usize {
        self.text.chars().count()
    }

    fn painted(&self, page: &Page) -> String {
        match self.severity {
            Some(severity) => page.severity(severity, &self.text),
            None => self.text.clone(),
        }
    }
}

/// Rows of cells under titles. The first cell says what the row is about.
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<(Vec<Cell>, Option<String>)>,
}

impl Table {
    pub fn new(columns: &[Column]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push((cells, None));
    }

    /// With a sentence below it.
    pub fn row_and(&mut self, cells: Vec<Cell>, below: Option<String>) {
        self.rows.push((cells, below));
    }

    /// Each line `indent` in.
    pub fn render(&self, page: &Page, indent: usize) -> Vec<String> {
        let Some(room) = page.columns.map(|columns| columns.saturating_sub(indent)) else {
            return self.as_table(page, indent, &self.all());
        };
        let mut kept = self.all();
        let mut spare: Vec<usize> = kept.clone();
        spare.retain(|column| self.columns[*column].spare > 0);
        spare.sort_by_key(|column| self.columns[*column].spare);
        for out in spare {
            if self.needs(&kept) <= room {
                break;
            }
            kept.retain(|column| *column != out);
        }
        match self.needs(&kept) <= room {
            true => self.as_table(page, indent, &kept),
            false => self.as_blocks(page, indent),
        }
    }

    fn all(&self) -> Vec<usize> {
        (0..self.columns.len()).collect()
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|(cells, _)| cells.get(column));
        let widest = cells.map(Cell::len).max().unwrap_or(0);
        widest.max(self.columns[column].title.chars().count())
    }

    fn needs(&self, kept: &[usize]) -> usize {
        let widths: usize = kept.iter().map(|column| self.width(*column)).sum();
        widths + GAP * kept.len().saturating_sub(1)
    }

    fn as_table(&self, page: &Page, indent: usize, kept: &[usize]) -> Vec<String> {
        let titles = self.columns.iter().map(|column| Cell::from(column.title));
        let titles: Vec<Cell> = titles.collect();
        let line = |cells: &[Cell]| in_columns(page, indent, cells, kept, &|c| self.width(c));
        let mut lines = vec![line(&titles)];
        for (cells, below) in &self.rows {
            lines.push(line(cells));
            if let Some(below) = below {
                lines.extend(page.wrapped(&" ".repeat(indent + 4), below));
            }
        }
        lines
    }

    fn as_blocks(&self, page: &Page, indent: usize) -> Vec<String> {
        let titles = self.columns.iter().skip(1);
        let widest = titles.map(|column| column.title.chars().count()).max();
        let width = widest.unwrap_or(0);
        let mut lines = Vec::new();
        for (cells, below) in &self.rows {
            let head = cells.first().map(|cell| cell.painted(page));
            lines.push(format!(
                "{}{}",
                " ".repeat(indent),
                head.unwrap_or_default()
            ));
            for (column, cell) in self.columns.iter().zip(cells).skip(1) {
                if matches!(cell.text.as_str(), "" | "-") {
                    continue;
                }
                let title = column.title.to_lowercase();
                let head = format!("{}{title:<width$}  ", " ".repeat(indent + 2));
                let mut value = page.wrapped(&head, &cell.text);
                if let (Some(first), Some(severity)) = (value.first_mut(), cell.severity) {
                    let text = first.split_off(head.len());
                    first.push_str(&page.severity(severity, &text));
                }
                lines.extend(value);
            }
            if let Some(below) = below {
                lines.extend(page.wrapped(&" ".repeat(indent + 4), below));
            }
        }
        lines
    }
}

/// One line; the last cell is left ragged.
fn in_columns(
    page: &Page,
    indent: usize,
    cells: &[Cell],
    kept: &[usize],
    width: &dyn Fn(usize) -> usize,
) -> String {
    let mut line = " ".repeat(indent);
    let mut gap = 0;
    for column in kept {
        let Some(cell) = cells.get(*column) else {
            continue;
        };
        if cell.len() > 0 {
            line.push_str(&" ".repeat(gap));
            line.push_str(&cell.painted(page));
            gap = 0;
        }
        gap += width(*column).saturating_sub(cell.len()) + GAP;
    }
    line
}

/// Rows without titles, whose last cell is prose: it goes on below itself, and where there is too little
/// room for that, in lines of its own. Each line is `indent` in.
pub fn prose_table(page: &Page, indent: usize, rows: &[Vec<Cell>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let prose = columns.saturating_sub(1);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(Cell::len).max().unwrap_or(0)
    };
    let kept: Vec<usize> = (0..prose).collect();
    let at = indent
        + kept
            .iter()
            .map(|column| width(*column) + GAP)
            .sum::<usize>();
    let fits = page
        .columns
        .is_none_or(|columns| at + width(prose).min(PROSE_COLUMNS) <= columns);
    let mut lines = Vec::new();
    for row in rows {
        let head = in_columns(page, indent, row, &kept, &width);
        let text = row.get(prose).map_or("", |cell| cell.text.as_str());
        match (text.is_empty(), fits) {
            (true, _) => lines.push(head),
            (false, true) => {
                let pad = " ".repeat(at.saturating_sub(visible(&head)));
                lines.extend(page.hanging(&format!("{head}{pad}"), at, text));
            }
            (false, false) => {
                lines.push(head);
                lines.extend(page.wrapped(&" ".repeat(indent + 4), text));
            }
        }
    }
    lines
}

/// What came from outside (a label, a server's words) on a terminal: control characters escaped.
pub fn shown(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c.is_control() {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect()
}

/// As [`shown`], of a text that has lines.
pub fn shown_lines(text: &str) -> String {
    text.split('\n').map(shown).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
    }

    const COLUMNS: [Column; 4] = [
        Column::new("SERVER"),
        Column::new("ROLE"),
        Column::spare("VERSION", 1),
        Column::new("LAG"),
    ];

    fn table(lag: &str) -> Table {
        let mut table = Table::new(&COLUMNS);
        table.row(vec![
            "db1".into(),
            "source".into(),
            "10.11.19".into(),
            "-".into(),
        ]);
        let cells = vec![
            "db2".into(),
            "replica".into(),
            "10.11.19".into(),
            lag.into(),
        ];
        table.row_and(cells, Some("snapshot: the disk is full".to_owned()));
        table
    }

    fn widest(lines: &[String]) -> usize {
        lines.iter().map(|line| visible(line)).max().unwrap_or(0)
    }

    #[test]
    fn a_table_that_fits_stays_one() {
        let lines = table("120 ms").render(&Page::of_width(Some(80)), 2);
        assert_eq!(
            lines,
            [
                "  SERVER  ROLE     VERSION   LAG",
                "  db1     source   10.11.19  -",
                "  db2     replica  10.11.19  120 ms",
                "      snapshot: the disk is full",
            ]
        );
    }

    #[test]
    fn what_others_show_too_goes_before_the_table_does() {
        let lines = table("120 ms").render(&Page::of_width(Some(30)), 2);
        assert_eq!(lines[2], "  db2     replica  120 ms");
    }

    #[test]
    fn a_table_without_room_is_a_block_for_each_row() {
        let lag = "delayed 2h on purpose, 8.0 s behind that";
        let lines = table(lag).render(&Page::of_width(Some(40)), 2);
        assert_eq!(
            lines,
            [
                "  db1",
                "    role     source",
                "    version  10.11.19",
                "  db2",
                "    role     replica",
                "    version  10.11.19",
                "    lag      delayed 2h on purpose, 8.0",
                "             s behind that",
                "      snapshot: the disk is full",
            ]
        );
    }

    #[test]
    fn without_a_terminal_nothing_is_broken_or_left_out() {
        let lag = "delayed 2h on purpose, 8.0 s behind that, and ".repeat(4);
        let lines = table(&lag).render(&Page::of_width(None), 0);
        assert_eq!(lines.len(), 4);
        assert!(lines[2].starts_with("db2     replica  10.11.19  delayed"));
        let text = "seven s ".repeat(30);
        assert_eq!(Page::of_width(None).wrapped("- ", &text).len(), 1);
    }

    #[test]
    fn prose_goes_on_below_itself_or_in_lines_of_its_own() {
        let rows = [
            vec![
                "follow".into(),
                "would".into(),
                "db1 follows db2 ".repeat(6).into(),
            ],
            vec!["open".into(), "would".into(), "".into()],
        ];
        let lines = prose_table(&Page::of_width(Some(60)), 2, &rows);
        assert!(lines[0].starts_with("  follow  would  db1 follows db2"));
        assert!(lines[1].starts_with("                 "), "{lines:?}");
        assert_eq!(lines.last().map(String::as_str), Some("  open    would"));
        let lines = prose_table(&Page::of_width(Some(40)), 2, &rows);
        assert_eq!(lines[0], "  follow  would");
        assert!(lines[1].starts_with("      db1 follows db2"));
        assert!(widest(&lines) <= 40);
    }

    #[test]
    fn long_texts_fit_and_commands_stay_whole() {
        for columns in [60, 80, 120] {
            let page = Page::of_width(Some(columns));
            let lines = page.wrapped("  warning   ", &"seven s ".repeat(30));
            assert!(lines.len() > 1 && widest(&lines) <= columns);
            assert!(lines[1].starts_with("            seven"));
        }
        let page = Page::of_width(Some(80));
        let word = "x".repeat(100);
        assert_eq!(
            page.wrapped("- ", &format!("a {word} b")),
            ["- a", &format!("  {word}"), "  b"]
        );
        let text = format!("{} `understudy snapshot list` shows them", "y".repeat(60));
        assert_eq!(
            page.wrapped("", &text)[1],
            "`understudy snapshot list` shows them"
        );
        assert_eq!(page.wrapped("- ", ""), ["- "]);
    }

    #[test]
    fn a_gtid_set_is_broken_behind_its_commas() {
        let set = (0..8)
            .map(|n| format!("0-{n}-12345678"))
            .collect::<Vec<_>>();
        let lines = Page::of_width(Some(40)).wrapped("gtid:  ", &set.join(","));
        assert!(lines.len() > 2 && widest(&lines) <= 40);
        assert_eq!(
            lines.concat().replace(' ', ""),
            format!("gtid:{}", set.join(","))
        );
    }

    #[test]
    fn colours_take_no_room_and_no_color_is_honoured() {
        let page = Page {
            columns: Some(80),
            colours: true,
        };
        let mut table = Table::new(&[Column::new("WHEN"), Column::new("RESULT"), Column::new("X")]);
        let failed = Cell::judged("failed", Some(Severity::Critical));
        table.row(vec!["today".into(), failed, "y".into()]);
        let lines = table.render(&page, 0);
        assert_eq!(lines[1], "today  \x1b[1;31mfailed\x1b[0m  y");
        assert_eq!(visible(&lines[1]), visible(&lines[0]));
        assert!(wants_colours(None) && wants_colours(Some("".as_ref())));
        assert!(!wants_colours(Some("1".as_ref())));
    }
}
