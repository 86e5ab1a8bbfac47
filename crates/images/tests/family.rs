//! Images that several names have a share in: an index for several platforms, another one that has one of its images too, and
//! the lone manifest of that image. What one name gives up stays for the others. Needs root: layers have owners and devices.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "common/registry.rs"]
mod registry;

use common::{Fixture, Opened, nobody};
use corten_base::Platform;
use corten_images::{Deleted, ManifestKind};
use corten_testkit::image::{Packing, TestImage, tar};
use registry::{INDEX, Registry};
use serde_json::{Value, json};

/// What a 64-bit machine runs besides.
const KIN: &str = if cfg!(target_arch = "aarch64") { "arm" } else { "386" };
/// One of the pulls, and what is wanted of it.
type Pulled = (&'static str, &'static str);

fn host() -> String {
    Platform::host().architecture
}

fn platform(architecture: &str) -> Platform {
    Platform::parse(&format!("linux/{architecture}")).unwrap()
}

/// `app:multi` and `app:other` are for this machine and for its kin, of which they have the same image; `app:lone` is that image.
/// The images have a layer in common.
fn registry() -> Registry {
    let registry = Registry::start();
    let shared = tar(&[("shared", &[7; 5000])]);
    let push = |tag: &str, architecture: &str| -> Value {
        let own = tar(&[("platform", architecture.as_bytes()), ("tag", tag.as_bytes())]);
        let image = TestImage { architecture: architecture.to_owned(), ..TestImage::new("x:1", [shared.clone(), own]) };
        let mut entry = registry.push("app", tag, &image, Packing::Gzip);
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entry
    };
    let kin = push("lone", KIN);
    for tag in ["multi", "other"] {
        let index =
            json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [push(&format!("of-{tag}"), &host()), kin] });
        registry.manifest("app", tag, index.to_string().into_bytes(), INDEX);
    }
    registry
}

struct Place {
    fixture: Fixture,
    registry: Registry,
    store: Opened,
    /// What went before, to tell which order of things fails.
    story: String,
}

impl Place {
    fn after(pulls: &[Pulled]) -> Place {
        let fixture = Fixture::new();
        let (registry, store) = (registry(), fixture.open());
        for (tag, architecture) in pulls {
            let wanted = platform(architecture);
            registry.pull_for(&store, &format!("app:{tag}"), Some(&wanted)).unwrap();
        }
        Place { fixture, registry, store, story: format!("{pulls:?}") }
    }

    fn name(&self, tag: &str) -> String {
        self.registry.name(&format!("app:{tag}"))
    }

    /// The architectures whose images are whole behind a name, and can be unpacked; none if there is no such name.
    #[track_caller]
    fn behind(&self, tag: &str) -> Vec<String> {
        assert_eq!(self.store.images.check(false, &nobody).unwrap().problems, [], "{}", self.story);
        let Ok(found) = self.store.images.resolve(&self.name(tag), None) else { return Vec::new() };
        let manifests = self.store.images.manifests(&found.target).unwrap().into_iter().filter(|one| one.available);
        let mut architectures: Vec<String> = manifests
            .filter_map(|one| match one.kind {
                ManifestKind::Image { platform, .. } => Some(platform.architecture),
                _ => None,
            })
            .collect();
        architectures.sort();
        for architecture in &architectures {
            let image = self.store.images.resolve(&self.name(tag), Some(&platform(architecture))).unwrap();
            drop(self.store.images.ensure_unpacked(&image).unwrap());
        }
        architectures
    }

    fn remove(&mut self, tag: &str) -> Vec<Deleted> {
        self.story += &format!(", rmi {tag}");
        self.store.images.remove(&self.name(tag), false, false, &nobody).unwrap()
    }

    fn remove_platform(&mut self, tag: &str, architecture: &str) {
        self.story += &format!(", rmi --platform {architecture} {tag}");
        let name = self.name(tag);
        self.store.images.remove_platforms(&name, &[platform(architecture)], (true, false), &nobody).unwrap();
    }

    /// No name is left, and nothing else.
    #[track_caller]
    fn is_empty(&self) {
        assert_eq!(self.store.holdings(&self.fixture), [0; 4], "{}", self.story);
        assert_eq!(self.store.images.count().unwrap(), 0, "{}", self.story);
    }
}

/// All orders of some pulls.
fn orders(pulls: &[Pulled]) -> Vec<Vec<Pulled>> {
    if pulls.is_empty() {
        return vec![Vec::new()];
    }
    let first = |at: usize| {
        let mut rest = pulls.to_vec();
        let first = rest.remove(at);
        orders(&rest).into_iter().map(move |order| [vec![first], order].concat())
    };
    (0..pulls.len()).flat_map(first).collect()
}

fn both() -> Vec<String> {
    let mut both = vec![host(), KIN.to_owned()];
    both.sort();
    both
}

#[test]
fn a_lone_name_and_an_index_share_an_image() {
    let host: &'static str = host().leak();
    for pulls in orders(&[("multi", host), ("multi", KIN), ("lone", KIN)]) {
        // The lone name goes: the index keeps what was pulled for it.
        let mut place = Place::after(&pulls);
        assert_eq!([place.behind("multi"), place.behind("lone")], [both(), vec![KIN.to_owned()]], "{}", place.story);
        let told = place.remove("lone");
        assert!(told.iter().all(|one| matches!(one, Deleted::Untagged(_))), "{}: {told:?}", place.story);
        assert_eq!(place.behind("multi"), both(), "{}", place.story);
        assert_eq!(place.store.images.count().unwrap(), 1, "{}", place.story);
        place.remove("multi");
        place.is_empty();

        // The index goes: the lone name keeps its image, and nothing more.
        let mut place = Place::after(&pulls);
        place.remove("multi");
        assert_eq!([place.behind("multi"), place.behind("lone")], [vec![], vec![KIN.to_owned()]], "{}", place.story);
        assert_eq!(place.store.holdings(&place.fixture)[1], 2, "{}", place.story);
        place.remove("lone");
        place.is_empty();

        // The index gives the platform up: the lone name's image stays until that goes too.
        let mut place = Place::after(&pulls);
        place.remove_platform("multi", KIN);
        assert_eq!(place.behind("lone"), [KIN], "{}", place.story);
        place.remove("lone");
        assert_eq!(place.behind("multi"), [host], "{}", place.story);
        place.remove("multi");
        place.is_empty();

        // And the other way round: without its own image the index's name means its kin's, as the lone one does.
        let mut place = Place::after(&pulls);
        place.remove_platform("multi", host);
        assert_eq!([place.behind("multi"), place.behind("lone")], [[KIN], [KIN]], "{}", place.story);
        place.remove("lone");
        assert_eq!(place.behind("multi"), [KIN], "{}", place.story);
        place.remove("multi");
        place.is_empty();
    }
}

#[test]
fn two_indexes_share_an_image() {
    let host: &'static str = host().leak();
    for pulls in orders(&[("multi", KIN), ("other", KIN), ("other", host)]) {
        let pulls = [vec![("multi", host)], pulls].concat();
        let mut place = Place::after(&pulls);
        assert_eq!([place.behind("multi"), place.behind("other")], [both(), both()], "{}", place.story);
        place.remove("other");
        assert_eq!(place.behind("multi"), both(), "{}", place.story);
        place.remove("multi");
        place.is_empty();

        let mut place = Place::after(&pulls);
        place.remove_platform("multi", KIN);
        assert_eq!(place.behind("other"), both(), "{}", place.story);
        place.remove("other");
        assert_eq!(place.behind("multi"), [host], "{}", place.story);
        place.remove("multi");
        place.is_empty();
    }
}
