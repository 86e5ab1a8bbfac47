//! Containers' limits and what they use.

use crate::call::{Answer, Call};
use crate::convert::{stats, update};
use crate::error::Failure;
use crate::response;
use crate::router::{Route, route};
use corten_api_types::deltas::{self, Shape};
use corten_api_types::{ContainerUpdateRequest, ContainerUpdateResponse};

pub(crate) const ROUTES: &[Route] = &[
    route!(POST "/containers/{id}/update" ContainerUpdate => update),
    route!(GET "/containers/{id}/stats" ContainerStats => stats),
];

/// Docker knew this limit until its API 1.42; newer clients' are not read, older ones hear that it is not there.
const NO_KERNEL_MEMORY: &str = "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. \
                                Limitation discarded.";

async fn update(mut call: Call) -> Answer {
    let mut body = call.json_value().await?;
    deltas::adapt_input(Shape::ContainerUpdate, call.version, &mut body);
    let request: ContainerUpdateRequest = corten_api_types::decode_value(&body)?;
    let asks_kernel_memory = request.kernel_memory > 0 && !call.since(42);
    let mut warnings = call.engine.containers().update(&call.name, update::change(request)?).await?;
    if asks_kernel_memory {
        warnings.push(NO_KERNEL_MEMORY.to_owned());
    }
    let warnings = Some(warnings).filter(|warnings| !warnings.is_empty());
    Ok(response::json(&ContainerUpdateResponse { warnings }))
}

/// A stream of samples; without `stream` one that knows the one before it, and with `one-shot` one that doesn't.
async fn stats(call: Call) -> Answer {
    let containers = call.engine.containers();
    let view = containers.inspect(&call.name)?;
    let streams = call.query.all("stream").is_empty() || call.query.flag("stream");
    let is_one_shot = call.query.flag("one-shot") && call.since(41);
    if streams && is_one_shot {
        return Err(Failure::invalid("cannot have stream=true and one-shot=true"));
    }
    let id = view.id.as_str();
    if !streams && !view.state.has_process() {
        return Ok(response::json(&stats::Frames::default().frame(&view, None)));
    }
    if is_one_shot {
        let sample = containers.sample(id).await?;
        return Ok(response::json(&stats::Frames::default().frame(&sample.view, sample.usage.as_deref())));
    }
    let (mut watcher, mut frames) = (containers.watch(id)?, stats::Frames::default());
    if streams {
        return Ok(response::pieces("application/json", |sender| async move {
            while let Some(sample) = watcher.next().await {
                sender.send_json(&frames.frame(&sample.view, sample.usage.as_deref())).await?;
            }
            Ok(())
        }));
    }
    let mut frame = None;
    for _ in 0..2 {
        let Some(sample) = watcher.next().await else { break };
        frame = Some(frames.frame(&sample.view, sample.usage.as_deref()));
    }
    Ok(response::json(&frame.unwrap_or_else(|| frames.frame(&view, None))))
}
