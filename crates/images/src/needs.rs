//! What an image needs, after its names have moved.
//!
//! The same image may come again behind another index, with other statements about it. What its names mean is needed, and so is
//! what its record means; the index before it isn't when its last name is gone.

use std::collections::HashSet;

use corten_base::{Digest, ImageId};
use corten_metadata::rusqlite::Connection;

use crate::record;
use crate::types::Descriptor;
use crate::{Images, Result, family};

impl Images {
    /// Forgets and collects what an image needed for an index or a manifest that nothing means any more. An image whose manifest isn't
    /// here keeps all that it has.
    pub(crate) fn shed(&self, id: &ImageId) -> Result<()> {
        let namespace = self.namespace().to_string();
        let (targets, blobs) = self.database().read(|connection| -> Result<_> {
            Ok((targets(connection, &namespace, id)?, record::blobs_of(connection, &namespace, id)?))
        })?;
        let Some(manifest) = targets.first().filter(|manifest| self.content().contains(&manifest.digest)) else {
            return Ok(());
        };
        let mut needed = HashSet::from([id.0.clone(), manifest.digest.clone()]);
        for target in &targets {
            needed.extend(self.contents(target)?.blobs());
        }
        let stale: HashSet<Digest> = blobs.into_iter().filter(|blob| !needed.contains(blob)).collect();
        if stale.is_empty() {
            return Ok(());
        }
        let (id, going) = (id.clone(), stale.clone());
        let are_gone = self.database().write(move |transaction| -> Result<bool> {
            // A name may have been given meanwhile, or all of it have come again.
            let is_same = self::targets(transaction, &namespace, &id)? == targets;
            if is_same {
                record::take_blobs(transaction, &namespace, &id, &going)?;
                record::forget_layers(transaction)?;
            }
            Ok(is_same)
        })?;
        if are_gone {
            self.collect_of(&stale)?;
        }
        Ok(())
    }
}

/// What an image's record and its names mean, its manifest first; nothing for one without a record.
fn targets(connection: &Connection, namespace: &str, id: &ImageId) -> Result<Vec<Descriptor>> {
    let Some(row) = record::image(connection, namespace, id)? else { return Ok(Vec::new()) };
    let mut targets = vec![row.manifest, row.target];
    let named = record::names_of(connection, namespace, id)?.into_iter().map(|name| name.target);
    // Behind an index that has a name it may be without one.
    for target in named.chain(family::indexes_of(connection, namespace, id)?) {
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    Ok(targets)
}
