//! What a dump of the source would stumble over, after hours: found before it begins.

use super::{Findings, Wish};
use crate::snapshot::archive::obstacle::{Stumbles, some_of};

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
    for (obstacle, names) in &found.obstacles {
        if !names.is_empty() {
            let (what, cure) = obstacle.words();
            findings.refuse(
                format!("these of {source} {what}: {}", some_of(names)),
                cure,
            );
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::archive::obstacle::Obstacle;

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
            obstacles: vec![
                (Obstacle::EndlessEvent, vec!["a.e".into()]),
                (Obstacle::Text, Vec::new()),
            ],
        };
        assert_eq!(judged(&all, false), (3, vec!["lost-definers"]));
        assert_eq!(
            judged(&all, true),
            (2, vec!["invalid-views", "lost-definers"])
        );
    }
}
