//! Which rows hang on which by foreign keys, and the order in which tables load.

use std::collections::{BTreeMap, BTreeSet};

use crate::server::foreign_keys::{ForeignKey, TableName};

/// From a chosen row of a table to the rows of another that come with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub from: TableName,
    pub to: TableName,
    /// Equal in both: (of `from`, of `to`).
    pub columns: Vec<(String, String)>,
}

/// A table in its place of the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub table: TableName,
    /// It refers to itself, directly or by others: no order of its rows loads with foreign keys looked at.
    pub in_cycle: bool,
}

/// All foreign keys of a server.
///
/// A *part* is a table `master__name` that refers to `master` in the same schema, as DataJoint names
/// them: its rows are made and deleted together with those of their master, so they come together, too.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    keys: Vec<ForeignKey>,
    /// Of `keys`, those by which a part belongs to its master.
    parts: Vec<ForeignKey>,
}

impl Graph {
    pub fn of(keys: Vec<ForeignKey>) -> Self {
        let mut parts: Vec<ForeignKey> =
            keys.iter().filter(|key| is_of_part(key)).cloned().collect();
        // A part may refer to rows of its master's table that aren't its master: by other names.
        let plain: BTreeSet<TableName> = parts
            .iter()
            .filter(|key| has_same_names(key))
            .map(|key| key.child.clone())
            .collect();
        parts.retain(|key| has_same_names(key) || !plain.contains(&key.child));
        Self { keys, parts }
    }

    pub fn keys(&self) -> &[ForeignKey] {
        &self.keys
    }

    /// To what refers to a row, and from a part to its master: what DataJoint deletes along with it.
    pub fn steps_to_children(&self) -> Vec<Step> {
        let children = self.keys.iter().map(to_child);
        children.chain(self.parts.iter().map(to_parent)).collect()
    }

    /// To what a row refers to, and from a master to its parts.
    pub fn steps_to_parents(&self) -> Vec<Step> {
        let parents = self.keys.iter().map(to_parent);
        parents.chain(self.parts.iter().map(to_child)).collect()
    }

    /// These tables, and all that they refer to.
    pub fn with_parents(&self, tables: &BTreeSet<TableName>) -> BTreeSet<TableName> {
        let mut all = tables.clone();
        loop {
            let more: Vec<TableName> = self
                .keys
                .iter()
                .filter(|key| all.contains(&key.child) && !all.contains(&key.parent))
                .map(|key| key.parent.clone())
                .collect();
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }

    /// What is referred to first; the same each time.
    pub fn order(&self, tables: &BTreeSet<TableName>) -> Vec<Placed> {
        let mut search = Search {
            parents: BTreeMap::new(),
            seen: BTreeMap::new(),
            path: Vec::new(),
            placed: Vec::new(),
        };
        for key in &self.keys {
            if tables.contains(&key.child) && tables.contains(&key.parent) {
                let parents = search.parents.entry(&key.child).or_default();
                parents.insert(&key.parent);
            }
        }
        for table in tables {
            if !search.seen.contains_key(table) {
                search.visit(table);
            }
        }
        search.placed
    }
}

/// Tarjan's search for what is connected both ways: it comes upon parents first.
struct Search<'a> {
    parents: BTreeMap<&'a TableName, BTreeSet<&'a TableName>>,
    /// When each was found, and the earliest on the path that it leads to.
    seen: BTreeMap<&'a TableName, (usize, usize)>,
    path: Vec<&'a TableName>,
    placed: Vec<Placed>,
}

impl<'a> Search<'a> {
    fn visit(&mut self, table: &'a TableName) -> usize {
        let number = self.seen.len();
        let mut low = number;
        self.seen.insert(table, (number, number));
        self.path.push(table);
        let parents = self.parents.get(table).cloned().unwrap_or_default();
        for parent in &parents {
            match self.seen.get(parent) {
                None => low = low.min(self.visit(parent)),
                Some((number, _)) if self.path.contains(parent) => low = low.min(*number),
                Some(_) => {}
            }
        }
        self.seen.insert(table, (number, low));
        if low == number {
            let begin = self.path.iter().position(|own| *own == table);
            let together = self.path.split_off(begin.unwrap_or_default());
            let in_cycle = together.len() > 1 || parents.contains(table);
            self.placed.extend(together.into_iter().map(|own| Placed {
                table: own.clone(),
                in_cycle,
            }));
        }
        low
    }
}

fn is_of_part(key: &ForeignKey) -> bool {
    let (part, master) = (&key.child, &key.parent);
    let name = part.table.strip_prefix(master.table.as_str());
    let name = name.and_then(|rest| rest.strip_prefix("__"));
    part.schema == master.schema && name.is_some_and(|name| !name.is_empty())
}

fn has_same_names(key: &ForeignKey) -> bool {
    key.columns
        .iter()
        .all(|(child, parent)| child.eq_ignore_ascii_case(parent))
}

fn to_parent(key: &ForeignKey) -> Step {
    Step {
        from: key.child.clone(),
        to: key.parent.clone(),
        columns: key.columns.clone(),
    }
}

fn to_child(key: &ForeignKey) -> Step {
    let turned = |(child, parent): &(String, String)| (parent.clone(), child.clone());
    Step {
        from: key.parent.clone(),
        to: key.child.clone(),
        columns: key.columns.iter().map(turned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> TableName {
        let (schema, table) = name.split_once('.').unwrap();
        TableName::new(schema, table)
    }

    /// `"a.child>a.parent:x=id,y=id2"`, without columns `id=id`.
    fn key(text: &str) -> ForeignKey {
        let (tables, columns) = text.split_once(':').unwrap_or((text, "id=id"));
        let (child, parent) = tables.split_once('>').unwrap();
        let pair = |pair: &str| {
            let (child, parent) = pair.split_once('=').unwrap();
            (child.to_owned(), parent.to_owned())
        };
        ForeignKey {
            name: text.to_owned(),
            child: table(child),
            parent: table(parent),
            columns: columns.split(',').map(pair).collect(),
        }
    }

    fn graph(keys: &[&str]) -> Graph {
        Graph::of(keys.iter().map(|text| key(text)).collect())
    }

    fn tables(names: &[&str]) -> BTreeSet<TableName> {
        names.iter().map(|name| table(name)).collect()
    }

    fn order(keys: &[&str], names: &[&str]) -> Vec<String> {
        let placed = graph(keys).order(&tables(names));
        let words = |own: &Placed| format!("{}{}", own.table, ["", "*"][usize::from(own.in_cycle)]);
        placed.iter().map(words).collect()
    }

    #[test]
    fn what_is_referred_to_loads_first() {
        let keys = ["l.a>l.b", "l.b>m.c", "l.a>m.c", "l.d>l.a"];
        assert_eq!(
            order(&keys, &["l.a", "l.b", "l.d", "m.c"]),
            ["m.c", "l.b", "l.a", "l.d"]
        );
        assert_eq!(
            order(&keys, &["l.a", "m.c"]),
            ["m.c", "l.a"],
            "only those asked for"
        );
        assert_eq!(order(&[], &["l.b", "l.a"]), ["l.a", "l.b"]);
    }

    #[test]
    fn cycles_stand_together_after_what_they_refer_to() {
        let keys = ["l.a>l.b", "l.b>l.a", "l.b>l.z", "l.c>l.a", "l.s>l.s"];
        let placed = order(&keys, &["l.a", "l.b", "l.c", "l.s", "l.z"]);
        assert_eq!(placed, ["l.z", "l.a*", "l.b*", "l.c", "l.s*"]);
        // Of a cycle of which a table is left out, nothing is left.
        assert_eq!(order(&keys, &["l.a", "l.c"]), ["l.a", "l.c"]);
    }

    #[test]
    fn a_long_chain_is_ordered() {
        let keys: Vec<String> = (0..300)
            .map(|n| format!("l.t{n:03}>l.t{:03}", n + 1))
            .collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let names: Vec<String> = (0..=300).map(|n| format!("l.t{n:03}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut wanted: Vec<&str> = names.clone();
        wanted.reverse();
        assert_eq!(order(&keys, &names), wanted);
    }

    #[test]
    fn children_bring_their_masters_and_parents_their_parts() {
        let graph = graph(&[
            "l.__s__peak>l.__s",
            "l.__s__peak>l.__s:other=id",
            "l.__s__peak>l.probe:probe=id",
            "m.__s__x>l.__s",
            "l.__s>l.a",
        ]);
        let has = |steps: &[Step], from: &str, to: &str| {
            let own = steps
                .iter()
                .filter(|step| step.from == table(from) && step.to == table(to));
            own.count()
        };
        let down = graph.steps_to_children();
        assert_eq!(has(&down, "l.probe", "l.__s__peak"), 1);
        assert_eq!(
            has(&down, "l.__s__peak", "l.__s"),
            1,
            "to its own master only"
        );
        assert_eq!(has(&down, "l.__s", "l.__s__peak"), 2);
        assert_eq!(
            has(&down, "m.__s__x", "l.__s"),
            0,
            "no part: of another schema"
        );
        assert_eq!(has(&down, "l.__s", "l.a"), 0);
        let up = graph.steps_to_parents();
        assert_eq!(has(&up, "l.__s", "l.__s__peak"), 1);
        assert_eq!(has(&up, "l.__s__peak", "l.probe"), 1);
        assert_eq!(has(&up, "l.a", "l.__s"), 0);
    }

    #[test]
    fn a_step_says_which_columns_are_equal() {
        let graph = graph(&["l.c>l.p:x=id,y=id2"]);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            graph.steps_to_parents()[0].columns,
            [pair("x", "id"), pair("y", "id2")]
        );
        assert_eq!(
            graph.steps_to_children()[0].columns,
            [pair("id", "x"), pair("id2", "y")]
        );
    }

    #[test]
    fn empty_parents_come_along() {
        let graph = graph(&["l.a>l.b", "l.b>l.c", "l.c>l.b", "l.x>l.a"]);
        assert_eq!(
            graph.with_parents(&tables(&["l.a"])),
            tables(&["l.a", "l.b", "l.c"])
        );
    }
}
