//! What an account may do: the lines of SHOW GRANTS, read.

use std::collections::BTreeSet;

use super::flavour::Flavour;
use super::privileges::{EVERYWHERE, Needed};

/// What an account may do, by the lines of SHOW GRANTS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    flavour: Flavour,
    given: Vec<Line>,
    /// MySQL 8: what is taken away of what is given everywhere (partial_revokes).
    taken: Vec<Line>,
    /// Whose it is, as GRANT words it: `name`@`host`.
    pub account: Option<String>,
    /// It has a role that isn't active: what that would give isn't shown.
    pub has_idle_role: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    names: BTreeSet<String>,
    /// Schema and table, without quotes; `*` is any.
    on: (String, String),
}

impl Held {
    /// `active` is CURRENT_ROLE(): `NONE`, nothing, a name, or a list of them.
    pub fn parse<'a>(
        flavour: &Flavour,
        lines: impl IntoIterator<Item = &'a str>,
        active: &str,
    ) -> Self {
        let (mut given, mut taken, mut has_idle_role) = (Vec::new(), Vec::new(), false);
        let mut account = None;
        for line in lines {
            account = account.or_else(|| account_of(line));
            match line.split_once(' ') {
                Some(("GRANT", rest)) => match parse_line(flavour, rest, "TO") {
                    Parsed::Line(line) => given.push(line),
                    Parsed::Role(role) => has_idle_role |= !is_active(&role, active),
                    Parsed::Other => {}
                },
                Some(("REVOKE", rest)) => {
                    if let Parsed::Line(line) = parse_line(flavour, rest, "FROM") {
                        taken.push(line);
                    }
                }
                Some(_) | None => {}
            }
        }
        Self {
            flavour: flavour.clone(),
            account,
            given,
            taken,
            has_idle_role,
        }
    }

    pub fn flavour(&self) -> &Flavour {
        &self.flavour
    }

    pub fn has(&self, needed: &Needed) -> bool {
        self.holds(needed.name, needed.on)
    }

    /// Both as GRANT words them.
    pub fn holds(&self, name: &str, on: &str) -> bool {
        let is_everywhere = on == EVERYWHERE;
        let on = object(on);
        let says = |line: &Line| {
            // ALL on a schema holds nothing that is given everywhere only.
            let has_all = !is_everywhere || line.on.0 == "*";
            line.names.contains(name)
                || line.names.contains("ALL PRIVILEGES") && has_all
                || line.on.0 == "*" && line.names.contains("SUPER") && self.flavour.super_does(name)
        };
        let is_taken = || {
            let mut taken = self.taken.iter();
            on.0 != "*" && taken.any(|line| covers(&line.on, &on) && says(line))
        };
        self.given
            .iter()
            .any(|line| covers(&line.on, &on) && says(line) && !(line.on.0 == "*" && is_taken()))
    }

    /// What of a table it lacks, in its order.
    pub fn missing(&self, table: &[Needed]) -> Vec<Needed> {
        let missing = table.iter().filter(|needed| !self.has(needed));
        missing.copied().collect()
    }
}

/// Whom the line of a privilege is about; a role's own lines have no host.
fn account_of(line: &str) -> Option<String> {
    let words = words(line);
    let whom = words.iter().position(|word| word == "TO")? + 1;
    words.get(whom).filter(|name| name.contains('@')).cloned()
}

fn is_active(role: &str, active: &str) -> bool {
    let mut names = active.split(',').map(|name| {
        let name = name.split('@').next().unwrap_or_default();
        name.trim().trim_matches('`')
    });
    names.any(|name| name == role)
}

enum Parsed {
    Line(Line),
    /// Its name.
    Role(String),
    Other,
}

/// What stands behind GRANT or REVOKE.
fn parse_line(flavour: &Flavour, text: &str, before_whom: &str) -> Parsed {
    let words = words(text);
    let place = |wanted: &str| words.iter().position(|word| word == wanted);
    let Some(whom) = place(before_whom) else {
        return Parsed::Other;
    };
    let Some(on) = place("ON").filter(|on| *on < whom) else {
        let first = words.first().map_or("", String::as_str);
        return match first.starts_with(['`', '\'', '"']) {
            true => Parsed::Role(parts(first, '@').remove(0)),
            false => Parsed::Other,
        };
    };
    let names = words[..on].join(" ");
    let names = names.split(',').map(str::trim);
    let names = names.map(|name| flavour.printed_word(name).to_owned());
    // In front of the object may stand what it is: PROCEDURE, FUNCTION.
    match &words[on + 1..whom] {
        [one] => Parsed::Line(Line {
            names: names.collect(),
            on: object(one),
        }),
        _ => Parsed::Other,
    }
}

/// Words, each with its quoted parts; what is in parentheses stays with the word before, so that a
/// privilege for some columns only is another word.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let (mut quote, mut depth) = (None, 0_u32);
    for character in text.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '`' | '\'' | '"') => quote = Some(character),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, ' ') if depth == 0 => {
                words.push(std::mem::take(&mut word));
                continue;
            }
            (Some(_) | None, _) => {}
        }
        word.push(character);
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// The parts of a name, without their quotes.
fn parts(name: &str, between: char) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let mut quote = None;
    let mut characters = name.chars().peekable();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => match characters.peek() {
                Some(next) if *next == open => {
                    part.push(open);
                    characters.next();
                }
                Some(_) | None => quote = None,
            },
            (None, '`' | '\'' | '"') => quote = Some(character),
            (None, _) if character == between => parts.push(std::mem::take(&mut part)),
            (Some(_) | None, _) => part.push(character),
        }
    }
    parts.push(part);
    parts
}

fn object(text: &str) -> (String, String) {
    let mut parts = parts(text, '.').into_iter();
    let mut next = || parts.next().unwrap_or_default();
    (next(), next())
}

/// Whether what is given on one holds for the other. A schema may have wildcards, a table hasn't.
fn covers(given: &(String, String), wanted: &(String, String)) -> bool {
    if given.0 == "*" {
        return true;
    }
    is_like(&given.0, &wanted.0) && (given.1 == "*" || given.1 == wanted.1)
}

/// LIKE: `%` is any text, `_` any character, a backslash takes that away.
fn is_like(pattern: &str, text: &str) -> bool {
    let mut characters = pattern.chars();
    let Some(first) = characters.next() else {
        return text.is_empty();
    };
    let rest = characters.as_str();
    let tail = |text: &str, wanted: Option<char>| {
        let mut characters = text.chars();
        let next = characters.next();
        next.is_some_and(|next| wanted.is_none_or(|wanted| wanted == next))
            .then(|| characters.as_str().to_owned())
    };
    match first {
        '%' => {
            let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.any(|at| is_like(rest, &text[at..]))
        }
        '_' => tail(text, None).is_some_and(|left| is_like(rest, &left)),
        '\\' => {
            let mut escaped = rest.chars();
            let wanted = escaped.next();
            let left = tail(text, wanted);
            wanted.is_some() && left.is_some_and(|left| is_like(escaped.as_str(), &left))
        }
        plain => tail(text, Some(plain)).is_some_and(|left| is_like(rest, &left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names that are missing.
    fn missing(version: &str, lines: &[&str], active: &str) -> Vec<&'static str> {
        let flavour = Flavour::of_version(version);
        let held = Held::parse(&flavour, lines.iter().copied(), active);
        let missing = held.missing(&flavour.moves_roles());
        missing.iter().map(|needed| needed.name).collect()
    }

    const NINE: &str = "9.7.4 x";
    const TEN: &str = "10.11.14-MariaDB x";

    /// As the servers print it: MySQL 9.7.4 (shortened), MariaDB 10.11.14.
    #[test]
    fn all_privileges_are_all() {
        let mysql = [
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD, SHUTDOWN, PROCESS, SUPER, \
             REPLICATION SLAVE, REPLICATION CLIENT, EVENT, TRIGGER ON *.* TO `a`@`localhost` WITH GRANT \
             OPTION",
            "GRANT BACKUP_ADMIN,CONNECTION_ADMIN,REPLICATION_SLAVE_ADMIN,SET_ANY_DEFINER,SYSTEM_USER,BINLOG_ADMIN,\
             SYSTEM_VARIABLES_ADMIN,XA_RECOVER_ADMIN ON *.* TO `a`@`localhost` WITH GRANT OPTION",
        ];
        assert_eq!(missing(NINE, &mysql, "NONE"), [""; 0]);
        let all = ["GRANT ALL PRIVILEGES ON *.* TO `a`@`localhost` WITH GRANT OPTION"];
        for version in [TEN, "11.8.2-MariaDB x", "5.7.44 x", "5.6.24 x"] {
            assert_eq!(missing(version, &all, ""), [""; 0], "{version}");
        }
    }

    #[test]
    fn super_holds_what_the_version_says() {
        let lines = [
            "GRANT RELOAD, PROCESS, SUPER, EVENT ON *.* TO `u`@`%`",
            "GRANT SELECT ON *.* TO `u`@`%`",
            "GRANT ALL PRIVILEGES ON `understudy`.* TO `u`@`%`",
        ];
        assert_eq!(
            missing(NINE, &lines, "NONE"),
            ["XA_RECOVER_ADMIN", "SYSTEM_USER"]
        );
        assert_eq!(missing(TEN, &lines, ""), ["READ_ONLY ADMIN"]);
        assert_eq!(missing("10.6.18-MariaDB x", &lines, ""), [""; 0]);
        assert_eq!(missing("11.4.2-MariaDB x", &lines, "").len(), 9);
    }

    #[test]
    fn objects_are_read_with_their_wildcards_quotes_and_columns() {
        let on = |object: &str| {
            let line = format!("GRANT SELECT ON {object} TO 'u'@'%'");
            !missing(NINE, &[&line], "NONE").contains(&"SELECT")
        };
        assert!(on("*.*"));
        for (object, holds) in [
            ("`understudy`.*", true),
            ("`under%`.*", true),
            ("`under_tudy`.*", true),
            (r"`under\_tudy`.*", false),
            ("`understudy`.`marker`", false),
            ("`under``study`.*", false),
            ("FUNCTION `understudy`.`f`", false),
        ] {
            let line = format!("GRANT SELECT ON {object} TO `x TO y`@`%`");
            let lines = [
                line.as_str(),
                "GRANT SELECT ON `mysql`.`user` TO `x`@`%`",
                "GRANT SELECT ON `performance_schema`.* TO `x`@`%`",
            ];
            assert_eq!(
                !missing(NINE, &lines, "").contains(&"SELECT"),
                holds,
                "{object}"
            );
        }
        let some = ["GRANT SELECT (`User`, `Host`), INSERT ON *.* TO `u`@`%`"];
        assert!(missing(TEN, &some, "").contains(&"SELECT"));
        assert!(!missing(TEN, &some, "").contains(&"INSERT"));
        let taken = [
            "GRANT SELECT ON *.* TO `u`@`%`",
            "REVOKE SELECT ON `mysql`.* FROM `u`@`%`",
        ];
        assert!(missing(NINE, &taken, "").contains(&"SELECT"));
    }

    #[test]
    fn a_role_that_is_not_active_tells_nothing() {
        let idle = |version: &str, line: &str, active: &str| {
            Held::parse(&Flavour::of_version(version), [line], active).has_idle_role
        };
        assert!(idle(NINE, "GRANT `r`@`%` TO `u`@`localhost`", "NONE"));
        assert!(!idle(
            NINE,
            "GRANT `r`@`%` TO `u`@`localhost`",
            "`q`@`%`,`r`@`%`"
        ));
        assert!(idle(TEN, "GRANT `r` TO `u`@`localhost`", ""));
        assert!(!idle(TEN, "GRANT `r` TO `u`@`localhost`", "r"));
        assert!(!idle(TEN, "SET DEFAULT ROLE `r` FOR `u`@`localhost`", ""));
        assert!(!idle(
            NINE,
            "GRANT PROXY ON ``@`` TO `root`@`localhost`",
            "NONE"
        ));
    }
}
