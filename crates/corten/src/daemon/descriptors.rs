//! How many descriptors the daemon may open: as many as it may at all, and its containers no more for that.
//!
//! A soft limit of 1024 is what programs of old count on (select(2)); a daemon with hundreds of containers and clients needs
//! more, and so dockerd takes all it can get, too.

use corten_engine::settings::Ulimit;
use corten_sys::limits::{self, Limit, Resource};

/// Raises this process's limit to its hard one. Containers that are not told otherwise keep what the daemon was started with.
pub(super) fn take_all(container_limits: &mut Vec<Ulimit>) -> std::io::Result<()> {
    let Some(resource) = Resource::parse("RLIMIT_NOFILE") else { return Ok(()) };
    let before = limits::get(resource)?;
    limits::set(resource, Limit { soft: before.hard, ..before })?;
    container_limits.extend(kept(before, container_limits));
    Ok(())
}

/// The limit that containers have to be given by name.
fn kept(before: Limit, configured: &[Ulimit]) -> Option<Ulimit> {
    const NAME: &str = "nofile";
    if before.soft == before.hard || configured.iter().any(|limit| limit.name == NAME) {
        return None;
    }
    // Unlimited is -1 there and all bits here.
    Some(Ulimit { name: NAME.to_owned(), soft: before.soft.cast_signed(), hard: before.hard.cast_signed() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_keep_what_the_daemon_had() {
        let limit = |soft, hard| Ulimit { name: "nofile".into(), soft, hard };
        assert_eq!(kept(Limit { soft: 1024, hard: 4096 }, &[]), Some(limit(1024, 4096)));
        assert_eq!(kept(Limit { soft: 1024, hard: u64::MAX }, &[]), Some(limit(1024, -1)));
        assert_eq!(kept(Limit { soft: 4096, hard: 4096 }, &[]), None);
        assert_eq!(kept(Limit { soft: 1024, hard: 4096 }, &[limit(5, 6)]), None);
    }
}
