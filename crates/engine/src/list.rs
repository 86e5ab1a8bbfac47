//! Which containers a client gets to see, and what they weigh.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use corten_base::{ContainerId, Namespace};
use regex::Regex;

use crate::blocking;
use crate::containers::{Containers, ListOptions, RemoveOptions};
use crate::error::Error;
use crate::life::Phase;
use crate::shared::Shared;
use crate::view::ContainerView;

/// The keys that `ps --filter` takes.
const KEYS: [&str; 16] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// The states that `status=` takes.
const HEALTH: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];
const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

/// The containers that the options let through, the latest first.
pub(crate) fn list(
    shared: &Shared,
    namespace: &Namespace,
    options: &ListOptions,
) -> Result<Vec<Arc<ContainerView>>, Error> {
    let mut views: Vec<Arc<ContainerView>> = shared.registry.all(namespace).iter().map(|handle| handle.now()).collect();
    views.sort_by(|one, other| other.created_ns.cmp(&one.created_ns).then_with(|| one.id.cmp(&other.id)));
    let filter = Filter::new(shared, namespace, options)?;
    let shown = views.iter().filter(|view| !view.removed && filter.matches(view));
    let most = options.limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    Ok(shown.take(most).cloned().collect())
}

/// Docker's filters, checked and looked up.
struct Filter<'a> {
    values: &'a BTreeMap<String, Vec<String>>,
    /// Also those that don't run.
    all: bool,
    /// Ids of the images that `ancestor=` names.
    ancestors: Vec<corten_base::ImageId>,
    /// Created before and after these times.
    before: Option<i64>,
    since: Option<i64>,
    exited: Vec<i32>,
    names: Vec<NameFilter>,
}

impl<'a> Filter<'a> {
    fn new(shared: &Shared, namespace: &Namespace, options: &'a ListOptions) -> Result<Filter<'a>, Error> {
        let values = &options.filters;
        if let Some(key) = values.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(Error::Invalid(format!("invalid filter '{key}'")));
        }
        let given = |key: &str| values.get(key).map(Vec::as_slice).unwrap_or_default();
        if let Some(state) = given("status").iter().find(|state| !STATES.contains(&state.as_str())) {
            let known = STATES.join(", ");
            return Err(Error::Invalid(format!(
                "invalid filter 'status={state}': invalid value for state ({state}): must be one of {known}"
            )));
        }
        if let Some(health) = given("health").iter().find(|health| !HEALTH.contains(&health.as_str())) {
            let known = HEALTH.join(", ");
            return Err(Error::Invalid(format!(
                "invalid filter 'health={health}': invalid value for health ({health}): must be one of {known}"
            )));
        }
        let created = |name: &String| Ok(shared.registry.find(namespace, name)?.now().created_ns);
        let times = |key: &str| given(key).iter().map(created).collect::<Result<Vec<i64>, Error>>();
        let exited = given("exited").iter().map(|code| {
            code.parse().map_err(|_| {
                Error::Invalid(format!(
                    "invalid filter 'exited={code}': strconv.Atoi: parsing {code:?}: invalid syntax"
                ))
            })
        });
        Ok(Filter {
            values,
            all: options.all || options.limit.is_some_and(|limit| limit > 0) || values.keys().any(|key| widens(key)),
            ancestors: given("ancestor")
                .iter()
                .filter_map(|name| shared.images.resolve(name, None).ok())
                .map(|image| image.id)
                .collect(),
            before: times("before")?.into_iter().min(),
            since: times("since")?.into_iter().max(),
            exited: exited.collect::<Result<_, _>>()?,
            names: given("name").iter().map(|want| NameFilter::new(want)).collect(),
        })
    }

    /// True when the key isn't given or one of its values fits.
    fn any(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        match self.values.get(key) {
            Some(values) if !values.is_empty() => values.iter().any(|value| fits(value)),
            _ => true,
        }
    }

    fn matches(&self, view: &ContainerView) -> bool {
        let state = view.state.phase.as_str();
        (self.all || view.state.is_running())
            && self.any("status", |want| want == state)
            && self.any("id", |want| view.id.as_str().starts_with(want))
            && (self.names.is_empty() || self.names.iter().any(|want| want.matches(&view.name)))
            && self.matches_labels(view)
            && (!self.values.contains_key("ancestor") || self.ancestors.contains(&view.image_id))
            && self.before.is_none_or(|before| view.created_ns < before)
            && self.since.is_none_or(|since| view.created_ns > since)
            && (self.exited.is_empty()
                || (view.state.phase == Phase::Exited && self.exited.contains(&view.state.exit_code)))
            && self.any("volume", |want| {
                view.mounts.iter().any(|point| {
                    point.name.as_deref() == Some(want) || point.destination == want || point.source == want
                })
            })
            && self.any("network", |want| {
                view.network.endpoints.iter().any(|(name, endpoint)| {
                    name == want || endpoint.network_id.as_ref().is_some_and(|id| id.as_str().starts_with(want))
                })
            })
            && self.any("publish", |want| {
                view.network.ports.iter().any(|(port, bound)| !bound.is_empty() && port_matches(port, want))
            })
            && self.any("expose", |want| view.spec.exposed_ports.iter().any(|port| port_matches(port, want)))
            && self.any("health", |want| want == "none")
            && self.any("is-task", |want| !matches!(want, "1" | "true"))
    }

    fn matches_labels(&self, view: &ContainerView) -> bool {
        let has = |want: &String| match want.split_once('=') {
            Some((key, value)) => view.spec.labels.get(key).is_some_and(|have| have == value),
            None => view.spec.labels.contains_key(want),
        };
        let given = |key: &str| self.values.get(key).map(Vec::as_slice).unwrap_or_default();
        given("label").iter().all(has) && !given("label!").iter().any(has)
    }
}

/// Filters about a state other than running show containers in it without being asked for all.
fn widens(key: &str) -> bool {
    matches!(key, "status" | "exited")
}

/// One value of `name=`: a regular expression as in Docker. What isn't one fits only the name that is written so.
#[derive(Debug)]
struct NameFilter {
    text: String,
    pattern: Option<Regex>,
}

impl NameFilter {
    fn new(text: &str) -> NameFilter {
        NameFilter { text: text.into(), pattern: Regex::new(text).ok() }
    }

    fn fits(&self, name: &str) -> bool {
        self.text == name || self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(name))
    }

    /// Docker's names begin with a slash, and its filters may leave it out.
    fn matches(&self, name: &str) -> bool {
        self.fits(name) || self.fits(&format!("/{name}"))
    }
}

/// `80`, `80/tcp`, `80-90/tcp` against a container's port.
fn port_matches(port: &str, want: &str) -> bool {
    let split = |text: &str| {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        (ports.to_string(), protocol.to_string())
    };
    let ((have, protocol), (range, wanted_protocol)) = (split(port), split(want));
    let (first, last) = range.split_once('-').unwrap_or((&range, &range));
    let numbers: Option<(u16, u16, u16)> = (|| Some((have.parse().ok()?, first.parse().ok()?, last.parse().ok()?)))();
    protocol == wanted_protocol && numbers.is_some_and(|(have, first, last)| (first..=last).contains(&have))
}

/// Bytes of the container's own layer, and of that with all below.
pub(crate) async fn size(shared: &Arc<Shared>, view: Arc<ContainerView>) -> Result<(u64, u64), Error> {
    let shared = shared.clone();
    blocking::run(move || {
        let failed = || Error::failed("cannot measure the container");
        let own = shared.snapshots.usage(view.id.as_str()).map_err(failed())?.bytes;
        let image = shared.images.resolve(view.image_id.as_str(), None).map_or(0, |image| image.size);
        Ok((own, own + image))
    })
    .await?
}

/// Removes what doesn't run.
pub(crate) async fn prune(
    containers: &Containers,
    filters: &BTreeMap<String, Vec<String>>,
) -> Result<(Vec<ContainerId>, u64), Error> {
    if let Some(key) = filters.keys().find(|key| !matches!(key.as_str(), "label" | "label!" | "until")) {
        return Err(Error::Invalid(format!("invalid filter '{key}'")));
    }
    let until = match filters.get("until").and_then(|values| values.first()) {
        Some(text) => {
            let time = corten_base::time::parse_since(text, SystemTime::now())
                .map_err(|error| Error::Invalid(error.to_string()))?;
            corten_base::time::unix_nanos(time)
        }
        None => i64::MAX,
    };
    let labels = filters.iter().filter(|(key, _)| key.starts_with("label"));
    let options = ListOptions {
        all: true,
        limit: None,
        filters: labels.map(|(key, values)| (key.clone(), values.clone())).collect(),
    };
    let (mut removed, mut freed) = (Vec::new(), 0);
    for view in containers.list(&options)? {
        if view.state.is_running() || view.created_ns > until {
            continue;
        }
        let size = size(&containers.shared, view.clone()).await.map_or(0, |(own, _)| own);
        if containers.remove(view.id.as_str(), RemoveOptions::default()).await.is_ok() {
            removed.push(view.id.clone());
            freed += size;
        }
    }
    Ok((removed, freed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (want, expect) in [
            ("web", true),
            ("e", true),
            ("^web$", true),
            ("^/web$", true),
            ("/web", true),
            ("^eb", false),
            ("b$", true),
            ("w.b", true),
            ("^(web|db)$", true),
            ("^[^/w]", false),
            ("web(", false),
        ] {
            assert_eq!(NameFilter::new(want).matches("web"), expect, "{want}");
        }
    }

    #[test]
    fn ports() {
        for (want, expect) in
            [("80", true), ("80/tcp", true), ("80/udp", false), ("79-81", true), ("81-82", false), ("x", false)]
        {
            assert_eq!(port_matches("80/tcp", want), expect, "{want}");
        }
    }
}
