//! The system calls that have no safe wrapper: btrfs, FICLONE, freezing, block devices, inode flags,
//! xattrs, copies of mounts.
//!
//! The only module with `unsafe` in it. Each block hands the kernel a live descriptor and a buffer
//! of the size that the call's number promises; nothing here keeps a pointer after the call.

use std::ffi::{CStr, CString, OsStr, OsString, c_int};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

/// The inode number of every btrfs subvolume's root.
pub const SUBVOLUME_ROOT_INODE: u64 = 256;
/// `FS_NOCOW_FL` (linux/fs.h): what `chattr +C` sets.
const NOCOW: c_int = 0x0080_0000;
const SUBVOL_RDONLY: u64 = 1 << 1;
const PATH_NAME_MAX: usize = 4087;
const SUBVOL_NAME_MAX: usize = 4039;
const VOL_NAME_MAX: usize = 255;

/// `struct btrfs_ioctl_vol_args` (linux/btrfs.h), 4096 bytes.
#[repr(C)]
pub struct VolArgs {
    fd: i64,
    name: [u8; PATH_NAME_MAX + 1],
}

/// `struct btrfs_ioctl_vol_args_v2`, 4096 bytes.
#[repr(C)]
pub struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; SUBVOL_NAME_MAX + 1],
}

/// `struct btrfs_ioctl_get_subvol_info_args`, 504 bytes.
#[repr(C)]
pub struct SubvolInfoArgs {
    treeid: u64,
    name: [u8; VOL_NAME_MAX + 1],
    parent_id: u64,
    dirid: u64,
    generation: u64,
    flags: u64,
    uuid: [u8; 16],
    parent_uuid: [u8; 16],
    received_uuid: [u8; 16],
    transids: [u64; 4],
    times: [[u64; 2]; 4],
    reserved: [u64; 8],
}

/// `struct btrfs_ioctl_get_subvol_rootref_args`, 4096 bytes.
#[repr(C)]
pub struct SubvolRootrefArgs {
    min_treeid: u64,
    /// Tree and directory of each subvolume below.
    rootrefs: [[u64; 2]; 255],
    num_items: u8,
    align: [u8; 7],
}

const _: () = {
    assert!(size_of::<VolArgs>() == 4096);
    assert!(size_of::<SubvolRootrefArgs>() == 4096);
    assert!(size_of::<VolArgsV2>() == 4096);
    assert!(size_of::<SubvolInfoArgs>() == 504);
};

mod raw {
    use std::ffi::c_int;

    nix::ioctl_write_ptr!(snap_destroy, 0x94, 15, super::VolArgs);
    nix::ioctl_write_ptr!(snap_create_v2, 0x94, 23, super::VolArgsV2);
    nix::ioctl_read!(subvol_getflags, 0x94, 25, u64);
    nix::ioctl_write_ptr!(subvol_setflags, 0x94, 26, u64);
    nix::ioctl_read!(get_subvol_info, 0x94, 60, super::SubvolInfoArgs);
    nix::ioctl_readwrite!(get_subvol_rootref, 0x94, 61, super::SubvolRootrefArgs);
    nix::ioctl_none!(blkflsbuf, 0x12, 97);
    nix::ioctl_write_int!(ficlone, 0x94, 9);
    nix::ioctl_readwrite!(fifreeze, b'X', 119, c_int);
    nix::ioctl_readwrite!(fithaw, b'X', 120, c_int);
    // Their numbers say long, but the kernel moves an int.
    nix::ioctl_read_bad!(fs_getflags, libc::FS_IOC_GETFLAGS, c_int);
    nix::ioctl_write_ptr_bad!(fs_setflags, libc::FS_IOC_SETFLAGS, c_int);
}

/// What btrfs knows of a subvolume. UUIDs as 8-4-4-4-12 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubvolumeInfo {
    pub id: u64,
    pub uuid: String,
    /// Of the subvolume that this is a snapshot of; `None` when it is none.
    pub parent_uuid: Option<String>,
    pub read_only: bool,
}

/// Makes a read-only snapshot of the subvolume `source` named `name` in the directory `place`.
pub fn btrfs_snapshot(place: &File, name: &str, source: &File) -> io::Result<()> {
    snapshot_with(SUBVOL_RDONLY, place, name, source)
}

/// As `btrfs_snapshot`, but the snapshot can be written to.
pub fn btrfs_snapshot_writable(place: &File, name: &str, source: &File) -> io::Result<()> {
    snapshot_with(0, place, name, source)
}

fn snapshot_with(flags: u64, place: &File, name: &str, source: &File) -> io::Result<()> {
    let mut args = VolArgsV2 {
        fd: i64::from(source.as_raw_fd()),
        transid: 0,
        flags,
        unused: [0; 4],
        name: [0; SUBVOL_NAME_MAX + 1],
    };
    fill(&mut args.name, name)?;
    // SAFETY: both descriptors are borrowed for the call, `args` has the size the call reads.
    unsafe { raw::snap_create_v2(place.as_raw_fd(), &args) }?;
    Ok(())
}

/// Deletes the subvolume `name` in the directory `place`; read-only ones too.
pub fn btrfs_delete_subvolume(place: &File, name: &str) -> io::Result<()> {
    let mut args = VolArgs {
        fd: 0,
        name: [0; PATH_NAME_MAX + 1],
    };
    fill(&mut args.name, name)?;
    // SAFETY: as above.
    unsafe { raw::snap_destroy(place.as_raw_fd(), &args) }?;
    Ok(())
}

/// What btrfs knows of the subvolume that holds `inside`. ENOTTY: not btrfs, or before Linux 4.18.
pub fn btrfs_subvolume_info(inside: &File) -> io::Result<SubvolumeInfo> {
    let mut args = SubvolInfoArgs {
        treeid: 0,
        name: [0; VOL_NAME_MAX + 1],
        parent_id: 0,
        dirid: 0,
        generation: 0,
        flags: 0,
        uuid: [0; 16],
        parent_uuid: [0; 16],
        received_uuid: [0; 16],
        transids: [0; 4],
        times: [[0; 2]; 4],
        reserved: [0; 8],
    };
    // SAFETY: `args` has the size the call writes and lives through it.
    unsafe { raw::get_subvol_info(inside.as_raw_fd(), &mut args) }?;
    let mut flags = 0;
    // SAFETY: a u64 is what the call writes.
    unsafe { raw::subvol_getflags(inside.as_raw_fd(), &mut flags) }?;
    Ok(SubvolumeInfo {
        id: args.treeid,
        uuid: render_uuid(&args.uuid),
        parent_uuid: (args.parent_uuid != [0; 16]).then(|| render_uuid(&args.parent_uuid)),
        read_only: flags & SUBVOL_RDONLY != 0,
    })
}

/// How many subvolumes lie right below the one that holds `inside`; 255 may be more.
pub fn btrfs_subvolumes_below(inside: &File) -> io::Result<usize> {
    let mut args = SubvolRootrefArgs {
        min_treeid: 0,
        rootrefs: [[0; 2]; 255],
        num_items: 0,
        align: [0; 7],
    };
    // SAFETY: `args` has the size the call writes and lives through it.
    match unsafe { raw::get_subvol_rootref(inside.as_raw_fd(), &mut args) } {
        // More than the call holds.
        Ok(_) | Err(Errno::EOVERFLOW) => Ok(usize::from(args.num_items)),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes a subvolume read-only or writable; `subvolume` must be its root.
pub fn btrfs_set_read_only(subvolume: &File, read_only: bool) -> io::Result<()> {
    let mut flags = 0;
    // SAFETY: a u64 is what the call writes.
    unsafe { raw::subvol_getflags(subvolume.as_raw_fd(), &mut flags) }?;
    let wanted = if read_only {
        flags | SUBVOL_RDONLY
    } else {
        flags & !SUBVOL_RDONLY
    };
    // SAFETY: a u64 is what the call reads.
    unsafe { raw::subvol_setflags(subvolume.as_raw_fd(), &wanted) }?;
    Ok(())
}

/// Makes `to` share all of `from`'s blocks. EXDEV, EOPNOTSUPP, EINVAL: this pair can't.
pub fn clone_file(from: &File, to: &File) -> io::Result<()> {
    // SAFETY: the call takes two descriptors by value.
    unsafe { raw::ficlone(to.as_raw_fd(), from.as_raw_fd() as libc::c_ulong) }?;
    Ok(())
}

/// Opens a block device for reading and writing, for us alone: EBUSY when it is mounted or another
/// device stands on it. What was read of it before is forgotten, since a filesystem that was mounted
/// on it has written past that.
pub fn open_device(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let device = File::from(open(path, flags, Mode::empty())?);
    forget_cached(&device)?;
    Ok(device)
}

/// Has a block device be read from the disk from now on.
pub fn forget_cached(device: &File) -> io::Result<()> {
    // SAFETY: the call takes nothing but the descriptor.
    unsafe { raw::blkflsbuf(device.as_raw_fd()) }?;
    Ok(())
}

/// Freezes the filesystem that holds `inside`. EBUSY: it is frozen already, by somebody else.
pub fn freeze(inside: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut unused = 0;
    // SAFETY: the kernel ignores the argument; it is valid nevertheless.
    unsafe { raw::fifreeze(inside.as_raw_fd(), &mut unused) }.map(drop)
}

/// Thaws it. EINVAL: it wasn't frozen.
pub fn thaw(inside: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut unused = 0;
    // SAFETY: as in `freeze`.
    unsafe { raw::fithaw(inside.as_raw_fd(), &mut unused) }.map(drop)
}

/// Whether `chattr +C` holds for the file; `false` where the filesystem has no such flags.
pub fn is_nocow(file: &File) -> bool {
    let mut flags: c_int = 0;
    // SAFETY: the kernel writes an int.
    unsafe { raw::fs_getflags(file.as_raw_fd(), &mut flags) }.is_ok() && flags & NOCOW != 0
}

/// `chattr +C` on a file that is still empty.
pub fn set_nocow(file: &File) -> io::Result<()> {
    let mut flags: c_int = 0;
    // SAFETY: the kernel writes, then reads, an int.
    unsafe {
        raw::fs_getflags(file.as_raw_fd(), &mut flags)?;
        raw::fs_setflags(file.as_raw_fd(), &(flags | NOCOW))?;
    }
    Ok(())
}

/// All extended attributes; none where the filesystem has none.
pub fn xattrs(file: &File) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let list = sized(|buffer, size| {
        // SAFETY: `size` is the length of `buffer`, or 0 to ask for the size.
        unsafe { libc::flistxattr(file.as_raw_fd(), buffer.cast(), size) }
    });
    let list = match list {
        Ok(list) => list,
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    list.split_inclusive(|&byte| byte == 0)
        .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
        .map(|name| {
            let value = sized(|buffer, size| {
                // SAFETY: `name` ends with a nul; `size` as above.
                unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), buffer.cast(), size) }
            })?;
            Ok((OsString::from_vec(name.to_bytes().to_vec()), value))
        })
        .collect()
}

/// Sets one extended attribute.
pub fn set_xattr(file: impl AsFd, name: &OsStr, value: &[u8]) -> io::Result<()> {
    let name = CString::new(name.as_bytes())?;
    // SAFETY: name and value live through the call and have the lengths given.
    let result = unsafe {
        libc::fsetxattr(
            file.as_fd().as_raw_fd(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    Errno::result(result).map(drop).map_err(Into::into)
}

/// A copy of the mount at this place, without what is mounted below, attached nowhere yet; the mount
/// must be of the calling thread's mount namespace. Since Linux 5.2.
pub fn copy_mount(place: &File) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
    // SAFETY: the descriptor lives through the call, the path is a constant.
    let result =
        unsafe { libc::syscall(libc::SYS_open_tree, place.as_raw_fd(), c"".as_ptr(), flags) };
    let fd = c_int::try_from(Errno::result(result)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given it to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches such a copy to a directory, in the calling thread's mount namespace.
pub fn attach_mount(copy: &OwnedFd, at: &Path) -> io::Result<()> {
    let path = CString::new(at.as_os_str().as_bytes())?;
    // SAFETY: descriptor and path live through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            copy.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(result).map(drop).map_err(Into::into)
}

/// Asks for the size, then for the bytes; again when they grew in between.
fn sized(mut call: impl FnMut(*mut u8, usize) -> libc::ssize_t) -> io::Result<Vec<u8>> {
    loop {
        let size = Errno::result(call(std::ptr::null_mut(), 0))?;
        if size == 0 {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; size as usize];
        match Errno::result(call(bytes.as_mut_ptr(), bytes.len())) {
            Ok(size) => {
                bytes.truncate(size as usize);
                return Ok(bytes);
            }
            Err(Errno::ERANGE) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn fill(field: &mut [u8], name: &str) -> io::Result<()> {
    if name.is_empty() || name.len() > VOL_NAME_MAX || name.contains(['/', '\0']) {
        return Err(Errno::EINVAL.into());
    }
    field[..name.len()].copy_from_slice(name.as_bytes());
    Ok(())
}

fn render_uuid(bytes: &[u8; 16]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..4], &hex[4..6], &hex[6..8], &hex[8..10], &hex[10..]]
        .map(|part| part.concat())
        .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xattrs_come_back_as_set() {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        if set_xattr(&file, OsStr::new("user.understudy"), b"a\0b").is_err() {
            eprintln!("SKIPPED: no user xattrs here");
            return;
        }
        let found = xattrs(&file).unwrap();
        assert!(found.contains(&(OsString::from("user.understudy"), b"a\0b".to_vec())));
    }

    #[test]
    fn names_that_are_paths_never_reach_the_kernel() {
        let dir = File::open("/").unwrap();
        for name in ["", "a/b", "..\0", &"x".repeat(256)] {
            assert!(btrfs_delete_subvolume(&dir, name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn uuid_is_written_as_btrfs_does() {
        assert_eq!(
            render_uuid(&[
                0xf5, 0x7e, 0x95, 0xf2, 0xce, 0xf2, 0x40, 0xef, 0x8e, 0x42, 0x55, 0x11, 0xb8, 0x50,
                0xd3, 0x82
            ]),
            "f57e95f2-cef2-40ef-8e42-5511b850d382"
        );
    }
}
