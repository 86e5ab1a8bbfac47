//! The engine itself: ping, version, info, events.

use crate::body::Gone;
use crate::call::{Answer, Call};
use crate::convert;
use crate::error::Failure;
use crate::response::{self, Response};
use crate::router::{Route, route};
use corten_api_types::deltas::Shape;
use corten_images::Credentials;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue, PRAGMA};
use std::time::{Duration, SystemTime};

pub(crate) const ROUTES: &[Route] = &[
    route!(GET "/_ping" SystemPing => ping),
    route!(HEAD "/_ping" SystemPingHead => ping),
    route!(GET "/version" SystemVersion => version),
    route!(GET "/info" SystemInfo => info),
    route!(GET "/events" SystemEvents => events),
    route!(GET "/system/df" SystemDataUsage => super::disk::usage),
    route!(POST "/system/check" SystemCheck => super::disk::check),
    route!(POST "/auth" SystemAuth => auth),
    route!(POST "/session" Session => missing),
    route!(POST "/grpc" Grpc => missing),
];

async fn ping(_call: Call) -> Answer {
    let mut response: Response = response::text("OK");
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    set("builder-version", "1");
    set("swarm", "inactive");
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    Ok(response)
}

async fn version(call: Call) -> Answer {
    Ok(response::json(&convert::system::version(call.engine.version())))
}

async fn info(call: Call) -> Answer {
    let info = convert::system::info(call.engine.info().await?);
    response::adapted(Shape::SystemInfo, call.version, &info)
}

/// Tries an account out with its registry. The request's body is never logged.
async fn auth(mut call: Call) -> Answer {
    #[derive(serde::Deserialize)]
    struct Address {
        #[serde(default)]
        serveraddress: String,
    }
    let body = call.bytes().await?;
    let address: Address = corten_api_types::decode(&body)?;
    let credentials = Credentials::from_json(&body).map_err(|error| Failure::invalid(error.to_string()))?;
    // An account without a name is one that no registry knows.
    let credentials = credentials.unwrap_or_else(|| Credentials::password("", ""));
    let identity = call.engine.login(&address.serveraddress, &credentials).await?;
    let answer = serde_json::json!({ "IdentityToken": identity.unwrap_or_default(), "Status": "Login Succeeded" });
    Ok(response::json(&answer))
}

/// Past events from `since` on, then what comes, until `until`. With neither, only what comes.
async fn events(call: Call) -> Answer {
    let (since, until) = (call.query.time_ns("since")?, call.query.time_ns("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        let (since, until) = (call.query.text("since"), call.query.text("until"));
        return Err(Failure::invalid(format!("`since` time ({since}) cannot be after `until` time ({until})")));
    }
    let filter = corten_events::Filter::new(call.query.filters()?)?;
    // Bounded by `until` alone, the past counts too.
    let since = since.or(until.map(|_| 0));
    let mut subscription = call.engine.subscribe(filter, since);
    Ok(response::pieces("application/json", move |sender| async move {
        let end = until.map(|until| {
            let distance = until.saturating_sub(corten_base::time::unix_nanos(SystemTime::now())).max(0);
            tokio::time::Instant::now() + Duration::from_nanos(distance.unsigned_abs())
        });
        loop {
            let event = match (subscription.try_next(), end) {
                (Err(_lagged), _) => return Err(Gone),
                (Ok(Some(event)), _) => event,
                (Ok(None), None) => subscription.next().await.map_err(|_lagged| Gone)?,
                (Ok(None), Some(end)) => match tokio::time::timeout_at(end, subscription.next()).await {
                    Ok(event) => event.map_err(|_lagged| Gone)?,
                    Err(_elapsed) => return Ok(()),
                },
            };
            if until.is_some_and(|until| event.time_ns > until) {
                return Ok(());
            }
            sender.send_json(&convert::event::message(&event)).await?;
        }
    }))
}
