//! Putting a kept volume in place of its origin.
//!
//! Thin: a writable snapshot of the kept one takes the origin's name; the old volume goes at the
//! end, and every other snapshot stays, since thin ones don't need their origin.
//!
//! Thick: what differs between the kept volume and the origin is written to the origin, block by
//! block, while nothing is mounted. `lvconvert --merge` would do the same and consume the kept one.
//! What differs was written since the kept one was taken, so its area holds it already and doesn't
//! grow; those of the other snapshots grow by at most what is in that area, for which there must be
//! room. Both devices are read whole: minutes for 100 GB, and nothing that has to be undone.
//!
//! Where it has come to is told by tags: `understudy.put=USE` on what is put, and
//! `understudy.before=USE` with the name it had on what is set aside.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::commands::{self, ORIGIN_TAG};
use super::report::{BEFORE_TAG, Lv, MOUNT_TAG, PUT_TAG, USE_TAG, render_tag};
use super::{CHANGE_LIMIT, Lvm, blocks, clone, overlay, plan};
use crate::sys::{failpoint, ioctl};
use crate::volume::layout::Mount;
use crate::volume::remount::{
    check_free_of, check_only_at, mount_again, mounted_at, not_mounted, render_options, take_down,
};
use crate::volume::{
    ASIDE_PREFIX, BackendKind, Mountable, PlannedVolume, PutRequest, VolumeError, aside_name,
    clone_name,
};

impl Lvm {
    pub(super) fn plan_put_of(
        &self,
        request: &PutRequest,
    ) -> Result<Vec<PlannedVolume>, VolumeError> {
        let (lvs, kept) = self.find_recorded(&request.id, &request.volume)?;
        let put = Put::of(self, request)?;
        match put.origin(&lvs) {
            Some(origin) => put.check_origin(origin)?,
            // Where a put was interrupted, another may begin.
            None => drop(put.all_aside(&lvs).next().ok_or_else(|| put.no_origin())?),
        }
        if self.kind == BackendKind::LvmThick {
            let origin = put.origin(&lvs).ok_or_else(|| put.no_origin())?;
            plan::check_put_blocks(&lvs, &kept, origin)?;
            put.sectors_of_both(&kept, origin)?;
            return Ok(Vec::new());
        }
        plan::check_thin_pool(&lvs, &kept)?;
        plan::check_name(&lvs, put.group, &put.clone)?;
        plan::check_name(&lvs, put.group, &put.aside)?;
        let planned = |origin: String, name: &str| PlannedVolume {
            origin,
            name: put.full(name),
        };
        Ok(vec![
            planned(kept.full_name(), &put.clone),
            planned(put.full_origin(), &put.aside),
        ])
    }

    pub(super) fn put_of(
        &self,
        request: &PutRequest,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), VolumeError> {
        let put = Put::of(self, request)?;
        if self.kind == BackendKind::LvmThick {
            return put.put_blocks(progress);
        }
        if !put.is_made(put.origin_name)? {
            put.make_clone()?;
            failpoint::hit("put-cloned");
            put.set_aside()?;
            put.rename(&put.clone, put.origin_name)?;
            failpoint::hit("put-renamed");
        }
        put.mount()?;
        failpoint::hit("put-mounted");
        put.drop_aside()?;
        failpoint::hit("put-dropped");
        put.finish()
    }
}

/// The volumes of one put.
struct Put<'a> {
    lvm: &'a Lvm,
    request: &'a PutRequest,
    group: &'a str,
    /// Names within the group.
    origin_name: &'a str,
    clone: String,
    aside: String,
}

impl<'a> Put<'a> {
    fn of(lvm: &'a Lvm, request: &'a PutRequest) -> Result<Self, VolumeError> {
        let origin = &request.volume.origin;
        let (group, origin_name) = origin
            .split_once('/')
            .ok_or_else(|| VolumeError::NotFound {
                name: origin.clone(),
            })?;
        Ok(Self {
            lvm,
            request,
            group,
            origin_name,
            clone: clone_name(&request.use_id, request.number)?,
            aside: aside_name(&request.use_id, request.number)?,
        })
    }

    fn path(&self) -> &Path {
        &self.request.volume.path
    }

    fn full(&self, name: &str) -> String {
        format!("{}/{name}", self.group)
    }

    fn full_origin(&self) -> String {
        self.full(self.origin_name)
    }

    fn find<'l>(&self, lvs: &'l [Lv], name: &str) -> Option<&'l Lv> {
        lvs.iter().find(|lv| lv.vg == self.group && lv.name == name)
    }

    fn origin<'l>(&self, lvs: &'l [Lv]) -> Option<&'l Lv> {
        self.find(lvs, self.origin_name)
    }

    fn no_origin(&self) -> VolumeError {
        VolumeError::NotFound {
            name: self.full_origin(),
        }
    }

    fn tag(&self, key: &str, value: &str) -> Vec<String> {
        render_tag(key, value).into_iter().collect()
    }

    fn change_tags(
        &self,
        name: &str,
        added: &[String],
        removed: &[String],
    ) -> Result<(), VolumeError> {
        if let Some(argv) = commands::change_tags_argv(&self.full(name), added, removed) {
            self.lvm.run(argv, CHANGE_LIMIT)?;
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), VolumeError> {
        let argv = commands::rename_argv(&self.full(from), &self.full(to));
        self.lvm.run(argv, CHANGE_LIMIT)?;
        Ok(())
    }

    /// Whether the volume of that name is what this put made.
    fn is_made(&self, name: &str) -> Result<bool, VolumeError> {
        let lvs = self.lvm.lvs()?;
        let made_for = self.find(&lvs, name).and_then(|lv| lv.tag(PUT_TAG));
        Ok(made_for.as_ref() == Some(&self.request.use_id))
    }

    fn check_origin(&self, origin: &Lv) -> Result<(), VolumeError> {
        plan::check_origin(self.lvm.kind, origin)?;
        let (name, is_it) = (self.full_origin(), is_device_of(origin));
        if mounted_at(self.path())?.is_some_and(|mount| is_it(&mount)) {
            return check_only_at(&name, self.path(), &is_it);
        }
        match origin.tag(MOUNT_TAG) {
            Some(_) => check_free_of(&name, self.path(), &is_it),
            None => Err(not_mounted(&name, self.path())),
        }
    }

    /// With the tags of the origin, or of what an interrupted put has set aside.
    fn make_clone(&self) -> Result<(), VolumeError> {
        if self.is_made(&self.clone)? {
            return Ok(());
        }
        let (lvs, kept) = self
            .lvm
            .find_recorded(&self.request.id, &self.request.volume)?;
        let model = self.origin(&lvs).or_else(|| self.all_aside(&lvs).next());
        let model = model.ok_or_else(|| self.no_origin())?;
        let use_id = &self.request.use_id;
        let mut tags = self.tag(USE_TAG, use_id);
        tags.extend(self.tag(PUT_TAG, use_id));
        tags.extend(self.mount_tag(model)?);
        tags.extend(model.foreign_tags().map(str::to_owned));
        let argv = commands::clone_for_put_argv(&tags, &kept, &self.full(&self.clone));
        self.lvm.run(argv, self.request.limit)?;
        Ok(())
    }

    /// How it is mounted, or was when an interrupted put wrote it down.
    fn mount_options(&self, lv: &Lv) -> Result<Option<String>, VolumeError> {
        let mount = mounted_at(self.path())?.filter(|mount| is_device_of(lv)(mount));
        Ok(mount
            .map(|mount| render_options(&mount))
            .or_else(|| lv.tag(MOUNT_TAG)))
    }

    fn mount_tag(&self, lv: &Lv) -> Result<Vec<String>, VolumeError> {
        let options = self.mount_options(lv)?;
        Ok(options.map_or(Vec::new(), |options| self.tag(MOUNT_TAG, &options)))
    }

    /// Unmounts the origin and gives it another name, if it is there still.
    fn set_aside(&self) -> Result<(), VolumeError> {
        let lvs = self.lvm.lvs()?;
        let Some(origin) = self.origin(&lvs) else {
            return Ok(());
        };
        let options = self.mount_tag(origin)?;
        self.change_tags(self.origin_name, &options, &[])?;
        self.take_down(origin)?;
        let deactivate = commands::activate_argv(&self.full_origin(), false);
        self.lvm.run(deactivate, CHANGE_LIMIT)?;
        failpoint::hit("put-unmounted");
        let mut marks = self.tag(BEFORE_TAG, &self.request.use_id);
        marks.extend(self.tag(ORIGIN_TAG, self.origin_name));
        self.change_tags(self.origin_name, &marks, &[])?;
        failpoint::hit("put-marked");
        self.rename(self.origin_name, &self.aside)?;
        failpoint::hit("put-set-aside");
        Ok(())
    }

    fn take_down(&self, lv: &Lv) -> Result<(), VolumeError> {
        take_down(&lv.full_name(), self.path(), &is_device_of(lv))
    }

    /// Mounts the origin as it was mounted, unless it is.
    fn mount(&self) -> Result<(), VolumeError> {
        let activate = commands::activate_argv(&self.full_origin(), true);
        self.lvm.run(activate, CHANGE_LIMIT)?;
        let lvs = self.lvm.lvs()?;
        let origin = self.origin(&lvs).ok_or_else(|| self.no_origin())?;
        let is_it = is_device_of(origin);
        if !mounted_at(self.path())?.is_some_and(|mount| is_it(&mount)) {
            let device = Mountable::Device {
                path: PathBuf::from(&origin.dm_path),
                fs_type: clone::fs_type(&origin.dm_path)?,
            };
            let options = self.mount_options(origin)?.unwrap_or_default();
            mount_again(&device, self.path(), &options)?;
        }
        check_only_at(&self.full_origin(), self.path(), &is_it)
    }

    /// What puts of this origin have set aside.
    fn all_aside<'l>(&self, lvs: &'l [Lv]) -> impl Iterator<Item = &'l Lv> {
        lvs.iter().filter(|lv| {
            lv.vg == self.group
                && lv.name.starts_with(ASIDE_PREFIX)
                && lv.tag(BEFORE_TAG).is_some()
                && lv.tag(ORIGIN_TAG).as_deref() == Some(self.origin_name)
        })
    }

    fn drop_aside(&self) -> Result<(), VolumeError> {
        for lv in self.all_aside(&self.lvm.lvs()?) {
            self.lvm.remove(lv)?;
        }
        Ok(())
    }

    /// Of our tags only the use that it was put for stays.
    fn finish(&self) -> Result<(), VolumeError> {
        let lvs = self.lvm.lvs()?;
        let origin = self.origin(&lvs).ok_or_else(|| self.no_origin())?;
        let done: Vec<String> = [USE_TAG, MOUNT_TAG]
            .iter()
            .filter_map(|key| render_tag(key, &origin.tag(key)?))
            .collect();
        self.change_tags(self.origin_name, &[], &done)
    }

    fn put_blocks(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError> {
        let request = self.request;
        let (lvs, kept) = self.lvm.find_recorded(&request.id, &request.volume)?;
        let origin = self.origin(&lvs).ok_or_else(|| self.no_origin())?;
        let sectors = self.sectors_of_both(&kept, origin)?;
        if origin.tag(MOUNT_TAG).is_none() {
            // Once more, with the snapshot that was taken since it was planned. Begun already, it
            // needs less than is asked for here.
            plan::check_put_blocks(&lvs, &kept, origin)?;
        }
        let marks = self.mount_tag(origin)?;
        self.change_tags(self.origin_name, &marks, &[])?;
        self.take_down(origin)?;
        failpoint::hit("put-unmounted");
        self.copy_blocks(&kept, origin, sectors * overlay::SECTOR_BYTES, progress)?;
        failpoint::hit("put-copied");
        // Had its area overflowed meanwhile, what was read is nothing.
        self.lvm.find_recorded(&request.id, &request.volume)?;
        self.mount()?;
        failpoint::hit("put-mounted");
        self.finish()
    }

    fn copy_blocks(
        &self,
        kept: &Lv,
        origin: &Lv,
        bytes: u64,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), VolumeError> {
        let (from_path, to_path) = (Path::new(&kept.dm_path), Path::new(&origin.dm_path));
        let failed = |error| VolumeError::call("open", from_path, error);
        let to = ioctl::open_device(to_path).map_err(|error| match error.kind() {
            std::io::ErrorKind::ResourceBusy => VolumeError::Busy {
                name: origin.full_name(),
                reason: "something has its device open".to_owned(),
            },
            _ => VolumeError::call("open", to_path, error),
        })?;
        let from = File::open(from_path).map_err(failed)?;
        ioctl::forget_cached(&from).map_err(failed)?;
        let mut done = 0;
        let mut step = |more| {
            done += more;
            failpoint::hit("put-copying");
            progress(done, bytes);
        };
        blocks::make_equal(&from, &to, bytes, &mut step)
            .map(drop)
            .map_err(|error| VolumeError::call("copy to", to_path, error))
    }

    /// Both show as much.
    fn sectors_of_both(&self, kept: &Lv, origin: &Lv) -> Result<u64, VolumeError> {
        let (of_kept, of_origin) = (clone::sectors(kept)?, clone::sectors(origin)?);
        if of_kept == of_origin {
            return Ok(of_kept);
        }
        Err(VolumeError::refused(
            format!(
                "{} has {of_origin} sectors, {} has {of_kept}",
                origin.full_name(),
                kept.full_name()
            ),
            "Restore to another directory, and copy from there.",
        ))
    }
}

fn is_device_of(lv: &Lv) -> impl Fn(&Mount) -> bool + use<> {
    let device = lv.device;
    move |mount: &Mount| Some(mount.device) == device
}
