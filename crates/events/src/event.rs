//! What happened, to what, and when: Docker's event message without its JSON form.

use std::collections::BTreeMap;

use corten_base::Namespace;

/// The sort of object that an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// The daemon itself (`reload`).
    Daemon,
    /// The build cache.
    Builder,
    /// A plugin.
    Plugin,
}

impl Kind {
    /// The word that Docker's API uses for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Container => "container",
            Kind::Image => "image",
            Kind::Network => "network",
            Kind::Volume => "volume",
            Kind::Daemon => "daemon",
            Kind::Builder => "builder",
            Kind::Plugin => "plugin",
        }
    }
}

/// The object that an event is about, with what Docker tells of it beside the id: names, labels, exit codes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actor {
    /// The object's id (a container's 64 digits, a volume's name, an image's id or reference).
    pub id: String,
    /// Attributes by name, labels among them.
    pub attributes: BTreeMap<String, String>,
}

impl Actor {
    /// An actor with the given attributes.
    pub fn new<K: Into<String>, V: Into<String>>(
        id: impl Into<String>,
        attributes: impl IntoIterator<Item = (K, V)>,
    ) -> Actor {
        let attributes = attributes.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        Actor { id: id.into(), attributes }
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whose object it is; readers see their own namespace only.
    pub namespace: Namespace,
    /// What sort of object.
    pub kind: Kind,
    /// Docker's word for what happened: `create`, `die`, `exec_create: true` ...
    pub action: String,
    /// To what it happened.
    pub actor: Actor,
    /// When: nanoseconds since 1970. Set by the log, never earlier than the event before it.
    pub time_ns: i64,
}
