//! Taking names and images away, with Docker's rules about what stands in the way.
//!
//! A **name** is taken away unless it is the image's only one and a container uses the image (then only with force); the image
//! goes with its last name if nothing needs it. An **id** removes the image if at most one repository names it. Running
//! containers and images built on this one always stand in the way; stopped containers and other names only without force.
//! Texts and order are Docker 28's (daemon/images/image_delete.go). One platform of several: see [`platform`].

mod platform;

use std::collections::HashSet;

use corten_base::{ChainId, ImageId, Reference};

use crate::family::{self, Released};
use crate::record::{self, ImageRow, NameRow};
use crate::resolve::is_id_prefix;
use crate::types::{Deleted, Descriptor, InUse};
use crate::{Error, Images, Result};

/// All containers that use an image.
type Users<'a> = &'a dyn Fn(&ImageId) -> Vec<InUse>;

/// Which conflicts count.
#[derive(Clone, Copy)]
struct Checks {
    names: bool,
    stopped: bool,
}

/// Why an image can't be deleted.
struct Conflict {
    hard: bool,
    /// A container is the reason.
    used: bool,
    reason: String,
}

impl Images {
    /// Takes a name away, and the image with its last one; given an id or its beginning, removes the image. Answers what was
    /// done, in order. Survives power loss.
    ///
    /// # Errors
    /// As [`resolve`](Images::resolve); [`Error::Conflict`] in Docker's words if something stands in the way.
    pub fn remove(&self, name: &str, force: bool, no_prune: bool, users: Users<'_>) -> Result<Vec<Deleted>> {
        let image = self.find(name)?;
        // A container of another platform's image behind the name uses it as well.
        let (own, siblings) = (image.id.clone(), self.relatives(&image, &self.meaning(&image, name)?)?);
        let users: Users<'_> = &|id| match *id == own {
            true => siblings.iter().filter(|other| *other != id).chain([id]).flat_map(users).collect(),
            false => users(id),
        };
        let mut done = Vec::new();
        let quiet = if is_id_prefix(&image.id, name) {
            self.remove_by_id(&image, force, users, &mut done)?;
            false
        } else {
            if !self.remove_by_name(&image, name, force, users, &mut done)? || self.leave(&image, &mut done)? {
                return Ok(done);
            }
            true
        };
        // Whoever meant a name meant no other that was given since it was seen to be the last one.
        let checks = Checks { names: quiet || !force, stopped: !force };
        self.delete(image, checks, !no_prune, quiet, users, &mut done)?;
        Ok(done)
    }

    /// Takes the name away, and digests of the same repository with its last tag; whether that was the last name of all.
    fn remove_by_name(
        &self,
        image: &ImageRow,
        name: &str,
        force: bool,
        users: Users<'_>,
        done: &mut Vec<Deleted>,
    ) -> Result<bool> {
        let names = self.names(&image.id)?;
        if !force
            && is_single(&names)
            && let Some(user) = users(&image.id).first()
        {
            return Err(Error::Conflict(format!(
                "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is using its referenced image {}",
                user.container.short(),
                image.id.short(),
            )));
        }
        let reference = Reference::parse_normalized(name)?.with_default_tag();
        let repository = reference.repository();
        let is_digest = reference.digest().is_some();
        let mut going = vec![reference];
        let rest = names.iter().map(|row| &row.reference).filter(|other| going[0] != **other);
        let (same, others): (Vec<_>, Vec<_>) = rest.partition(|other| other.repository() == repository);
        let takes_digests = !is_digest && same.iter().all(|other| other.digest().is_some());
        let is_last = others.is_empty() && (takes_digests || same.is_empty());
        if takes_digests {
            going.extend(same.into_iter().cloned());
        }
        self.untag(&going, done)?;
        // Docker tells of the name that was meant, not of the digests that went with it.
        self.tell_untagged(image, 1);
        if !is_last {
            self.shed(&image.id)?;
        }
        Ok(is_last)
    }

    /// Takes all names away if they are of one repository.
    fn remove_by_id(&self, image: &ImageRow, force: bool, users: Users<'_>, done: &mut Vec<Deleted>) -> Result<()> {
        let names = self.names(&image.id)?;
        if !is_single(&names) {
            return Ok(());
        }
        let checks = Checks { names: false, stopped: !force };
        if let Some(conflict) = self.conflict(&image.id, checks, users)? {
            return Err(conflict.error(&image.id));
        }
        let names: Vec<Reference> = names.into_iter().map(|row| row.reference).collect();
        self.untag(&names, done)?;
        self.tell_untagged(image, names.len());
        Ok(())
    }

    /// Deletes an image if nothing stands in the way, and then what it was built on. `quiet`: only what would leave an image
    /// that nobody sees is told.
    fn delete(
        &self,
        image: ImageRow,
        checks: Checks,
        prune: bool,
        quiet: bool,
        users: Users<'_>,
        done: &mut Vec<Deleted>,
    ) -> Result<()> {
        let (names, released) = loop {
            if self.stays(&image, checks, quiet, users)? {
                return Ok(());
            }
            if let Some(gone) = self.take_record(&image, checks)? {
                break gone;
            }
        };
        done.extend(names.iter().map(|row| Deleted::Untagged(row.reference.familiar())));
        self.tell_untagged(&image, names.len());
        self.tell_deleted(released, done)?;
        match image.parent.filter(|_| prune) {
            Some(parent) => self.delete_parent(&parent, users, done),
            None => Ok(()),
        }
    }

    /// Whether something stands in the way that is no reason to fail.
    fn stays(&self, image: &ImageRow, checks: Checks, quiet: bool, users: Users<'_>) -> Result<bool> {
        let Some(conflict) = self.conflict(&image.id, checks, users)? else { return Ok(false) };
        let dangling = self.names(&image.id)?.is_empty() && self.children(&image.id)?.is_empty();
        if quiet && (!dangling || conflict.used) { Ok(true) } else { Err(conflict.error(&image.id)) }
    }

    /// Takes an image's record with its names, and what came behind the same index. None if a name was given, or something built on
    /// it, since that was looked at: what was acknowledged stays.
    fn take_record(&self, image: &ImageRow, checks: Checks) -> Result<Option<(Vec<NameRow>, Released)>> {
        let (namespace, row) = (self.namespace().to_string(), image.clone());
        self.database().write(move |transaction| {
            let names = record::names_of(transaction, &namespace, &row.id)?;
            let is_parent = !record::children(transaction, &namespace, &row.id)?.is_empty();
            if is_parent || (checks.names && !names.is_empty()) {
                return Ok(None);
            }
            for name in &names {
                record::delete_name(transaction, &namespace, &name.reference)?;
            }
            let mut released = family::release(transaction, &namespace, &row)?;
            if released.stays {
                // Indexes that it came for besides don't hold who is deleted by its id.
                record::delete_image(transaction, &namespace, &row.id)?;
                released.gone.insert(0, row);
            }
            Ok(Some((names, released)))
        })
    }

    /// Leaves an image that has lost its last name to an index that has one and that it came for too; whether there is one.
    fn leave(&self, image: &ImageRow, done: &mut Vec<Deleted>) -> Result<bool> {
        let namespace = self.namespace().as_str();
        if self.database().read(|connection| family::indexes_of(connection, namespace, &image.id))?.is_empty() {
            return Ok(false);
        }
        let (namespace, row) = (self.namespace().to_string(), image.clone());
        let released = self.database().write(move |transaction| {
            // It may have been given one meanwhile.
            match record::names_of(transaction, &namespace, &row.id)?.is_empty() {
                true => family::release(transaction, &namespace, &row),
                false => Ok(Released::default()),
            }
        })?;
        self.tell_deleted(released, done)?;
        Ok(true)
    }

    /// Collects what records that went were the last to need, and tells of them.
    fn tell_deleted(&self, released: Released, done: &mut Vec<Deleted>) -> Result<()> {
        let Released { gone, blobs, .. } = released;
        for image in &gone {
            self.publish("delete", &image.id, image.id.as_str(), &image.labels);
            done.push(Deleted::Deleted(image.id.to_string()));
        }
        let stack: Vec<ChainId> = gone.iter().flat_map(|image| self.stack_of(image)).collect();
        let removed = self.collect_of(&blobs)?.layers;
        done.extend(Images::removed_of(&removed, &stack).iter().map(|chain| Deleted::Deleted(chain.to_string())));
        Ok(())
    }

    fn delete_parent(&self, parent: &ImageId, users: Users<'_>, done: &mut Vec<Deleted>) -> Result<()> {
        let namespace = self.namespace().as_str();
        match self.database().read(|connection| record::image(connection, namespace, parent))? {
            Some(parent) => self.delete(parent, Checks { names: true, stopped: true }, true, true, users, done),
            None => Ok(()),
        }
    }

    fn conflict(&self, id: &ImageId, checks: Checks, users: Users<'_>) -> Result<Option<Conflict>> {
        if !self.children(id)?.is_empty() {
            return Ok(Some(Conflict { hard: true, used: false, reason: "image has dependent child images".into() }));
        }
        let users = users(id);
        if let Some(user) = users.iter().find(|user| user.running) {
            let reason = format!("image is being used by running container {}", user.container.short());
            return Ok(Some(Conflict { hard: true, used: true, reason }));
        }
        if checks.names && !self.names(id)?.is_empty() {
            let reason = "image is referenced in multiple repositories".into();
            return Ok(Some(Conflict { hard: false, used: false, reason }));
        }
        if checks.stopped
            && let Some(user) = users.first()
        {
            let reason = format!("image is being used by stopped container {}", user.container.short());
            return Ok(Some(Conflict { hard: false, used: true, reason }));
        }
        Ok(None)
    }

    fn untag(&self, names: &[Reference], done: &mut Vec<Deleted>) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let (namespace, going) = (self.namespace().to_string(), names.to_vec());
        self.database().write(move |transaction| -> Result<()> {
            going.iter().try_for_each(|name| record::delete_name(transaction, &namespace, name).map(drop))
        })?;
        done.extend(names.iter().map(|name| Deleted::Untagged(name.familiar())));
        Ok(())
    }

    fn tell_untagged(&self, image: &ImageRow, times: usize) {
        for _ in 0..times {
            self.publish("untag", &image.id, image.id.as_str(), &image.labels);
        }
    }

    /// The images that came behind the same index, from records alone: what can't be read can be removed. Those without a record of
    /// their own are among the image's blobs, by their configurations.
    fn relatives(&self, image: &ImageRow, target: &Descriptor) -> Result<HashSet<ImageId>> {
        if target.digest == image.manifest.digest {
            return Ok(HashSet::new());
        }
        let namespace = self.namespace().as_str();
        self.database().read(|connection| {
            let blobs = record::blobs_of(connection, namespace, &image.id)?.into_iter().map(ImageId);
            let members = family::members(connection, namespace, &target.digest)?;
            Ok(blobs.chain(members.into_iter().map(|member| member.id)).collect())
        })
    }

    /// What is meant by a name of an image, or its id.
    fn meaning(&self, image: &ImageRow, name: &str) -> Result<Descriptor> {
        let named = Reference::parse_normalized(name).ok().map(Reference::with_default_tag);
        let named = self.names(&image.id)?.into_iter().find(|row| Some(&row.reference) == named.as_ref());
        Ok(named.map_or_else(|| image.target.clone(), |row| row.target))
    }

    fn names(&self, id: &ImageId) -> Result<Vec<NameRow>> {
        self.database().read(|connection| record::names_of(connection, self.namespace().as_str(), id))
    }

    fn children(&self, id: &ImageId) -> Result<Vec<ImageId>> {
        self.database().read(|connection| record::children(connection, self.namespace().as_str(), id))
    }

    /// The chain ids of an image's layers; none if they are lost.
    fn stack_of(&self, image: &ImageRow) -> Vec<ChainId> {
        let stack = image.chain.as_ref().and_then(|chain| self.snapshots().stack(chain).ok());
        stack.unwrap_or_default().into_iter().map(|layer| layer.chain).collect()
    }
}

impl Conflict {
    fn error(self, id: &ImageId) -> Error {
        let force = if self.hard { "cannot be forced" } else { "must be forced" };
        Error::Conflict(format!("conflict: unable to delete {} ({force}) - {}", id.short(), self.reason))
    }
}

/// Whether all names are of one repository and at most one is a tag.
fn is_single(names: &[NameRow]) -> bool {
    let tags = names.iter().filter(|row| row.reference.digest().is_none()).count();
    let Some(first) = names.first() else { return false };
    tags <= 1 && names.iter().all(|row| row.reference.repository() == first.reference.repository())
}
