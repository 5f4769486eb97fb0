//! Removing images. What only they needed is collected by `sweep`.

use std::fs;

use super::ImageStore;
use super::builtin::{BUILTIN_REFERENCE, is_builtin};
use super::digest::Digest;
use super::durable;
use super::error::Error;
use super::record::{ImageRecord, Table};
use super::reference::Reference;
use super::resolve::Image;
use super::store::{Usage, names};

impl ImageStore {
    /// Removes a name, and with its last name the image; or, given an id, the image with all its names. An image for
    /// which `in_use` says true stays; it is asked while nobody begins to use one. Gives the image's id if the image itself is gone.
    pub fn remove(&self, name: &str, in_use: &dyn Fn(&str) -> bool) -> Result<Option<Digest>, Error> {
        let reference = Reference::parse(name).ok();
        if reference.as_ref().is_some_and(is_builtin) {
            return Err(Error::Pinned { image: BUILTIN_REFERENCE.to_owned() });
        }
        let id = self.find(name)?;
        let removed = {
            let _hold = self.withhold()?;
            let _lock = self.lock()?;
            self.remove_locked(name, &id, reference.as_ref(), in_use)?
        };
        self.sweep()?;
        Ok(removed.then_some(id))
    }

    fn remove_locked(
        &self,
        name: &str,
        id: &Digest,
        reference: Option<&Reference>,
        in_use: &dyn Fn(&str) -> bool,
    ) -> Result<bool, Error> {
        let mut table = self.table()?;
        let Some(record) = self.record(id)? else { return Ok(false) };
        if record.builtin && table.names_of(id).any(|(name, _)| is_builtin(name)) {
            return Err(Error::Pinned { image: name.to_owned() });
        }
        let by_tag = reference.filter(|reference| table.names_of(id).any(|(name, _)| name == *reference));
        let others = table.names_of(id).any(|(name, _)| Some(name) != by_tag);
        if let Some(tag) = by_tag
            && others
        {
            table.references.remove(tag);
            return self.untag(record, tag, table).map(|()| false);
        }
        if in_use(id.as_str()) {
            return Err(Error::InUse { image: name.to_owned() });
        }
        self.remove_image(id, table)?;
        Ok(true)
    }

    /// Takes one name from an image. The table goes first: it is what counts.
    fn untag(&self, mut record: ImageRecord, tag: &Reference, table: Table) -> Result<(), Error> {
        self.write_table(table)?;
        record.references.remove(tag);
        record.indexes.remove(tag);
        durable::write_json(&self.image_records(), &format!("{}.json", record.id.hex()), &record)
    }

    /// Removes an image's record, then its names; the sweep takes what nothing names any more, and the names too if
    /// this is cut off.
    fn remove_image(&self, id: &Digest, mut table: Table) -> Result<(), Error> {
        self.discard(&self.record_path(id))?;
        durable::sync_dir(&self.image_records())?;
        table.references.retain(|_, target| target.id != *id);
        self.write_table(table)
    }

    /// Removes built-in images of former binaries that no container uses. Gives their ids.
    pub fn collect(&self, in_use: &dyn Fn(&str) -> bool) -> Result<Vec<Digest>, Error> {
        let mut removed = Vec::new();
        for Image { id, references, pinned, .. } in self.list()? {
            if pinned && references.is_empty() {
                let _hold = self.withhold()?;
                if in_use(id.as_str()) {
                    continue;
                }
                let _lock = self.lock()?;
                self.remove_image(&id, self.table()?)?;
                removed.push(id);
            }
        }
        self.sweep()?;
        Ok(removed)
    }

    /// What the store takes of its disk.
    pub fn usage(&self) -> Result<Usage, Error> {
        let mut usage = Usage::default();
        for name in names(&self.layer_records())? {
            if let Some(layer) = name.strip_suffix(".json").map(|layer| self.read_layer(layer)).transpose()?.flatten() {
                usage.bytes += layer.disk_bytes;
                usage.inodes += layer.inodes;
            }
        }
        for directory in [self.blobs(), self.partials(), self.image_records(), self.layer_records()] {
            for name in names(&directory)? {
                if let Ok(meta) = fs::symlink_metadata(directory.join(name)) {
                    usage.bytes += meta.len().next_multiple_of(4096);
                    usage.inodes += 1;
                }
            }
        }
        Ok(usage)
    }
}
