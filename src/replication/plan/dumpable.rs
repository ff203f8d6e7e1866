//! What a dump of the source would stumble over, after hours: found before it begins.

use super::{Findings, Wish};

/// Of the source, looked for where a dump was decided on. Names are `schema.name`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stumbles {
    /// Views that refer to what isn't there: (schema, name), and the server's words.
    pub views: Vec<((String, String), String)>,
    /// Tables that the server can't open, and its words.
    pub tables: Vec<(String, String)>,
    /// `view s.v`, and the account that it runs as, which doesn't exist.
    pub definers: Vec<(String, String)>,
    /// Events with `;;` in name or text: the dump programs of both flavours look for a delimiter that
    /// isn't in it, and never end (seen on MariaDB 10.11.14).
    pub events: Vec<String>,
}

/// So many are named; the rest is counted.
const NAMED_MAX: usize = 10;

/// Refuses, all at once; or leaves out the views that the user gave up.
pub(super) fn check(source: &str, found: &Stumbles, wish: &Wish, findings: &mut Findings) {
    let views: Vec<String> = found
        .views
        .iter()
        .map(|((schema, name), words)| format!("{schema}.{name} ({words})"))
        .collect();
    if !views.is_empty() && wish.skip_invalid_views {
        let message = format!("left out, since they can't be read: {}", some_of(&views));
        findings.warn("invalid-views", message);
    } else if !views.is_empty() {
        findings.refuse(
            format!(
                "views of {source} can't be read, and a dump would end at the first of them: {}",
                some_of(&views)
            ),
            "Drop them, or make what they refer to again; or give --skip-invalid-views, which leaves \
             them out.",
        );
    }
    let tables: Vec<String> = found
        .tables
        .iter()
        .map(|(name, words)| format!("{name} ({words})"))
        .collect();
    if !tables.is_empty() {
        findings.refuse(
            format!(
                "tables of {source} can't be read, and a dump would end at the first of them: {}",
                some_of(&tables)
            ),
            "`REPAIR TABLE` mends a crashed one of MyISAM or Aria; others want a backup, or DROP TABLE.",
        );
    }
    if !found.events.is_empty() {
        findings.refuse(
            format!(
                "events of {source} have two semicolons in a row in their name or text, at which a \
                 dump program never ends: {}",
                some_of(&found.events)
            ),
            "Make them anew without `;;` (RENAME TO for a name, ALTER EVENT … DO for a text).",
        );
    }
    let definers: Vec<String> = found
        .definers
        .iter()
        .map(|(what, account)| format!("{what} ({account})"))
        .collect();
    if !definers.is_empty() {
        let message = format!(
            "these run as accounts that {source} doesn't have, and can't be used on either server: {}",
            some_of(&definers)
        );
        findings.warn("lost-definers", message);
    }
}

fn some_of(things: &[String]) -> String {
    let named = things[..things.len().min(NAMED_MAX)].join(", ");
    match things.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named}, and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(found: &Stumbles, skip_invalid_views: bool) -> (usize, Vec<&'static str>) {
        let wish = Wish {
            skip_invalid_views,
            ..Wish::default()
        };
        let mut findings = Findings::default();
        check("db1", found, &wish, &mut findings);
        let rules = findings.warnings.iter().map(|warning| warning.rule);
        (findings.refusals.len(), rules.collect())
    }

    #[test]
    fn all_of_it_is_told_at_once_and_only_views_can_be_left_out() {
        let none = Stumbles::default();
        assert_eq!(judged(&none, false), (0, vec![]));
        let all = Stumbles {
            views: vec![(("a".into(), "v".into()), "gone".into())],
            tables: vec![("a.t".into(), "crashed".into())],
            definers: vec![("routine a.r".into(), "x@y".into())],
            events: vec!["a.e".into()],
        };
        assert_eq!(judged(&all, false), (3, vec!["lost-definers"]));
        assert_eq!(
            judged(&all, true),
            (2, vec!["invalid-views", "lost-definers"])
        );
    }
}
