//! From a descriptor to everything behind it: indexes within indexes, within bounds that hold whoever wrote them.
//!
//! Pull, load and push, lists and removals all look behind a name in this one way. Each document is read once, however many
//! indexes name it: a few indexes that name each other a thousand times would otherwise be 10^12 images. What goes beyond a
//! bound is refused when it comes ([`register`](crate::Images::register)), so that what is here can be looked at again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use corten_base::Digest;

use crate::document::{Document, Index, IndexEntry, Manifest};
use crate::types::Descriptor;
use crate::{Error, Result};

/// Indexes within indexes that are followed.
pub(crate) const DEEPEST: usize = 4;
/// The most entries that one name may lead to.
const MOST_ENTRIES: usize = 4000;
/// The most bytes of documents that one name, or one archive, may lead to.
const MOST_BYTES: usize = 32 << 20;

/// Gets a document's bytes; none if it isn't here.
pub(crate) type Source<'a> = &'a dyn Fn(&Descriptor) -> Result<Option<Vec<u8>>>;

/// One manifest behind a name.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub entry: IndexEntry,
    /// None if it isn't here.
    pub manifest: Option<Arc<Manifest>>,
}

impl Part {
    pub fn digest(&self) -> &Digest {
        &self.entry.descriptor.digest
    }

    /// The manifest, and what it names if it is here.
    pub fn blobs(&self) -> impl Iterator<Item = &Digest> {
        let needed = self.manifest.iter().flat_map(|manifest| manifest.blobs());
        std::iter::once(self.digest()).chain(needed.map(|descriptor| &descriptor.digest))
    }
}

/// Everything behind a name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    /// The manifests, once for each time that they are named.
    pub parts: Vec<Part>,
    /// The indexes on the way, those within others first.
    pub indexes: Vec<(Descriptor, Arc<Index>)>,
}

impl Contents {
    /// All blobs that are named, here or not.
    pub fn blobs(&self) -> HashSet<Digest> {
        let indexes = self.indexes.iter().map(|(descriptor, _)| &descriptor.digest);
        indexes.chain(self.parts.iter().flat_map(Part::blobs)).cloned().collect()
    }
}

/// How much more may be looked at.
#[derive(Debug)]
pub(crate) struct Budget {
    entries: usize,
    bytes: usize,
}

impl Default for Budget {
    /// What one name may lead to.
    fn default() -> Budget {
        Budget { entries: MOST_ENTRIES, bytes: MOST_BYTES }
    }
}

impl Budget {
    /// What all names of an archive may lead to.
    pub fn of_archive() -> Budget {
        Budget { entries: 5 * MOST_ENTRIES, bytes: MOST_BYTES }
    }
}

/// Looks behind a descriptor, at what is `wanted` of it. What `source` doesn't have is a part without a manifest.
///
/// # Errors
/// [`Error::Document`] beyond a bound; what `source` fails with.
pub(crate) fn walk(
    root: &Descriptor,
    source: Source<'_>,
    wanted: &dyn Fn(&IndexEntry) -> bool,
    budget: &mut Budget,
) -> Result<Contents> {
    let entry = IndexEntry { descriptor: root.clone(), platform: None, annotations: None, artifact_type: None };
    let least = budget.entries.saturating_sub(MOST_ENTRIES);
    let mut walk = Walk { source, wanted, budget, least, manifests: HashMap::new(), contents: Contents::default() };
    walk.enter(&entry, 0)?;
    Ok(walk.contents)
}

struct Walk<'a> {
    source: Source<'a>,
    wanted: &'a dyn Fn(&IndexEntry) -> bool,
    budget: &'a mut Budget,
    /// What must stay of the budget's entries.
    least: usize,
    /// What has been looked at, by digest: the manifest, or none for an index and for what isn't here.
    manifests: HashMap<Digest, Known>,
    contents: Contents,
}

#[derive(Clone)]
enum Known {
    Index,
    /// None if it isn't here.
    Manifest(Option<Arc<Manifest>>),
}

impl Walk<'_> {
    fn enter(&mut self, entry: &IndexEntry, depth: usize) -> Result<()> {
        let descriptor = &entry.descriptor;
        let too = |how: &str| Error::document(format!("manifest {}", descriptor.digest), how);
        if depth > DEEPEST {
            return Err(too("indexes are nested too deeply"));
        }
        if self.budget.entries <= self.least {
            return Err(too("indexes name too many manifests"));
        }
        self.budget.entries -= 1;
        let known = match self.manifests.get(&descriptor.digest) {
            Some(known) => known.clone(),
            None => self.look(descriptor, depth)?,
        };
        if let Known::Manifest(manifest) = known {
            self.contents.parts.push(Part { entry: entry.clone(), manifest });
        }
        Ok(())
    }

    /// Looks at a document for the first time.
    fn look(&mut self, descriptor: &Descriptor, depth: usize) -> Result<Known> {
        let what = format!("manifest {}", descriptor.digest);
        let bytes = (self.source)(descriptor)?;
        let read = bytes.as_ref().map_or(0, Vec::len);
        let left = self.budget.bytes.checked_sub(read);
        self.budget.bytes = left.ok_or_else(|| Error::document(what.as_str(), "indexes name too many manifests"))?;
        let known = match bytes.map(|bytes| Document::parse(&bytes, &what)).transpose()? {
            None => Known::Manifest(None),
            Some(Document::Manifest(manifest)) => Known::Manifest(Some(Arc::new(manifest))),
            Some(Document::Index(index)) => {
                // Before what is in it: none can name itself, but what says so ends here.
                self.manifests.insert(descriptor.digest.clone(), Known::Index);
                for entry in index.manifests.iter().filter(|entry| (self.wanted)(entry)) {
                    self.enter(entry, depth + 1)?;
                }
                self.contents.indexes.push((descriptor.clone(), Arc::new(index)));
                return Ok(Known::Index);
            }
        };
        self.manifests.insert(descriptor.digest.clone(), known.clone());
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Documents by digest, and which were read.
    #[derive(Default)]
    struct Shelf {
        documents: HashMap<Digest, Vec<u8>>,
        read: RefCell<Vec<Digest>>,
    }

    impl Shelf {
        fn put(&mut self, text: String) -> Descriptor {
            let digest = Digest::sha256(text.as_bytes());
            let descriptor = Descriptor { media_type: String::new(), digest: digest.clone(), size: text.len() as u64 };
            self.documents.insert(digest, text.into_bytes());
            descriptor
        }

        fn manifest(&mut self, seed: usize) -> Descriptor {
            let digest = Digest::sha256(&seed.to_le_bytes());
            self.put(format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"","digest":"{digest}","size":1}},"layers":[]}}"#
            ))
        }

        fn index(&mut self, entries: impl IntoIterator<Item = Descriptor>) -> Descriptor {
            let entries: Vec<String> = entries
                .into_iter()
                .map(|entry| format!(r#"{{"mediaType":"","digest":"{}","size":{}}}"#, entry.digest, entry.size))
                .collect();
            self.put(format!(r#"{{"manifests":[{}]}}"#, entries.join(",")))
        }

        fn walk(&self, root: &Descriptor) -> Result<Contents> {
            let source = |descriptor: &Descriptor| {
                self.read.borrow_mut().push(descriptor.digest.clone());
                Ok(self.documents.get(&descriptor.digest).cloned())
            };
            walk(root, &source, &|_| true, &mut Budget::default())
        }

        fn refused(&self, root: &Descriptor, expect: &str) {
            let error = self.walk(root).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        }
    }

    #[test]
    fn each_document_is_read_once() {
        let mut shelf = Shelf::default();
        let mut below = shelf.manifest(0);
        for _ in 0..4 {
            below = shelf.index(std::iter::repeat_n(below, 900));
        }
        let contents = shelf.walk(&below).unwrap();
        assert_eq!((contents.parts.len(), contents.indexes.len()), (900, 4));
        assert_eq!(shelf.read.borrow().len(), 5);
        assert_eq!(contents.indexes[3].0, below, "the outermost comes last");
    }

    #[test]
    fn what_is_named_too_often_or_too_deep_is_refused() {
        let mut shelf = Shelf::default();
        let many: Vec<Descriptor> = (0..5000).map(|seed| shelf.manifest(seed)).collect();
        let groups: Vec<Descriptor> = many.chunks(1000).map(|part| shelf.index(part.to_vec())).collect();
        let some = shelf.index(groups[..3].to_vec());
        assert_eq!(shelf.walk(&some).unwrap().parts.len(), 3000);
        let all = shelf.index(groups);
        shelf.refused(&all, "too many manifests");
        let mut below = shelf.manifest(0);
        for _ in 0..=DEEPEST {
            below = shelf.index([below]);
        }
        shelf.refused(&below, "nested too deeply");
    }

    #[test]
    fn documents_are_bounded_together() {
        let mut shelf = Shelf::default();
        let padding = " ".repeat(1 << 20);
        let large: Vec<Descriptor> = (0..40)
            .map(|seed| {
                let digest = Digest::sha256(&[seed]);
                shelf.put(format!(r#"{{"schemaVersion":2,"config":{{"mediaType":"","digest":"{digest}","size":1}},"layers":[]{padding}}}"#))
            })
            .collect();
        let few = shelf.index(large[..20].to_vec());
        assert_eq!(shelf.walk(&few).unwrap().parts.len(), 20);
        let all = shelf.index(large);
        shelf.refused(&all, "too many manifests");
    }

    #[test]
    fn what_is_not_here_is_a_part() {
        let mut shelf = Shelf::default();
        let lost = shelf.manifest(0);
        shelf.documents.remove(&lost.digest);
        let index = shelf.index([lost.clone()]);
        let contents = shelf.walk(&index).unwrap();
        assert!(contents.parts[0].manifest.is_none());
        assert_eq!(contents.blobs(), HashSet::from([index.digest, lost.digest]));
    }
}
