//! All containers by id and by name. Held in memory only, behind one lock that is never kept across a wait: the records are the
//! truth, this is their index.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use corten_base::{ContainerId, Namespace};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::Error;
use crate::reuse::Reuse;
use crate::task::Request;
use crate::view::ContainerView;

/// One container's task as others reach it.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) id: ContainerId,
    mailbox: mpsc::Sender<Request>,
    view: watch::Receiver<Arc<ContainerView>>,
    reuse: Arc<Reuse>,
}

/// How a task answers.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

impl Handle {
    pub(crate) fn new(
        id: ContainerId,
        mailbox: mpsc::Sender<Request>,
        view: watch::Receiver<Arc<ContainerView>>,
        reuse: Arc<Reuse>,
    ) -> Handle {
        Handle { id, mailbox, view, reuse }
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::NoSuchContainer(self.id.to_string());
        self.mailbox.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// The published snapshots.
    pub(crate) fn view(&self) -> watch::Receiver<Arc<ContainerView>> {
        self.view.clone()
    }

    /// Another container is about to share its namespaces: what was in its reach is not for the next one.
    pub(crate) fn share(&self) {
        self.reuse.forget();
    }

    /// The latest snapshot.
    pub(crate) fn now(&self) -> Arc<ContainerView> {
        self.view.borrow().clone()
    }
}

/// The index.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    by_id: BTreeMap<(Namespace, ContainerId), Arc<Handle>>,
    /// Also names of containers that are still being made.
    by_name: HashMap<(Namespace, String), ContainerId>,
}

impl Registry {
    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name for a container. It stays taken until [`Registry::release_name`] or [`Registry::remove`].
    pub(crate) fn reserve_name(&self, namespace: &Namespace, name: &str, id: &ContainerId) -> Result<(), Error> {
        let mut tables = self.write();
        let key = (namespace.clone(), name.to_string());
        match tables.by_name.get(&key) {
            Some(owner) if owner != id => Err(Error::NameInUse { name: name.into(), id: owner.clone() }),
            _ => {
                tables.by_name.insert(key, id.clone());
                Ok(())
            }
        }
    }

    /// Gives a name back, if it is this container's.
    pub(crate) fn release_name(&self, namespace: &Namespace, name: &str, id: &ContainerId) {
        let mut tables = self.write();
        let key = (namespace.clone(), name.to_string());
        if tables.by_name.get(&key) == Some(id) {
            tables.by_name.remove(&key);
        }
    }

    /// Makes a container known.
    pub(crate) fn insert(&self, namespace: &Namespace, handle: Arc<Handle>) {
        self.write().by_id.insert((namespace.clone(), handle.id.clone()), handle);
    }

    /// Forgets a container and its name.
    pub(crate) fn remove(&self, namespace: &Namespace, id: &ContainerId) {
        let mut tables = self.write();
        tables.by_id.remove(&(namespace.clone(), id.clone()));
        tables.by_name.retain(|(space, _), owner| space != namespace || owner != id);
    }

    /// The container with this id, name (with or without slash), or beginning of an id, in this order.
    pub(crate) fn find(&self, namespace: &Namespace, term: &str) -> Result<Arc<Handle>, Error> {
        let missing = || Error::NoSuchContainer(term.to_string());
        if term.is_empty() {
            return Err(Error::Invalid("no container name or ID supplied".into()));
        }
        let tables = self.read();
        if let Ok(id) = ContainerId::parse(term)
            && let Some(handle) = tables.by_id.get(&(namespace.clone(), id))
        {
            return Ok(handle.clone());
        }
        let name = term.strip_prefix('/').unwrap_or(term);
        if let Some(id) = tables.by_name.get(&(namespace.clone(), name.to_string())) {
            return tables.by_id.get(&(namespace.clone(), id.clone())).cloned().ok_or_else(missing);
        }
        let mut matches = tables.with_prefix(namespace, term);
        match (matches.next(), matches.next()) {
            (Some(handle), None) => Ok(handle.clone()),
            (Some(_), Some(_)) => Err(Error::AmbiguousPrefix(term.into())),
            (None, _) => Err(missing()),
        }
    }

    /// All containers of a namespace.
    pub(crate) fn all(&self, namespace: &Namespace) -> Vec<Arc<Handle>> {
        self.read()
            .by_id
            .iter()
            .filter(|((space, _), _)| space == namespace)
            .map(|(_, handle)| handle.clone())
            .collect()
    }

    /// All containers.
    pub(crate) fn everything(&self) -> Vec<Arc<Handle>> {
        self.read().by_id.values().cloned().collect()
    }
}

impl Tables {
    /// Containers whose id begins so: a short walk over the sorted ids.
    fn with_prefix<'a>(&'a self, namespace: &'a Namespace, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Handle>> {
        let padded = format!("{prefix:0<64}");
        let first = ContainerId::parse(&padded).ok().filter(|_| prefix.len() <= 64);
        let from = first.map(|id| (namespace.clone(), id));
        let range = from.map(|from| self.by_id.range((Bound::Included(from), Bound::Unbounded)));
        range
            .into_iter()
            .flatten()
            .take_while(move |((space, id), _)| space == namespace && id.as_str().starts_with(prefix))
            .map(|(_, handle)| handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(ids: &[(&str, &str)]) -> Registry {
        let registry = Registry::default();
        let space = Namespace::default();
        for (start, name) in ids {
            let id = ContainerId::parse(&format!("{start:0<64}")).unwrap();
            registry.reserve_name(&space, name, &id).unwrap();
            let view = crate::view::tests::view(id.clone(), name);
            let handle = Handle::new(id, mpsc::channel(1).0, watch::channel(Arc::new(view)).1, Arc::default());
            registry.insert(&space, Arc::new(handle));
        }
        registry
    }

    fn check(registry: &Registry, term: &str, expect: Result<&str, &str>) {
        let found = registry.find(&Namespace::default(), term);
        let found = found.map(|handle| handle.now().name.clone()).map_err(|error| error.message());
        assert_eq!(found.as_deref().map_err(String::as_str), expect);
    }

    #[test]
    fn names_ids_and_prefixes() {
        let registry = with(&[("abc1", "web"), ("abd2", "db"), ("ff", "abc")]);
        check(&registry, "web", Ok("web"));
        check(&registry, "/web", Ok("web"));
        check(&registry, "abd", Ok("db"));
        check(&registry, "abc", Ok("abc"));
        check(&registry, "abc1", Ok("web"));
        check(&registry, "ab", Err("multiple IDs found with provided prefix: ab"));
        check(&registry, "f", Ok("abc"));
        check(&registry, "nope", Err("No such container: nope"));
        check(&registry, "1234", Err("No such container: 1234"));
    }

    #[test]
    fn names_are_unique_until_released() {
        let registry = with(&[("aa", "web")]);
        let space = Namespace::default();
        let (first, second) = (registry.find(&space, "web").unwrap().id.clone(), ContainerId::generate());
        let taken = registry.reserve_name(&space, "web", &second).unwrap_err();
        assert!(
            taken.message().starts_with("Conflict. The container name \"/web\" is already in use by container \"aa0")
        );
        registry.release_name(&space, "web", &second);
        assert!(registry.reserve_name(&space, "web", &second).is_err());
        registry.remove(&space, &first);
        registry.reserve_name(&space, "web", &second).unwrap();
    }
}
