//! Events.

use corten_api_types::{EventActor, EventMessage};
use corten_events::{Event, Kind};

/// One line of `GET /events`, with the repetitions that old clients read.
pub(crate) fn message(event: &Event) -> EventMessage {
    let attributes = event.actor.attributes.clone();
    let from = match event.kind {
        Kind::Container => attributes.get("image").cloned().unwrap_or_default(),
        _ => String::new(),
    };
    let is_legacy = matches!(event.kind, Kind::Container | Kind::Image);
    EventMessage {
        status: if is_legacy { event.action.clone() } else { String::new() },
        id: if is_legacy { event.actor.id.clone() } else { String::new() },
        from,
        kind: event.kind.as_str().to_owned(),
        action: event.action.clone(),
        actor: EventActor { id: event.actor.id.clone(), attributes },
        scope: "local".to_owned(),
        time: event.time_ns.div_euclid(1_000_000_000),
        time_nano: event.time_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_events::Actor;

    #[test]
    fn lines() {
        let event = |kind| Event {
            namespace: corten_base::Namespace::default(),
            kind,
            action: "create".to_owned(),
            actor: Actor::new("abc", [("image", "busybox")]),
            time_ns: 1_500_000_000,
        };
        assert_eq!(
            serde_json::to_string(&message(&event(Kind::Container))).unwrap(),
            r#"{"status":"create","id":"abc","from":"busybox","Type":"container","Action":"create","Actor":{"ID":"abc","Attributes":{"image":"busybox"}},"scope":"local","time":1,"timeNano":1500000000}"#
        );
        assert!(serde_json::to_string(&message(&event(Kind::Network))).unwrap().starts_with(r#"{"Type":"network""#));
    }
}
