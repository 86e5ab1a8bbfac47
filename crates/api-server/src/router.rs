//! Which handler answers which method and path.
//!
//! Names of images and plugins hold slashes in the middle of a path (`/images/a/b/c/json`), so a pattern is a literal
//! beginning, a name and a literal end, and the first pattern that fits wins.

use crate::call::{Call, Work};
use crate::handlers;
use corten_api_types::ApiVersion;
use percent_encoding::percent_decode_str;

/// One operation of the API.
#[derive(Clone, Copy)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    /// As the specification writes it, with at most one name in braces.
    pub(crate) path: &'static str,
    /// The operation's name in the specification.
    pub(crate) operation: &'static str,
    pub(crate) handler: Handler,
}

/// What an operation does.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    /// Answers it.
    Run(fn(Call) -> Work),
    /// Says that it is not there yet.
    Missing,
    /// Says that there is no Swarm.
    Swarm,
}

/// Makes a [`Route`]: `route!(GET "/info" SystemInfo => info)`, `=> missing` or `=> swarm`.
macro_rules! route {
    ($method:ident $path:literal $operation:ident => missing) => {
        route!(@ $method $path $operation $crate::router::Handler::Missing)
    };
    ($method:ident $path:literal $operation:ident => swarm) => {
        route!(@ $method $path $operation $crate::router::Handler::Swarm)
    };
    ($method:ident $path:literal $operation:ident => $handler:expr) => {
        route!(@ $method $path $operation $crate::router::Handler::Run(|call| Box::pin($handler(call))))
    };
    (@ $method:ident $path:literal $operation:ident $handler:expr) => {
        $crate::router::Route {
            method: stringify!($method),
            path: $path,
            operation: stringify!($operation),
            handler: $handler,
        }
    };
}
pub(crate) use route;

/// A path taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// The version in front; none means the newest.
    pub(crate) version: Option<ApiVersion>,
    /// The rest, still percent-encoded.
    pub(crate) path: &'a str,
}

/// Splits `/v1.43/info` into version and path.
pub(crate) fn split_version(path: &str) -> Target<'_> {
    let versioned = path.strip_prefix("/v").and_then(|rest| {
        let (version, path) = rest.split_at(rest.find('/')?);
        Some(Target { version: Some(version.parse().ok()?), path })
    });
    versioned.unwrap_or(Target { version: None, path })
}

/// The first route for method and path, with the name in it.
pub(crate) fn find(method: &str, path: &str) -> Option<(&'static Route, String)> {
    handlers::ROUTES.iter().flat_map(|routes| routes.iter()).filter(|route| route.method == method).find_map(|route| {
        let name = capture(route.path, path)?;
        Some((route, percent_decode_str(name).decode_utf8_lossy().into_owned()))
    })
}

/// Whether any method is known for the path.
pub(crate) fn is_known(path: &str) -> bool {
    handlers::ROUTES.iter().flat_map(|routes| routes.iter()).any(|route| capture(route.path, path).is_some())
}

/// The name in `path` if it fits `pattern`; empty for a pattern without one. `{name}` spans slashes for images, plugins
/// and distribution, other names don't.
fn capture<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let Some((before, rest)) = pattern.split_once('{') else { return (pattern == path).then_some("") };
    let (kind, after) = rest.split_once('}').unwrap_or((rest, ""));
    let name = path.strip_prefix(before)?.strip_suffix(after)?;
    let spans = kind == "name" && !before.starts_with("/volumes/");
    (!name.is_empty() && (spans || !name.contains('/'))).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_operation_is_routed() {
        let listed = include_str!("../tests/operations.tsv").lines().map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            (fields[1], fields[2], fields[3])
        });
        let routed: BTreeSet<_> =
            handlers::ROUTES.iter().flat_map(|r| r.iter()).map(|r| (r.method, r.path, r.operation)).collect();
        let missing: Vec<_> = listed.filter(|operation| !routed.contains(operation)).collect();
        assert_eq!(missing, []);
    }

    fn check(method: &str, path: &str, operation: &str, name: &str) {
        let (route, found) = find(method, path).unwrap_or_else(|| panic!("{method} {path}"));
        assert_eq!((route.operation, found.as_str()), (operation, name), "{method} {path}");
    }

    #[test]
    fn routes() {
        check("GET", "/images/json", "ImageList", "");
        check("GET", "/images/a/b%3A1/json", "ImageInspect", "a/b:1");
        check("GET", "/images/json/json", "ImageInspect", "json");
        check("GET", "/images/get", "ImageGetAll", "");
        check("GET", "/images/localhost:5000/x/get", "ImageGet", "localhost:5000/x");
        check("DELETE", "/images/a/b", "ImageDelete", "a/b");
        check("POST", "/images/create", "ImageCreate", "");
        check("POST", "/images/a/b/tag", "ImageTag", "a/b");
        check("GET", "/containers/json", "ContainerList", "");
        check("GET", "/containers/json/json", "ContainerInspect", "json");
        check("POST", "/containers/create", "ContainerCreate", "");
        check("POST", "/containers/x/exec", "ContainerExec", "x");
        check("POST", "/containers/x/attach", "ContainerAttach", "x");
        check("GET", "/containers/x/attach/ws", "ContainerAttachWebsocket", "x");
        check("DELETE", "/containers/x", "ContainerDelete", "x");
        check("HEAD", "/_ping", "SystemPingHead", "");
        check("GET", "/plugins/a/b/json", "PluginInspect", "a/b");
        for (method, path) in [
            ("GET", "/containers/"),
            ("GET", "/containers/a/b/json"),
            ("POST", "/version"),
            ("GET", "/images//json/"),
            ("GET", "/"),
            ("GET", ""),
            ("DELETE", "/volumes/a/b"),
        ] {
            assert!(find(method, path).is_none(), "{method} {path}");
        }
        assert!(is_known("/version") && !is_known("/nonsense"));
    }

    #[test]
    fn versions() {
        let check = |path, version: Option<u16>, rest| {
            assert_eq!(split_version(path), Target { version: version.map(ApiVersion::new), path: rest });
        };
        check("/v1.24/info", Some(24), "/info");
        check("/info", None, "/info");
        check("/v1.x/info", None, "/v1.x/info");
        check("/version", None, "/version");
        check("/v1.24", None, "/v1.24");
        check("/volumes/a", None, "/volumes/a");
    }
}
