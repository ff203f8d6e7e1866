//! The overlay on a kept thick snapshot: a device-mapper snapshot of it, of our own.
//!
//! LVM makes no snapshot of a snapshot, and what is written to the kept one changes it. So the kept
//! one is only read, as the origin of a `snapshot` target whose area takes the writes. The target's
//! exceptions are kept in memory (`N`): a restart of the machine ends the overlay. argv builders and
//! parsers, without effects.

use crate::volume::{VolumeError, VolumeState};

pub(super) const SECTOR_BYTES: u64 = 512;

/// 4 KiB: what filesystems write at least, so that no write needs a chunk to be copied first.
const CHUNK_SECTORS: u32 = 8;
const FIELDS: &str = "name,uuid,major,minor,open";

/// A device-mapper device as `dmsetup info -c` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DmDevice {
    pub name: String,
    /// Ours have their own name for it.
    pub uuid: String,
    pub device: (u32, u32),
    pub is_open: bool,
}

/// Kept volume and area are given by number, since names can be bound over.
pub(super) fn create_argv(
    name: &str,
    sectors: u64,
    kept: (u32, u32),
    area: (u32, u32),
) -> Vec<String> {
    let number = |(major, minor): (u32, u32)| format!("{major}:{minor}");
    let table = format!(
        "0 {sectors} snapshot {} {} N {CHUNK_SECTORS}",
        number(kept),
        number(area)
    );
    words(&["create", name, "--uuid", name, "--table", &table])
}

pub(super) fn info_argv() -> Vec<String> {
    words(&[
        "info",
        "-c",
        "--noheadings",
        "--separator",
        "|",
        "-o",
        FIELDS,
    ])
}

pub(super) fn status_argv(name: &str) -> Vec<String> {
    words(&["status", name])
}

/// `--retry`: udev may still be looking at it.
pub(super) fn remove_argv(name: &str) -> Vec<String> {
    words(&["remove", "--retry", name])
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Lines that aren't rows ("No devices found") are passed over.
pub(super) fn parse_info(text: &str) -> Vec<DmDevice> {
    text.lines()
        .filter_map(|line| match line.split('|').collect::<Vec<_>>()[..] {
            [name, uuid, major, minor, open] => Some(DmDevice {
                name: name.to_owned(),
                uuid: uuid.to_owned(),
                device: (major.parse().ok()?, minor.parse().ok()?),
                is_open: open != "0",
            }),
            _ => None,
        })
        .collect()
}

/// `0 524288 snapshot 16/131072 0`, or a word in place of the numbers of sectors.
pub(super) fn parse_status(text: &str) -> Result<VolumeState, VolumeError> {
    let unreadable = || VolumeError::Parse {
        program: "dmsetup",
        detail: format!("{text:?}"),
    };
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [_, _, "snapshot", fill, ..] = fields[..] else {
        return Err(unreadable());
    };
    if matches!(fill, "Invalid" | "Overflow") {
        let reason = "the area that takes what is written to it overflowed";
        return Ok(VolumeState::Invalid(reason.to_owned()));
    }
    let used: u64 = fill
        .split_once('/')
        .and_then(|(used, _)| used.parse().ok())
        .ok_or_else(unreadable)?;
    Ok(VolumeState::Good {
        bytes_used: Some(used * SECTOR_BYTES),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_volume_is_the_origin_and_its_name_the_mark() {
        let argv = create_argv("understudy-u-1", 524_288, (253, 8), (253, 10));
        assert_eq!(
            argv,
            [
                "create",
                "understudy-u-1",
                "--uuid",
                "understudy-u-1",
                "--table",
                "0 524288 snapshot 253:8 253:10 N 8",
            ]
        );
    }

    #[test]
    fn devices_are_read() {
        let text = "understudy-u-2|understudy-u-2|253|11|0\n\
                    vg-mysql|LVM-d68W|253|0|1\n\
                    plain||253|3|2\n\
                    No devices found\n";
        let devices = parse_info(text);
        assert_eq!(devices.len(), 3);
        assert_eq!(devices[0].device, (253, 11));
        assert_eq!((devices[0].is_open, devices[1].is_open), (false, true));
        assert_eq!(devices[2].uuid, "");
    }

    #[test]
    fn overflow_is_told_from_fill() {
        let good = parse_status("0 524288 snapshot 16/131072 0\n").unwrap();
        let bytes_used = Some(16 * 512);
        assert_eq!(good, VolumeState::Good { bytes_used });
        let spoilt = parse_status("0 524288 snapshot Invalid\n").unwrap();
        assert!(matches!(spoilt, VolumeState::Invalid(_)));
        assert!(parse_status("0 524288 linear 253:8 0\n").is_err());
        assert!(parse_status("0 524288 snapshot Unknown\n").is_err());
        assert!(parse_status("").is_err());
    }
}
