//! What `lvs` and `vgs` say, as typed rows; parsing only.
//!
//! Asked for with `--reportformat json --units b --nosuffix --binary`: every value is a string,
//! sizes are bytes, flags are "1", "0" or "-1" for "can't be known now" (mostly: inactive).

use serde::Deserialize;

use crate::volume::VolumeError;

pub(super) const LV_FIELDS: &str = "vg_name,lv_name,lv_uuid,lv_tags,lv_path,lv_dm_path,\
    lv_kernel_major,lv_kernel_minor,lv_size,origin,pool_lv,\
    data_percent,metadata_percent,snap_percent,lv_snapshot_invalid,lv_merging,\
    lv_when_full,lv_health_status,lv_check_needed,lv_device_open,lv_suspended,chunk_size";

pub(super) const VG_FIELDS: &str = "vg_name,vg_free,vg_extent_size,vg_partial";

/// The tag that makes a volume ours: `understudy.id=ID`.
pub(super) const ID_TAG: &str = "id";
/// The tag that makes a volume a clone of ours: `understudy.use=USE`.
pub(super) const USE_TAG: &str = "use";
/// On what a put made, for good: the use that it was put for.
pub(super) const PUT_TAG: &str = "put";
/// On what a put has set aside: the use that it was for.
pub(super) const BEFORE_TAG: &str = "before";
/// How a volume was mounted, while a put is at work on it.
pub(super) const MOUNT_TAG: &str = "mount";
const TAG_PREFIX: &str = "understudy.";

/// A logical volume as `lvs` shows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lv {
    pub vg: String,
    pub name: String,
    pub uuid: String,
    pub tags: Vec<String>,
    pub path: String,
    pub dm_path: String,
    /// `None` while inactive.
    pub device: Option<(u32, u32)>,
    /// Of a thick snapshot: its copy-on-write area.
    pub size_bytes: u64,
    /// Within the same volume group; empty when it is no snapshot.
    pub origin: String,
    /// Empty when it isn't thin.
    pub pool: String,
    pub data_percent: Option<f64>,
    pub metadata_percent: Option<f64>,
    pub snap_percent: Option<f64>,
    pub is_snapshot_invalid: Option<bool>,
    pub is_merging: Option<bool>,
    /// `queue`, `error` or empty.
    pub when_full: String,
    /// Empty when healthy.
    pub health: String,
    pub needs_check: Option<bool>,
    pub is_open: Option<bool>,
    pub is_suspended: Option<bool>,
    /// Of a thick snapshot: what it keeps at once.
    pub chunk_bytes: Option<u64>,
}

impl Lv {
    /// `vg0/mysql`
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.vg, self.name)
    }

    /// One of our tags, decoded.
    pub fn tag(&self, key: &str) -> Option<String> {
        self.our_tags()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// All tags that aren't ours, as LVM writes them.
    pub fn foreign_tags(&self) -> impl Iterator<Item = &str> {
        self.tags
            .iter()
            .map(String::as_str)
            .filter(|tag| !tag.starts_with(TAG_PREFIX))
    }

    pub fn our_tags(&self) -> impl Iterator<Item = (String, String)> {
        self.tags.iter().filter_map(|tag| {
            let (key, value) = tag.strip_prefix(TAG_PREFIX)?.split_once('=')?;
            Some((key.to_owned(), decode(value)))
        })
    }

    pub fn is_thin(&self) -> bool {
        !self.pool.is_empty()
    }

    pub fn is_thick_snapshot(&self) -> bool {
        !self.origin.is_empty() && !self.is_thin()
    }
}

/// A volume group as `vgs` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vg {
    pub name: String,
    pub free_bytes: u64,
    pub extent_bytes: u64,
    /// Physical volumes are missing.
    pub is_partial: bool,
}

#[derive(Deserialize)]
struct Document<T> {
    report: Vec<T>,
}

#[derive(Deserialize)]
struct LvRows {
    lv: Vec<LvRow>,
}

#[derive(Deserialize)]
struct VgRows {
    vg: Vec<VgRow>,
}

#[derive(Deserialize)]
struct LvRow {
    vg_name: String,
    lv_name: String,
    lv_uuid: String,
    lv_tags: String,
    lv_path: String,
    lv_dm_path: String,
    lv_kernel_major: String,
    lv_kernel_minor: String,
    lv_size: String,
    origin: String,
    pool_lv: String,
    data_percent: String,
    metadata_percent: String,
    snap_percent: String,
    lv_snapshot_invalid: String,
    lv_merging: String,
    lv_when_full: String,
    lv_health_status: String,
    lv_check_needed: String,
    lv_device_open: String,
    lv_suspended: String,
    #[serde(default)]
    chunk_size: String,
}

#[derive(Deserialize)]
struct VgRow {
    vg_name: String,
    vg_free: String,
    vg_extent_size: String,
    vg_partial: String,
}

pub(super) fn parse_lvs(text: &str) -> Result<Vec<Lv>, VolumeError> {
    let document: Document<LvRows> = parse_json("lvs", text)?;
    let rows = document.report.into_iter().flat_map(|rows| rows.lv);
    rows.map(parse_lv).collect()
}

pub(super) fn parse_vgs(text: &str) -> Result<Vec<Vg>, VolumeError> {
    let document: Document<VgRows> = parse_json("vgs", text)?;
    let rows = document.report.into_iter().flat_map(|rows| rows.vg);
    rows.map(|row| {
        Ok(Vg {
            free_bytes: parse_number("vgs", &row.vg_free)?,
            extent_bytes: parse_number("vgs", &row.vg_extent_size)?,
            is_partial: row.vg_partial == "1",
            name: row.vg_name,
        })
    })
    .collect()
}

fn parse_json<'a, T: Deserialize<'a>>(
    program: &'static str,
    text: &'a str,
) -> Result<Document<T>, VolumeError> {
    serde_json::from_str(text).map_err(|error| VolumeError::Parse {
        program,
        detail: error.to_string(),
    })
}

fn parse_lv(row: LvRow) -> Result<Lv, VolumeError> {
    let device = row
        .lv_kernel_major
        .parse()
        .ok()
        .zip(row.lv_kernel_minor.parse().ok());
    let list = |text: &str| {
        text.split(',')
            .filter(|s| !s.is_empty())
            .map(str::to_owned)
            .collect()
    };
    Ok(Lv {
        device,
        size_bytes: parse_number("lvs", &row.lv_size)?,
        tags: list(&row.lv_tags),
        data_percent: row.data_percent.parse().ok(),
        metadata_percent: row.metadata_percent.parse().ok(),
        snap_percent: row.snap_percent.parse().ok(),
        is_snapshot_invalid: parse_flag(&row.lv_snapshot_invalid),
        is_merging: parse_flag(&row.lv_merging),
        needs_check: parse_flag(&row.lv_check_needed),
        is_open: parse_flag(&row.lv_device_open),
        is_suspended: parse_flag(&row.lv_suspended),
        chunk_bytes: row.chunk_size.parse().ok(),
        vg: row.vg_name,
        name: row.lv_name,
        uuid: row.lv_uuid,
        path: row.lv_path,
        dm_path: row.lv_dm_path,
        origin: row.origin,
        pool: row.pool_lv,
        when_full: row.lv_when_full,
        health: row.lv_health_status,
    })
}

fn parse_number(program: &'static str, text: &str) -> Result<u64, VolumeError> {
    text.parse().map_err(|_| VolumeError::Parse {
        program,
        detail: format!("{text:?} isn't a number of bytes"),
    })
}

fn parse_flag(text: &str) -> Option<bool> {
    match text {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    }
}

/// One tag of ours as LVM takes it; `None` when it would be too long (1024 characters), or the key
/// isn't plain. What LVM doesn't allow in a tag (lvm(8): only `A-Za-z0-9_+.-/=!:&#`) is written
/// as `&` and two hexadecimal digits.
pub(super) fn render_tag(key: &str, value: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let tag = format!("{TAG_PREFIX}{key}={}", encode(value));
    (tag.len() <= 1024 && !key.is_empty() && key.chars().all(is_plain)).then_some(tag)
}

fn encode(value: &str) -> String {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+.-/=!:#".contains(&byte);
    value
        .bytes()
        .map(|byte| match byte {
            byte if is_allowed(byte) => char::from(byte).to_string(),
            byte => format!("&{byte:02x}"),
        })
        .collect()
}

fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail
            .get(..2)
            .filter(|_| *first == b'&')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub const HEALTHY: &str =
        include_str!("../../../tests/fixtures/lvm/lvs-healthy.lvm-2.03.16.json");
    pub const OVERFLOWED: &str =
        include_str!("../../../tests/fixtures/lvm/lvs-overflowed.lvm-2.03.16.json");
    pub const INACTIVE: &str =
        include_str!("../../../tests/fixtures/lvm/lvs-inactive.lvm-2.03.16.json");
    pub const POOL_FULL: &str =
        include_str!("../../../tests/fixtures/lvm/lvs-poolfull.lvm-2.03.16.json");
    const GROUPS: &str = include_str!("../../../tests/fixtures/lvm/vgs-healthy.lvm-2.03.16.json");

    pub fn lv<'a>(lvs: &'a [Lv], full_name: &str) -> &'a Lv {
        lvs.iter().find(|lv| lv.full_name() == full_name).unwrap()
    }

    #[test]
    fn thick_snapshot_is_read_whole() {
        let lvs = parse_lvs(HEALTHY).unwrap();
        let snapshot = lv(&lvs, "vg0/understudy-a-1");
        assert!(snapshot.is_thick_snapshot() && !snapshot.is_thin());
        assert_eq!(snapshot.origin, "mysql");
        assert_eq!(snapshot.size_bytes, 20 * 1024 * 1024);
        assert_eq!(snapshot.tag("id").as_deref(), Some("a-1"));
        assert_eq!(snapshot.snap_percent, Some(0.06));
        assert_eq!(snapshot.is_snapshot_invalid, Some(false));
        assert_eq!(snapshot.device, Some((253, 8)));
        assert_eq!(lv(&lvs, "vg0/mysql").is_open, Some(true));
    }

    #[test]
    fn what_an_inactive_volume_can_not_tell_is_unknown() {
        let lvs = parse_lvs(HEALTHY).unwrap();
        let snapshot = lv(&lvs, "vg-thin/understudy-a-3");
        assert!(snapshot.is_thin());
        assert_eq!(snapshot.device, None);
        assert_eq!(snapshot.is_open, None);
        assert_eq!(snapshot.is_snapshot_invalid, None);
        assert_eq!(snapshot.data_percent, None);
    }

    #[test]
    fn groups_are_read() {
        let groups = parse_vgs(GROUPS).unwrap();
        assert_eq!(groups[1].name, "vg0");
        assert_eq!(groups[1].free_bytes, 7_356_809_216);
        assert_eq!(groups[1].extent_bytes, 4 * 1024 * 1024);
        assert!(!groups[1].is_partial);
    }

    #[test]
    fn what_is_no_report_is_an_error() {
        assert!(parse_lvs("").is_err());
        assert!(parse_lvs("{\"report\":[{\"vg\":[]}]}").is_err());
        assert!(parse_lvs("{\"report\":[{\"lv\":[]}]}").unwrap().is_empty());
    }

    #[test]
    fn any_value_survives_a_tag() {
        for value in ["0-1-100", "a,b c", "&20&", "50% ünïcode\n", "&"] {
            let tag = render_tag("gtid", value).unwrap();
            let allowed = |c: char| c.is_ascii_alphanumeric() || "_+.-/=!:&#".contains(c);
            assert!(tag.chars().all(allowed), "{tag}");
            let encoded = tag.strip_prefix("understudy.gtid=").unwrap();
            assert_eq!(decode(encoded), value);
        }
    }

    #[test]
    fn long_or_odd_tags_are_left_out() {
        assert_eq!(render_tag("gtid", &"x".repeat(1100)), None);
        assert_eq!(render_tag("a=b", "x"), None);
        assert_eq!(render_tag("", "x"), None);
    }
}
