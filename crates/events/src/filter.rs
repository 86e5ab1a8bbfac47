//! Docker's event filters: any of a key's values, all of the keys.
//!
//! Containers are matched by prefix of id or name, the other objects by their whole id or name, images also without
//! their tag. Source of the semantics: Docker's API description, operation `SystemEvents`.

use std::collections::BTreeMap;

use crate::event::{Event, Kind};

/// The keys that `GET /events` takes.
const KEYS: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// A filter names a key that events don't have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid filter '{0}'")]
pub struct InvalidFilter(pub String);

impl InvalidFilter {
    /// Always the caller's mistake.
    pub fn kind(&self) -> corten_base::ErrorKind {
        corten_base::ErrorKind::Invalid
    }
}

/// Which events a reader wants; the default wants all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    values: BTreeMap<String, Vec<String>>,
}

impl Filter {
    /// Checks the keys and takes the filter as the API gives it.
    pub fn new(values: BTreeMap<String, Vec<String>>) -> Result<Filter, InvalidFilter> {
        match values.keys().find(|key| !KEYS.contains(&key.as_str())) {
            Some(key) => Err(InvalidFilter(key.clone())),
            None => Ok(Filter { values }),
        }
    }

    /// Whether the event is wanted.
    pub fn matches(&self, event: &Event) -> bool {
        self.matches_action(event)
            && self.any("type", |want| want == event.kind.as_str())
            && self.any("scope", |want| want == "local")
            && self.any("container", |want| names(event, want, str::starts_with))
            && ["daemon", "plugin", "volume", "network", "node", "service", "secret", "config"]
                .iter()
                .all(|key| self.any(key, |want| names(event, want, |have, want| have == want)))
            && self.any("image", |want| image_names(event).any(|have| have == want))
            && self.matches_labels(event)
    }

    /// True when the key isn't given or one of its values fits.
    fn any(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        match self.values.get(key) {
            Some(values) if !values.is_empty() => values.iter().any(|value| fits(value)),
            _ => true,
        }
    }

    /// `exec_create`, `exec_start` and `health_status` carry a detail after a colon, which a bare word may leave out.
    fn matches_action(&self, event: &Event) -> bool {
        self.any("event", |want| {
            let bare = event.action.split(':').next().unwrap_or_default();
            event.action == want || (bare == want && matches!(want, "exec_create" | "exec_start" | "health_status"))
        })
    }

    fn matches_labels(&self, event: &Event) -> bool {
        let Some(wanted) = self.values.get("label") else { return true };
        wanted.iter().all(|want| match want.split_once('=') {
            Some((key, value)) => event.actor.attributes.get(key).is_some_and(|have| have == value),
            None => event.actor.attributes.contains_key(want),
        })
    }
}

/// Whether the actor's id or name fits.
fn names<'a>(event: &'a Event, want: &'a str, fits: impl Fn(&'a str, &'a str) -> bool) -> bool {
    let name = event.actor.attributes.get("name").map(String::as_str);
    fits(&event.actor.id, want) || name.is_some_and(|name| fits(name, want))
}

/// The names that an event's image answers to: its id and reference, each with and without the tag.
fn image_names(event: &Event) -> impl Iterator<Item = &str> {
    let key = if event.kind == Kind::Image { "name" } else { "image" };
    let name = event.actor.attributes.get(key).map(String::as_str);
    [Some(event.actor.id.as_str()), name].into_iter().flatten().flat_map(|full| [full, without_tag(full)])
}

/// `repo:tag` without its tag; a registry's port is not a tag.
fn without_tag(reference: &str) -> &str {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => reference,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Actor;

    fn event(kind: Kind, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
        let actor = Actor::new(id, attributes.iter().copied());
        Event { namespace: Default::default(), kind, action: action.into(), actor, time_ns: 1 }
    }

    fn check(filter: &[(&str, &str)], event: &Event, expect: bool) {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in filter {
            values.entry((*key).into()).or_default().push((*value).into());
        }
        assert_eq!(Filter::new(values).unwrap().matches(event), expect, "{filter:?}");
    }

    #[test]
    fn values_of_a_key_are_alternatives_and_keys_are_conditions() {
        let die = event(Kind::Container, "die", "abc123", &[("name", "web"), ("image", "busybox:1"), ("a", "b")]);
        check(&[], &die, true);
        check(&[("type", "container")], &die, true);
        check(&[("type", "image")], &die, false);
        check(&[("type", "image"), ("type", "container")], &die, true);
        check(&[("type", "container"), ("event", "start")], &die, false);
        check(&[("container", "abc")], &die, true);
        check(&[("container", "web")], &die, true);
        check(&[("container", "bc")], &die, false);
        check(&[("image", "busybox")], &die, true);
        check(&[("image", "busybox:1")], &die, true);
        check(&[("image", "busybox:2")], &die, false);
        check(&[("label", "a=b")], &die, true);
        check(&[("label", "a")], &die, true);
        check(&[("label", "a"), ("label", "c")], &die, false);
        check(&[("volume", "web")], &die, true);
        check(&[("volume", "we")], &die, false);
        check(&[("scope", "local")], &die, true);
        check(&[("scope", "swarm")], &die, false);
    }

    #[test]
    fn actions_with_a_detail_match_by_their_first_word() {
        let exec = event(Kind::Container, "exec_create: true", "abc", &[]);
        check(&[("event", "exec_create")], &exec, true);
        check(&[("event", "exec_create: true")], &exec, true);
        check(&[("event", "exec_start")], &exec, false);
    }

    #[test]
    fn unknown_keys_are_refused() {
        let bad = BTreeMap::from([("colour".to_string(), vec!["red".to_string()])]);
        assert_eq!(Filter::new(bad).unwrap_err().to_string(), "invalid filter 'colour'");
    }

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!(without_tag("localhost:5000/a"), "localhost:5000/a");
        assert_eq!(without_tag("localhost:5000/a:b"), "localhost:5000/a");
    }
}
