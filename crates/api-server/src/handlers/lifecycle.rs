//! Containers' lives: start, stop, signals, waiting.

use crate::call::{Answer, Call};
use crate::error::Failure;
use crate::response;
use crate::router::{Route, route};
use corten_api_types::{WaitError, WaitResponse};
use corten_engine::{StopOptions, WaitCondition};
use hyper::StatusCode;

pub(crate) const ROUTES: &[Route] = &[
    route!(POST "/containers/{id}/start" ContainerStart => start),
    route!(POST "/containers/{id}/stop" ContainerStop => stop),
    route!(POST "/containers/{id}/restart" ContainerRestart => restart),
    route!(POST "/containers/{id}/kill" ContainerKill => kill),
    route!(POST "/containers/{id}/pause" ContainerPause => pause),
    route!(POST "/containers/{id}/unpause" ContainerUnpause => unpause),
    route!(POST "/containers/{id}/wait" ContainerWait => wait),
];

fn done() -> Answer {
    Ok(response::empty(StatusCode::NO_CONTENT))
}

async fn start(mut call: Call) -> Answer {
    if !call.query.text("checkpoint").is_empty() {
        return Err(Failure::unsupported("starting from a checkpoint"));
    }
    // A host configuration in the body was a way of API 1.23; the body only has to be small.
    call.bytes().await?;
    call.engine.containers().start(&call.name).await?;
    done()
}

fn stop_options(call: &Call) -> Result<StopOptions, Failure> {
    let signal = call.query.given("signal").map(str::to_owned);
    Ok(StopOptions { signal, timeout: call.query.number("t")? })
}

async fn stop(call: Call) -> Answer {
    call.engine.containers().stop(&call.name, stop_options(&call)?).await?;
    done()
}

async fn restart(call: Call) -> Answer {
    call.engine.containers().restart(&call.name, stop_options(&call)?).await?;
    done()
}

async fn kill(call: Call) -> Answer {
    let signal = call.query.text("signal");
    if !signal.is_empty() && corten_base::signal::parse(signal).is_err() {
        let text = match signal.parse::<u32>() {
            Ok(number) => format!("the linux daemon does not support signal {number}"),
            Err(_) => format!("invalid signal: {signal}"),
        };
        return Err(Failure::invalid(format!("cannot kill container: {}: {text}", call.name)));
    }
    call.engine.containers().kill(&call.name, call.query.text("signal")).await?;
    done()
}

async fn pause(call: Call) -> Answer {
    call.engine.containers().pause(&call.name).await?;
    done()
}

async fn unpause(call: Call) -> Answer {
    call.engine.containers().unpause(&call.name).await?;
    done()
}

/// The headers go out at once: a client that waits before it starts the container relies on having them.
async fn wait(call: Call) -> Answer {
    let condition = match call.query.text("condition") {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(Failure::invalid(format!("invalid condition: {other:?}"))),
    };
    let waiting = call.engine.containers().wait(&call.name, condition)?;
    Ok(response::pieces("application/json", |sender| async move {
        let ended = waiting.finished().await;
        let error = ended.error.map(|message| WaitError { message });
        sender.send_json(&WaitResponse { error, status_code: ended.exit_code.into() }).await
    }))
}
