//! Putting a kept snapshot in place of its dataset: a clone of it takes the dataset's name, and all
//! snapshots stay.
//!
//! `zfs rollback` would destroy the newer ones. So the dataset is renamed to
//! `understudy-before-USE-N` with those that are newer than the kept one, the clone gets its name,
//! and is promoted, by which the kept one and all older come to it under the names they had. Put
//! back from a dataset that was set aside by an earlier put, they come back in the same way, and
//! what is left without snapshots is destroyed.
//!
//! Where it has come to is told by the datasets alone: the clone bears `understudy:put=USE`, what is
//! set aside `understudy:before=USE`. What can't be set before the end (`LATER`) waits in
//! properties of ours.

use std::path::Path;

use super::lines::{
    self, BEFORE_PROPERTY, LATER, MOUNT_PROPERTY, ORIGIN_PROPERTY, PUT_PROPERTY, Properties,
    RESERVING, USE_PROPERTY,
};
use super::{CHANGE_LIMIT, READ_LIMIT, Zfs, check_length, check_pool};
use crate::sys::failpoint;
use crate::volume::layout::Mount;
use crate::volume::mount::refuse_mounted_dataset;
use crate::volume::remount::{
    check_free_of, check_only_at, mount_again, mounted_at, not_mounted, render_options, take_down,
    take_down_snapshots,
};
use crate::volume::{
    ASIDE_PREFIX, Backend, Mountable, PlannedVolume, PutRequest, Renamed, VolumeError,
    VolumeRecord, aside_name, clone_name,
};

/// So often a dataset may be promoted: once, and once more for each put that set aside what it
/// comes from.
const PROMOTIONS_MAX: usize = 100;

impl Zfs {
    pub(super) fn plan_put_of(
        &self,
        request: &PutRequest,
    ) -> Result<Vec<PlannedVolume>, VolumeError> {
        let put = Put::of(self, request)?;
        check_pool(&self.pool(lines::pool_of(put.origin))?)?;
        put.check_origin()?;
        self.check_free_name(&put.clone)?;
        self.check_free_name(&put.aside)?;
        if self.properties(put.origin)?.is_some() {
            for name in self.children(put.origin)? {
                let snapshot = name.split('@').nth(1).unwrap_or_default();
                check_length(&format!("{}@{snapshot}", put.aside))?;
            }
        }
        let planned = |origin: &str, name: String| PlannedVolume {
            origin: origin.to_owned(),
            name,
        };
        Ok(vec![
            planned(&put.kept, put.clone.clone()),
            planned(put.origin, put.aside.clone()),
        ])
    }

    pub(super) fn put_of(&self, request: &PutRequest) -> Result<Vec<Renamed>, VolumeError> {
        let put = Put::of(self, request)?;
        if !put.is_made(put.origin)? {
            put.make_clone()?;
            failpoint::hit("put-cloned");
            put.set_aside()?;
            self.change(&["rename", &put.clone, put.origin])?;
            failpoint::hit("put-renamed");
        }
        put.promote()?;
        failpoint::hit("put-promoted");
        put.finish_properties()?;
        put.mount()?;
        failpoint::hit("put-mounted");
        for dataset in put.all_aside()? {
            self.destroy_if_emptied(&dataset)?;
        }
        let mut found = self.discover(&[])?;
        found.retain(|volume| volume.record.origin == put.origin);
        let renamed = found.into_iter().map(|volume| {
            let mut record = volume.record;
            if record.path.as_os_str().is_empty() {
                // One that a property can't hold.
                record.path = put.path().to_owned();
            }
            let id = volume.id;
            Renamed { id, record }
        });
        Ok(renamed.collect())
    }

    /// Whether a dataset is what a put has set aside.
    pub(super) fn is_aside(&self, dataset: &str) -> Result<bool, VolumeError> {
        if !lines::last_part(dataset).starts_with(ASIDE_PREFIX) {
            return Ok(false);
        }
        let properties = self.properties(dataset)?;
        Ok(properties.is_some_and(|of| of.local(BEFORE_PROPERTY).is_some()))
    }

    /// Destroys a dataset that was set aside once nothing is below it any more.
    pub(super) fn destroy_if_emptied(&self, dataset: &str) -> Result<(), VolumeError> {
        if self.is_aside(dataset)? && self.children(dataset)?.is_empty() {
            refuse_mounted_dataset(dataset)?;
            self.change(&["destroy", dataset])?;
        }
        Ok(())
    }

    /// Snapshots and datasets right below a dataset.
    fn children(&self, dataset: &str) -> Result<Vec<String>, VolumeError> {
        let args = ["list", "-Hp", "-d", "1", "-t", "all", "-o", "name", dataset];
        let output = self.zfs(&args, READ_LIMIT)?;
        let names = output.stdout.lines().filter(|name| *name != dataset);
        Ok(names.map(str::to_owned).collect())
    }

    fn change(&self, args: &[&str]) -> Result<(), VolumeError> {
        self.zfs(args, CHANGE_LIMIT)?;
        Ok(())
    }

    fn set(&self, properties: &[(String, String)], name: &str) -> Result<(), VolumeError> {
        self.zfs
            .run(lines::set_argv(properties, name), CHANGE_LIMIT)?;
        Ok(())
    }

    fn properties_or_default(&self, name: &str) -> Result<Properties, VolumeError> {
        Ok(self.properties(name)?.unwrap_or_default())
    }
}

/// The datasets of one put.
struct Put<'a> {
    zfs: &'a Zfs,
    request: &'a PutRequest,
    /// Where the kept snapshot is now.
    kept: String,
    origin: &'a str,
    clone: String,
    aside: String,
}

impl<'a> Put<'a> {
    /// Finds the kept snapshot by its guid, since an earlier put may have moved it.
    fn of(zfs: &'a Zfs, request: &'a PutRequest) -> Result<Self, VolumeError> {
        let PutRequest { id, volume, .. } = request;
        let missing = || VolumeError::NotFound {
            name: volume.name.clone(),
        };
        let kept = zfs
            .find_by_guid(lines::pool_of(&volume.name), &volume.uuid)?
            .ok_or_else(missing)?;
        let found = VolumeRecord {
            name: kept.clone(),
            ..volume.clone()
        };
        let properties = zfs.properties(&kept)?.ok_or_else(missing)?;
        super::check_is_recorded(id, &found, &properties)?;
        let beside = |last: String| lines::beside(&volume.origin, &last);
        Ok(Self {
            zfs,
            request,
            kept,
            origin: &volume.origin,
            clone: beside(clone_name(&request.use_id, request.number)?),
            aside: beside(aside_name(&request.use_id, request.number)?),
        })
    }

    fn path(&self) -> &Path {
        &self.request.volume.path
    }

    fn is_origin(&self) -> impl Fn(&Mount) -> bool + use<> {
        let origin = self.origin.to_owned();
        move |mount: &Mount| mount.fs_type == "zfs" && mount.source == origin
    }

    fn is_mounted(&self) -> Result<bool, VolumeError> {
        Ok(mounted_at(self.path())?.is_some_and(|mount| self.is_origin()(&mount)))
    }

    /// Whether that is the clone of this put.
    fn is_made(&self, name: &str) -> Result<bool, VolumeError> {
        let properties = self.zfs.properties_or_default(name)?;
        Ok(properties.local(PUT_PROPERTY) == Some(self.request.use_id.as_str()))
    }

    fn check_origin(&self) -> Result<(), VolumeError> {
        let origin = self.origin;
        let Some(properties) = self.zfs.properties(origin)? else {
            // Where a put was interrupted, another may begin.
            return self.last_aside().map(drop);
        };
        if !origin.contains('/') {
            return Err(VolumeError::refused(
                format!("{origin} is its pool's root, which nothing can take the place of"),
                "Restore to another directory, and copy from there.",
            ));
        }
        let children = self.zfs.children(origin)?;
        if let Some(below) = children.iter().find(|name| !name.contains('@')) {
            return Err(VolumeError::refused(
                format!("{below} lies below {origin}, and would be moved away with it"),
                format!("Rename it to one beside {origin}, with its mountpoint set."),
            ));
        }
        let is_key_root = properties.value("encryptionroot") == Some(origin);
        if is_key_root && properties.value("keylocation") == Some("prompt") {
            return Err(VolumeError::refused(
                format!("the key of {origin} would have to be typed in again"),
                format!("Let its parent's key serve with `zfs change-key -i {origin}`."),
            ));
        }
        if self.is_mounted()? {
            return check_only_at(origin, self.path(), &self.is_origin());
        }
        let is_known = match properties.value("mountpoint") {
            Some("legacy" | "none") | None => properties.local(MOUNT_PROPERTY).is_some(),
            Some(mountpoint) => Path::new(mountpoint) == self.path(),
        };
        match is_known {
            true => check_free_of(origin, self.path(), &self.is_origin()),
            false => Err(not_mounted(origin, self.path())),
        }
    }

    /// With the properties of the origin, or of what an interrupted put has set aside.
    fn make_clone(&self) -> Result<(), VolumeError> {
        if self.is_made(&self.clone)? {
            return Ok(());
        }
        let model = match self.zfs.properties(self.origin)? {
            Some(properties) => properties,
            None => self.last_aside()?,
        };
        let has_no_mountpoint = matches!(model.value("mountpoint"), Some("legacy" | "none"));
        let mount = mounted_at(self.path())?.filter(|mount| self.is_origin()(mount));
        let options = mount
            .filter(|_| has_no_mountpoint)
            .map(|mount| render_options(&mount));
        let use_id = &self.request.use_id;
        let properties = lines::put_properties(&model, use_id, options.as_deref());
        let argv = lines::clone_argv(&properties, &self.kept, &self.clone);
        self.zfs.zfs.run(argv, self.request.limit)?;
        if let Some(options) = options {
            // In case that another put goes on from here.
            let property = (MOUNT_PROPERTY.to_owned(), options);
            self.zfs.set(&[property], self.origin)?;
        }
        Ok(())
    }

    /// Unmounts the origin and gives it another name, if it is there still.
    fn set_aside(&self) -> Result<(), VolumeError> {
        let Some(properties) = self.zfs.properties(self.origin)? else {
            return Ok(());
        };
        take_down_snapshots(self.origin, self.path())?;
        take_down(self.origin, self.path(), &self.is_origin())?;
        failpoint::hit("put-unmounted");
        let marks = lines::aside_properties(&properties, &self.request.use_id, self.origin);
        self.zfs.set(&marks, self.origin)?;
        failpoint::hit("put-marked");
        self.zfs.change(&["rename", self.origin, &self.aside])?;
        failpoint::hit("put-set-aside");
        Ok(())
    }

    /// Until its snapshots are no longer those of a dataset that was set aside.
    fn promote(&self) -> Result<(), VolumeError> {
        for _ in 0..PROMOTIONS_MAX {
            let properties = self.zfs.properties_or_default(self.origin)?;
            let from = properties.value("origin").unwrap_or("-");
            let dataset = from.split('@').next().unwrap_or(from);
            if !self.zfs.is_aside(dataset)? {
                break;
            }
            let args = ["promote", self.origin];
            self.zfs.zfs(&args, self.request.limit)?;
        }
        Ok(())
    }

    /// What could not be set while the old dataset had it, or the new one another name.
    fn finish_properties(&self) -> Result<(), VolumeError> {
        for aside in self.all_aside()? {
            let properties = self.zfs.properties_or_default(&aside)?;
            for name in RESERVING {
                if properties.local(name).is_some() {
                    self.zfs
                        .set(&[(name.to_owned(), "none".to_owned())], &aside)?;
                }
            }
        }
        let properties = self.zfs.properties_or_default(self.origin)?;
        for name in LATER {
            let waiting = lines::waiting_property(name);
            if let Some(value) = properties.local(&waiting) {
                let property = (name.to_owned(), value.to_owned());
                self.zfs.set(&[property], self.origin)?;
                self.zfs.change(&["inherit", &waiting, self.origin])?;
            }
        }
        if properties.local(USE_PROPERTY).is_some() {
            self.zfs.change(&["inherit", USE_PROPERTY, self.origin])?;
        }
        Ok(())
    }

    fn mount(&self) -> Result<(), VolumeError> {
        let properties = self.zfs.properties_or_default(self.origin)?;
        // Promoting takes the key from where it was.
        if properties.value("keystatus") == Some("unavailable") {
            let root = properties.value("encryptionroot").unwrap_or(self.origin);
            self.zfs.change(&["load-key", root])?;
        }
        if !self.is_mounted()? {
            match properties.value("mountpoint") {
                Some("legacy" | "none") => {
                    let options = properties.local(MOUNT_PROPERTY).unwrap_or_default();
                    let dataset = Mountable::Dataset(self.origin.to_owned());
                    mount_again(&dataset, self.path(), options)?;
                }
                Some(_) | None => self.zfs.change(&["mount", self.origin])?,
            }
        }
        check_only_at(self.origin, self.path(), &self.is_origin())?;
        if properties.local(MOUNT_PROPERTY).is_some() {
            self.zfs.change(&["inherit", MOUNT_PROPERTY, self.origin])?;
        }
        Ok(())
    }

    /// What puts have set aside of this origin.
    fn all_aside(&self) -> Result<Vec<String>, VolumeError> {
        let args = ["get", "-Hp", "-t", "filesystem", "-s", "local", "-o"];
        let args = [&args[..], &["name,value", ORIGIN_PROPERTY]].concat();
        let output = self.zfs.zfs(&args, READ_LIMIT)?;
        let of_origin = |line: &str| {
            let (name, value) = line.split_once('\t')?;
            (value == self.origin && name != self.origin).then(|| name.to_owned())
        };
        Ok(output.stdout.lines().filter_map(of_origin).collect())
    }

    /// The properties of the one that was the origin last: each is a clone of an earlier one's.
    fn last_aside(&self) -> Result<Properties, VolumeError> {
        let mut all = Vec::new();
        for dataset in self.all_aside()? {
            all.push(self.zfs.properties_or_default(&dataset)?);
        }
        all.into_iter()
            .max_by_key(|properties| properties.number("createtxg"))
            .ok_or_else(|| VolumeError::NotFound {
                name: self.origin.to_owned(),
            })
    }
}
