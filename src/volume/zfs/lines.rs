//! What zfs and zpool are told and what they say: argv builders and parsers, without effects.
//!
//! Output is that of `-Hp`: one row a line, tabs between, exact numbers. Values that may hold a tab
//! (paths, foreign properties) are asked for as the last column.

use std::collections::BTreeMap;

use crate::volume::{NAME_PREFIX, Tags, VolumeError};

/// Our user properties; a snapshot without this one set on itself isn't ours.
pub(super) const ID_PROPERTY: &str = "understudy:id";
/// Where the origin was mounted when the snapshot was taken.
pub(super) const PATH_PROPERTY: &str = "understudy:path";
pub(super) const SERVER_PROPERTY: &str = "understudy:server";
/// What a clone is for; a dataset without this one set on itself isn't a clone of ours.
pub(super) const USE_PROPERTY: &str = "understudy:use";
/// On what a put made, for good: the use that it was put for.
pub(super) const PUT_PROPERTY: &str = "understudy:put";
/// On what a put has set aside: the use that it was for, and the name that it had.
pub(super) const BEFORE_PROPERTY: &str = "understudy:before";
pub(super) const ORIGIN_PROPERTY: &str = "understudy:origin";
/// How a dataset without a mountpoint of its own was mounted.
pub(super) const MOUNT_PROPERTY: &str = "understudy:mount";
const PROPERTY_PREFIX: &str = "understudy:";

/// Properties that a clone gets only once it has its origin's place: mounted by itself before it,
/// it would hide the origin; and the room that both reserve may not be there.
pub(super) const LATER: [&str; 3] = ["canmount", "reservation", "refreservation"];
/// Those of them that reserve room.
pub(super) const RESERVING: [&str; 2] = ["reservation", "refreservation"];
/// What is settled when a dataset is made, and a clone has from its origin.
const ONCE: [&str; 8] = [
    "casesensitivity",
    "encryption",
    "keyformat",
    "keylocation",
    "normalization",
    "pbkdf2iters",
    "utf8only",
    "version",
];

/// ZAP_MAXVALUELEN without its NUL (zfsprops(7): "values of up to 8192 bytes").
const VALUE_BYTES_MAX: usize = 8191;
/// ZAP_MAXNAMELEN without its NUL.
const PROPERTY_NAME_BYTES_MAX: usize = 255;
/// ZFS_MAX_DATASET_NAME_LEN without its NUL, `@…` included.
pub(super) const NAME_BYTES_MAX: usize = 255;
/// A pool this full slows down badly and may run out under the live replica.
pub(super) const POOL_CAPACITY_PERCENT_MAX: u8 = 95;

/// A filesystem as `zfs list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dataset {
    pub name: String,
    pub is_mounted: bool,
    /// A path, `legacy` or `none`.
    pub mountpoint: String,
}

/// A pool as `zpool list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pool {
    pub name: String,
    pub health: String,
    pub capacity_percent: u8,
}

impl Pool {
    /// Whether it takes writes.
    pub fn is_working(&self) -> bool {
        matches!(self.health.as_str(), "ONLINE" | "DEGRADED")
    }
}

/// The properties of one snapshot: value and source by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Properties(BTreeMap<String, (String, String)>);

impl Properties {
    /// The value, wherever it comes from.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|(value, _)| value.as_str())
    }

    /// The value when it was set on this very snapshot: not inherited, not received.
    pub fn local(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .filter(|(_, source)| source == "local")
            .map(|(value, _)| value.as_str())
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }

    pub fn clones(&self) -> Vec<&str> {
        let clones = self.value("clones").unwrap_or_default();
        clones
            .split(',')
            .filter(|name| !name.is_empty() && *name != "-")
            .collect()
    }

    /// What was set on this very dataset, or came with it.
    fn own(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .filter(|(_, (_, source))| source == "local" || source == "received")
            .map(|(name, (value, _))| (name.as_str(), value.as_str()))
    }

    fn own_value(&self, wanted: &str) -> Option<&str> {
        self.own()
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value)
    }

    /// Our tags, their prefix taken off.
    pub fn tags(&self) -> Tags {
        self.0
            .iter()
            .filter(|(_, (_, source))| source == "local")
            .filter_map(|(name, (value, _))| {
                let key = name.strip_prefix(PROPERTY_PREFIX)?;
                Some((key.to_owned(), value.clone()))
            })
            .collect()
    }
}

/// The origin and the id in a snapshot's name, when it is a name that we would give.
pub(super) fn split_name(name: &str) -> Option<(&str, &str)> {
    let (origin, snapshot) = name.split_once('@')?;
    Some((origin, snapshot.strip_prefix(NAME_PREFIX)?))
}

pub(super) fn pool_of(dataset: &str) -> &str {
    dataset.split(['/', '@']).next().unwrap_or(dataset)
}

/// The name `last` beside a snapshot's dataset, or below it when that is its pool's root.
pub(super) fn beside(snapshot: &str, last: &str) -> String {
    let dataset = snapshot.split('@').next().unwrap_or(snapshot);
    let parent = dataset
        .rsplit_once('/')
        .map_or(dataset, |(parent, _)| parent);
    format!("{parent}/{last}")
}

/// The last part of a dataset's name.
pub(super) fn last_part(dataset: &str) -> &str {
    dataset.rsplit('/').next().unwrap_or(dataset)
}

/// `zfs clone`
pub(super) fn clone_argv(
    properties: &[(String, String)],
    snapshot: &str,
    name: &str,
) -> Vec<String> {
    let mut argv = vec!["clone".to_owned()];
    argv.extend(option_pairs(properties));
    argv.extend([snapshot.to_owned(), name.to_owned()]);
    argv
}

/// Of a clone for a use: writable, mounted by nobody (legacy, and not at start either), ours.
pub(super) fn use_properties(use_id: &str) -> Vec<(String, String)> {
    pairs(&[
        ("mountpoint", "legacy"),
        ("canmount", "noauto"),
        ("readonly", "off"),
        (USE_PROPERTY, use_id),
    ])
}

/// Of a clone that is to take a dataset's place: the dataset's own, but for what must wait.
pub(super) fn put_properties(
    model: &Properties,
    use_id: &str,
    mount_options: Option<&str>,
) -> Vec<(String, String)> {
    let mut all = pairs(&[
        ("canmount", "noauto"),
        (USE_PROPERTY, use_id),
        (PUT_PROPERTY, use_id),
    ]);
    all.extend(pairs(&waiting(model)));
    if let Some(options) = mount_options.or(model.local(MOUNT_PROPERTY)) {
        all.extend(pairs(&[(MOUNT_PROPERTY, options)]));
    }
    let is_copied = |name: &str| {
        !name.starts_with(PROPERTY_PREFIX) && !LATER.contains(&name) && !ONCE.contains(&name)
    };
    let own: Vec<_> = model.own().filter(|(name, _)| is_copied(name)).collect();
    all.extend(pairs(&own));
    all
}

/// Of a dataset that is about to be set aside: ours now, and not mounted when the machine starts.
pub(super) fn aside_properties(
    model: &Properties,
    use_id: &str,
    origin: &str,
) -> Vec<(String, String)> {
    let mut all = pairs(&[
        ("canmount", "noauto"),
        (BEFORE_PROPERTY, use_id),
        (ORIGIN_PROPERTY, origin),
    ]);
    all.extend(pairs(&waiting(model)));
    all
}

/// The values of `LATER` under names of ours. An interrupted put may have put them there already.
fn waiting(model: &Properties) -> Vec<(&str, &str)> {
    let value = |name: &str, waiting: &str| match model.local(waiting) {
        Some(value) => Some(value),
        None => model.own_value(name),
    };
    let mut all = vec![(
        "understudy:canmount",
        value("canmount", "understudy:canmount").unwrap_or("on"),
    )];
    for (name, waiting) in [
        ("reservation", "understudy:reservation"),
        ("refreservation", "understudy:refreservation"),
    ] {
        all.extend(value(name, waiting).map(|value| (waiting, value)));
    }
    all
}

/// Under what name a value of `LATER` waits.
pub(super) fn waiting_property(name: &str) -> String {
    format!("{PROPERTY_PREFIX}{name}")
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// `zfs snapshot -o … NAME…`: one call, one moment, the properties with it.
pub(super) fn snapshot_argv(names: &[String], properties: &[(String, String)]) -> Vec<String> {
    let mut argv = vec!["snapshot".to_owned()];
    argv.extend(option_pairs(properties));
    argv.extend_from_slice(names);
    argv
}

fn option_pairs(properties: &[(String, String)]) -> impl Iterator<Item = String> {
    properties
        .iter()
        .flat_map(|(name, value)| ["-o".to_owned(), format!("{name}={value}")])
}

pub(super) fn set_argv(properties: &[(String, String)], name: &str) -> Vec<String> {
    let mut argv = vec!["set".to_owned()];
    argv.extend(
        properties
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    argv.push(name.to_owned());
    argv
}

/// What of `tags` user properties can hold; the rest is in the manifest only.
pub(super) fn properties_of(tags: &Tags) -> Vec<(String, String)> {
    tags.iter()
        .map(|(key, value)| (format!("{PROPERTY_PREFIX}{key}"), value.clone()))
        .filter(|(name, value)| is_property_name(name) && is_property_value(value))
        .collect()
}

fn is_property_name(name: &str) -> bool {
    let is_allowed = |c: char| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, ':' | '-' | '.' | '_')
    };
    name.len() <= PROPERTY_NAME_BYTES_MAX && name.chars().all(is_allowed)
}

/// Control characters would break the rows that we read back; an empty value reads as unset.
pub(super) fn is_property_value(value: &str) -> bool {
    !value.is_empty() && value.len() <= VALUE_BYTES_MAX && !value.chars().any(char::is_control)
}

/// `zfs list -Hp -o name,mounted,mountpoint`
pub(super) fn parse_datasets(text: &str) -> Result<Vec<Dataset>, VolumeError> {
    text.lines()
        .map(|line| match line.splitn(3, '\t').collect::<Vec<_>>()[..] {
            [name, mounted, mountpoint] => Ok(Dataset {
                name: name.to_owned(),
                is_mounted: mounted == "yes",
                mountpoint: mountpoint.to_owned(),
            }),
            _ => Err(unreadable("zfs", line)),
        })
        .collect()
}

/// `zpool list -Hp -o name,health,capacity`; a suspended pool may show `-` for its capacity.
pub(super) fn parse_pools(text: &str) -> Result<Vec<Pool>, VolumeError> {
    text.lines()
        .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [name, health, capacity] => Ok(Pool {
                name: name.to_owned(),
                health: health.to_owned(),
                capacity_percent: match capacity.trim_end_matches('%') {
                    "-" => 100,
                    number => number.parse().map_err(|_| unreadable("zpool", line))?,
                },
            }),
            _ => Err(unreadable("zpool", line)),
        })
        .collect()
}

/// `zfs get -Hp -o name,property,source,value all NAME…`, by snapshot. Lines that aren't rows
/// continue a foreign property's value, and are passed over.
pub(super) fn parse_properties(text: &str) -> BTreeMap<String, Properties> {
    let mut found: BTreeMap<String, Properties> = BTreeMap::new();
    for line in text.lines() {
        if let [name, property, source, value] = line.splitn(4, '\t').collect::<Vec<_>>()[..] {
            found
                .entry(name.to_owned())
                .or_default()
                .0
                .insert(property.to_owned(), (value.to_owned(), source.to_owned()));
        }
    }
    found
}

/// `zfs get -Hp -t snapshot -s local -o name,value understudy:id`: the names of those that are ours
/// by name and by property.
pub(super) fn parse_ours(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.split_once('\t'))
        .filter(|(name, id)| split_name(name).is_some_and(|(_, named)| named == *id))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// `zfs holds -H NAME`: the tags.
pub(super) fn parse_holds(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.split('\t').nth(1))
        .map(str::to_owned)
        .collect()
}

fn unreadable(program: &'static str, line: &str) -> VolumeError {
    VolumeError::Parse {
        program,
        detail: format!("{line:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = include_str!("../../../tests/fixtures/zfs/zfs-get-all.zfs-2.1.11.txt");
    const OURS: &str = include_str!("../../../tests/fixtures/zfs/zfs-get-ours.zfs-2.1.11.txt");
    const HOLDS: &str = include_str!("../../../tests/fixtures/zfs/zfs-holds.zfs-2.1.11.txt");
    const FILESYSTEMS: &str =
        include_str!("../../../tests/fixtures/zfs/zfs-list-filesystems.zfs-2.1.11.txt");
    const POOLS: &str = include_str!("../../../tests/fixtures/zfs/zpool-list.zfs-2.1.11.txt");

    #[test]
    fn captured_output_is_read() {
        let all = parse_properties(ALL);
        let ours = &all["tank/mysql@understudy-a-1"];
        assert_eq!(ours.local(ID_PROPERTY), Some("a-1"));
        assert_eq!(ours.value("guid"), Some("15066650253151207775"));
        assert_eq!(ours.clones(), ["tank/clone"]);
        assert_eq!(ours.number("userrefs"), Some(0));
        assert_eq!(ours.tags().len(), 3);
        let inherited = &all["tank/redo@understudy-inh"];
        assert_eq!(inherited.value(ID_PROPERTY), Some("inh"));
        assert_eq!(inherited.local(ID_PROPERTY), None);
        let names = ["tank/mysql@understudy-a-1", "tank/redo@understudy-a-1"];
        assert_eq!(parse_ours(OURS), names);
        assert_eq!(parse_holds(HOLDS), ["keep2", "keep"]);
        let datasets = parse_datasets(FILESYSTEMS).unwrap();
        assert_eq!(datasets[0].mountpoint, "legacy");
        assert!(!datasets[0].is_mounted && datasets[1].is_mounted);
        assert_eq!(parse_pools(POOLS).unwrap()[0].health, "ONLINE");
    }

    #[test]
    fn one_call_takes_all_datasets() {
        let names = [
            "tank/a@understudy-x".to_owned(),
            "tank/b@understudy-x".to_owned(),
        ];
        let argv = snapshot_argv(&names, &pairs(&[("understudy:id", "x")]));
        assert_eq!(
            argv.join(" "),
            "snapshot -o understudy:id=x tank/a@understudy-x tank/b@understudy-x"
        );
    }

    #[test]
    fn tags_that_do_not_fit_are_left_out() {
        let tags = Tags::from([
            ("gtid".into(), "0-1-100".into()),
            ("long".into(), "x".repeat(8192)),
            ("longest".into(), "x".repeat(8191)),
            ("Upper".into(), "x".into()),
            ("lines".into(), "a\nb".into()),
            ("empty".into(), String::new()),
        ]);
        let names: Vec<_> = properties_of(&tags)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["understudy:gtid", "understudy:longest"]);
    }

    #[test]
    fn only_a_name_that_bears_its_own_id_is_ours() {
        let text = "tank/a@understudy-x\tx\n\
                    tank/a@understudy-y\tx\n\
                    tank/a@daily\tdaily\n\
                    not a row\n";
        assert_eq!(parse_ours(text), ["tank/a@understudy-x"]);
    }

    #[test]
    fn inherited_and_received_properties_are_not_local() {
        let text = "tank/a@s\tunderstudy:id\tinherited from tank/a\ts\n\
                    tank/a@s\tunderstudy:server\treceived\tdb2\n\
                    tank/a@s\tunderstudy:path\tlocal\t/tank/with\ttab\n\
                    tank/a@s\tclones\t-\ttank/c,tank/d\n\
                    tank/a@s\tguid\t-\t1234\n";
        let found = parse_properties(text);
        let properties = &found["tank/a@s"];
        assert_eq!(properties.local(ID_PROPERTY), None);
        assert_eq!(properties.local(SERVER_PROPERTY), None);
        assert_eq!(properties.local(PATH_PROPERTY), Some("/tank/with\ttab"));
        assert_eq!(properties.clones(), ["tank/c", "tank/d"]);
        assert_eq!(properties.number("guid"), Some(1234));
        assert_eq!(properties.tags().len(), 1);
    }

    #[test]
    fn a_suspended_pool_has_no_capacity_to_speak_of() {
        let pools = parse_pools("tank\tONLINE\t12\nlame\tSUSPENDED\t-\n").unwrap();
        assert_eq!(pools[0].capacity_percent, 12);
        assert_eq!(pools[1].capacity_percent, 100);
        assert!(parse_pools("tank\tONLINE\n").is_err());
    }

    #[test]
    fn what_takes_a_place_has_all_properties_but_what_must_wait() {
        let text = "t\trecordsize\tlocal\t16384\n\
                    t\tatime\tinherited from tank\toff\n\
                    t\tcom.example:x\treceived\ta b\n\
                    t\tmountpoint\tlocal\t/srv/mysql\n\
                    t\tcanmount\tlocal\toff\n\
                    t\trefreservation\tlocal\t1024\n\
                    t\tkeylocation\tlocal\tfile:///k\n\
                    t\tunderstudy:put\tlocal\told\n";
        let found = parse_properties(text);
        let render = |properties: Vec<(String, String)>| {
            let words: Vec<_> = properties
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            words.join(" ")
        };
        assert_eq!(
            render(put_properties(&found["t"], "u-1", Some("rw,noatime"))),
            "canmount=noauto understudy:use=u-1 understudy:put=u-1 understudy:canmount=off \
             understudy:refreservation=1024 understudy:mount=rw,noatime com.example:x=a b \
             mountpoint=/srv/mysql recordsize=16384"
        );
        let aside = aside_properties(&found["t"], "u-1", "tank/t");
        assert_eq!(
            render(aside.clone()),
            "canmount=noauto understudy:before=u-1 understudy:origin=tank/t \
             understudy:canmount=off understudy:refreservation=1024"
        );
        // Set aside already, or nearly so: what waits is still told.
        let mut text = text.replace("canmount\tlocal\toff", "canmount\tlocal\tnoauto");
        for (name, value) in aside.iter().filter(|(name, _)| name.contains(':')) {
            text += &format!("t\t{name}\tlocal\t{value}\n");
        }
        let again = put_properties(&parse_properties(&text)["t"], "u-2", None);
        assert!(render(again).contains("understudy:canmount=off"));
    }

    #[test]
    fn clones_lie_beside_the_origin_and_bear_their_use() {
        assert_eq!(beside("tank/db/mysql@s", "c"), "tank/db/c");
        assert_eq!(beside("tank@s", "c"), "tank/c");
        assert_eq!(last_part("tank/db/c"), "c");
        assert_eq!(
            clone_argv(
                &use_properties("u-1"),
                "tank/a@understudy-x",
                "tank/understudy-u-1-1"
            )
            .join(" "),
            "clone -o mountpoint=legacy -o canmount=noauto -o readonly=off \
             -o understudy:use=u-1 tank/a@understudy-x tank/understudy-u-1-1"
        );
    }

    #[test]
    fn names_split_at_the_snapshot() {
        assert_eq!(split_name("tank/a@understudy-x-1"), Some(("tank/a", "x-1")));
        assert_eq!(split_name("tank/understudy-x"), None);
        assert_eq!(pool_of("tank/a/b@c"), "tank");
        assert_eq!(pool_of("tank"), "tank");
    }
}
