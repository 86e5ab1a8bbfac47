//! Volumes.

use crate::call::{Answer, Call};
use crate::convert::volume as convert;
use crate::query;
use crate::response;
use crate::router::{Route, route};
use corten_api_types::{VolumeCreateRequest, VolumeListResponse, VolumesPruned};
use hyper::StatusCode;

pub(crate) const ROUTES: &[Route] = &[
    route!(GET "/volumes" VolumeList => list),
    route!(GET "/volumes/{name}" VolumeInspect => inspect),
    route!(POST "/volumes/create" VolumeCreate => create),
    route!(POST "/volumes/prune" VolumePrune => prune),
    route!(PUT "/volumes/{name}" VolumeUpdate => missing),
    route!(DELETE "/volumes/{name}" VolumeDelete => remove),
];

async fn list(call: Call) -> Answer {
    let filters = convert::filters(call.query.filters()?)?;
    let volumes = call.engine.volumes().list(filters).await?;
    let volumes = volumes.iter().map(convert::volume).collect();
    Ok(response::json(&VolumeListResponse { volumes, warnings: None }))
}

async fn inspect(call: Call) -> Answer {
    let volume = call.engine.volumes().inspect(&call.name).await?;
    Ok(response::json(&convert::volume(&volume)))
}

async fn create(mut call: Call) -> Answer {
    let request: VolumeCreateRequest = call.json().await?;
    let volume = call.engine.volumes().create(convert::create(request)?).await?;
    Ok(response::json_with(StatusCode::CREATED, &convert::volume(&volume)))
}

async fn remove(call: Call) -> Answer {
    call.engine.volumes().remove(&call.name, call.query.flag("force")).await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}

/// Since API 1.42 only anonymous volumes, unless the filter `all` is set.
async fn prune(call: Call) -> Answer {
    let mut filters = call.query.filters()?;
    query::only(&filters, &["all", "label", "label!"])?;
    let all = query::boolean(&filters, "all")?.unwrap_or(!call.since(42));
    filters.remove("all");
    let (names, space_reclaimed) = call.engine.volumes().prune(all, convert::filters(filters)?).await?;
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let volumes_deleted = Some(names).filter(|names| !names.is_empty());
    Ok(response::json(&VolumesPruned { volumes_deleted, space_reclaimed }))
}
