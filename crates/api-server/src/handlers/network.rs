//! Networks.

use crate::call::{Answer, Call};
use crate::convert::network as convert;
use crate::query;
use crate::response;
use crate::router::{Route, route};
use corten_api_types::{NetworkCreateRequest, NetworkCreateResponse, NetworksPruned};
use corten_network::Network;
use hyper::StatusCode;
use std::collections::BTreeMap;
use std::time::SystemTime;

pub(crate) const ROUTES: &[Route] = &[
    route!(GET "/networks" NetworkList => list),
    route!(GET "/networks/{id}" NetworkInspect => inspect),
    route!(POST "/networks/create" NetworkCreate => create),
    route!(POST "/networks/prune" NetworkPrune => prune),
    route!(POST "/networks/{id}/connect" NetworkConnect => missing),
    route!(POST "/networks/{id}/disconnect" NetworkDisconnect => missing),
    route!(DELETE "/networks/{id}" NetworkDelete => remove),
];

async fn list(call: Call) -> Answer {
    let filters = call.query.filters()?;
    convert::check_filters(&filters)?;
    let states = call.engine.networks().list().into_iter();
    let wanted = states.filter(|state| convert::passes(&filters, &state.network, state.containers.is_empty()));
    let networks: Vec<_> = wanted.map(|state| convert::network(&state.network, BTreeMap::new())).collect();
    Ok(response::json(&networks))
}

async fn inspect(call: Call) -> Answer {
    let state = call.engine.networks().inspect(&call.name)?;
    let containers = state.containers.iter().filter_map(|view| convert::endpoint(view, &state.network));
    Ok(response::json(&convert::network(&state.network, containers.collect())))
}

async fn create(mut call: Call) -> Answer {
    let request: NetworkCreateRequest = call.json().await?;
    let network = call.engine.networks().create(convert::create(request)?).await?;
    let response = NetworkCreateResponse { id: network.id.to_string(), warning: String::new() };
    Ok(response::json_with(StatusCode::CREATED, &response))
}

async fn remove(call: Call) -> Answer {
    call.engine.networks().remove(&call.name).await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}

async fn prune(call: Call) -> Answer {
    let filters = call.query.filters()?;
    query::only(&filters, &["label", "label!", "until"])?;
    let until = filters.get("until").and_then(|values| values.first());
    let until = until.map(|text| corten_base::time::parse_since(text, SystemTime::now())).transpose()?;
    let wanted = move |network: &Network| {
        until.is_none_or(|until| network.created < until) && convert::passes(&filters, network, true)
    };
    let names = call.engine.networks().prune(wanted).await?;
    let networks_deleted = Some(names).filter(|names| !names.is_empty());
    Ok(response::json(&NetworksPruned { networks_deleted }))
}
