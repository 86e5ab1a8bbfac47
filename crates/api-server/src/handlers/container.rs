//! Containers: creation, inspection, lists, removal.

use crate::call::{Answer, Call};
use crate::convert;
use crate::error::Failure;
use crate::query::Query;
use crate::response;
use crate::router::{Route, route};
use corten_api_types::deltas::{self, Shape};
use corten_api_types::{ContainerCreateResponse, ContainersPruned};
use corten_base::{ErrorKind, Platform};
use corten_engine::{ContainerView, CreateContainer, ListOptions, RemoveOptions};
use hyper::StatusCode;
use std::sync::Arc;
use std::time::SystemTime;

pub(crate) const ROUTES: &[Route] = &[
    route!(GET "/containers/json" ContainerList => list),
    route!(POST "/containers/create" ContainerCreate => create),
    route!(POST "/containers/prune" ContainerPrune => prune),
    route!(GET "/containers/{id}/json" ContainerInspect => inspect),
    route!(DELETE "/containers/{id}" ContainerDelete => remove),
    route!(GET "/containers/{id}/top" ContainerTop => top),
    route!(POST "/containers/{id}/rename" ContainerRename => rename),
    route!(GET "/containers/{id}/changes" ContainerChanges => missing),
    route!(GET "/containers/{id}/export" ContainerExport => missing),
    route!(GET "/containers/{id}/archive" ContainerArchive => missing),
    route!(HEAD "/containers/{id}/archive" ContainerArchiveInfo => missing),
    route!(PUT "/containers/{id}/archive" PutContainerArchive => missing),
];

async fn create(mut call: Call) -> Answer {
    let name = call.query.given("name").map(str::to_owned);
    let platform = platform(&call.query)?;
    let mut body = call.json_value().await?;
    deltas::adapt_input(Shape::ContainerCreate, call.version, &mut body);
    let (spec, echo) = convert::create::container(corten_api_types::decode_value(&body)?)?;
    let created = call.engine.containers().create(CreateContainer { name, platform, spec, echo }).await?;
    let response = ContainerCreateResponse { id: created.id.to_string(), warnings: created.warnings };
    Ok(response::json_with(StatusCode::CREATED, &response))
}

/// The platform that the query asks for.
pub(crate) fn platform(query: &Query) -> Result<Option<Platform>, Failure> {
    Ok(query.given("platform").map(Platform::parse).transpose()?)
}

async fn list(call: Call) -> Answer {
    let limit = call.query.number::<i64>("limit")?.and_then(|limit| usize::try_from(limit).ok());
    let options = ListOptions {
        all: call.query.flag("all"),
        limit: limit.filter(|limit| *limit > 0),
        filters: call.query.filters()?,
    };
    let now = SystemTime::now();
    let mut lines = Vec::new();
    for view in call.engine.containers().list(&options)? {
        let sizes = sizes(&call, &view).await?;
        lines.push(convert::list::summary(&view, sizes, now));
    }
    response::adapted_list(Shape::ContainerSummary, call.version, &lines)
}

/// The sizes where the client asked for them; a container that vanishes meanwhile has none.
async fn sizes(call: &Call, view: &Arc<ContainerView>) -> Result<Option<(u64, u64)>, Failure> {
    if !call.query.flag("size") {
        return Ok(None);
    }
    match call.engine.containers().size(view.id.as_str()).await {
        Ok(sizes) => Ok(Some(sizes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn inspect(call: Call) -> Answer {
    let view = call.engine.containers().inspect(&call.name)?;
    let shown = convert::inspect::container(&view, sizes(&call, &view).await?)?;
    response::adapted(Shape::ContainerInspect, call.version, &shown)
}

async fn remove(call: Call) -> Answer {
    if call.query.flag("link") {
        return Err(Failure::unsupported("removing a link"));
    }
    let options = RemoveOptions { force: call.query.flag("force"), volumes: call.query.flag("v") };
    call.engine.containers().remove(&call.name, options).await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}

async fn rename(call: Call) -> Answer {
    call.engine.containers().rename(&call.name, call.query.text("name")).await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}

async fn top(call: Call) -> Answer {
    let arguments = call.query.given("ps_args").unwrap_or("-ef");
    let (titles, processes) = call.engine.containers().top(&call.name, arguments).await?;
    Ok(response::json(&serde_json::json!({"Processes": processes, "Titles": titles})))
}

async fn prune(call: Call) -> Answer {
    let filters = call.query.filters()?;
    crate::query::only(&filters, &["label", "label!", "until"])?;
    let (ids, space_reclaimed) = call.engine.containers().prune(&filters).await?;
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let containers_deleted = Some(ids).filter(|ids| !ids.is_empty());
    Ok(response::json(&ContainersPruned { containers_deleted, space_reclaimed }))
}
