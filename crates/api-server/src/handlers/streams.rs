//! Containers' streams: attach, logs, terminal size.

use crate::call::{Answer, Call};
use crate::error::Failure;
use crate::hijack;
use crate::query::Query;
use crate::response;
use crate::router::{Route, route};
use corten_engine::{AttachOptions, LogOptions};
use hyper::StatusCode;

pub(crate) const ROUTES: &[Route] = &[
    route!(POST "/containers/{id}/attach" ContainerAttach => attach),
    route!(GET "/containers/{id}/attach/ws" ContainerAttachWebsocket => missing),
    route!(GET "/containers/{id}/logs" ContainerLogs => logs),
    route!(POST "/containers/{id}/resize" ContainerResize => resize),
];

async fn attach(mut call: Call) -> Answer {
    call.bytes().await?;
    let options = AttachOptions {
        stdin: call.query.flag("stdin"),
        stdout: call.query.flag("stdout"),
        stderr: call.query.flag("stderr"),
        logs: call.query.flag("logs"),
        stream: call.query.flag("stream"),
        detach_keys: call.query.text("detachKeys").to_owned(),
    };
    let attached = call.engine.containers().attach(&call.name, options).await?;
    hijack::attach(call, attached)
}

async fn logs(call: Call) -> Answer {
    let query = &call.query;
    let options = LogOptions {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        since_ns: query.time_ns("since")?,
        until_ns: query.time_ns("until")?,
        timestamps: query.flag("timestamps"),
        // `all`, and anything else that is no number, is everything.
        tail: query.text("tail").parse().ok(),
        follow: query.flag("follow"),
        details: query.flag("details"),
    };
    if !options.stdout && !options.stderr {
        return Err(Failure::invalid("Bad parameters: you must choose at least one stream"));
    }
    let mut log = call.engine.containers().logs(&call.name, options).await?;
    let media = hijack::media(&call, log.tty());
    Ok(response::pieces(media, |sender| async move {
        while let Some(piece) = log.next().await {
            match piece {
                Ok(bytes) => sender.send(bytes).await?,
                Err(error) => {
                    tracing::warn!(error = error.message(), "cannot go on reading a log");
                    break;
                }
            }
        }
        Ok(())
    }))
}

async fn resize(call: Call) -> Answer {
    let (height, width) = size(&call.query)?;
    call.engine.containers().resize(&call.name, height, width).await?;
    Ok(response::empty(StatusCode::OK))
}

/// Height and width of a terminal.
pub(crate) fn size(query: &Query) -> Result<(u16, u16), Failure> {
    let side = |key: &str, what: &str| {
        let text = query.text(key);
        text.parse::<u16>().map_err(|error| {
            let reason = match error.kind() {
                std::num::IntErrorKind::PosOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Failure::invalid(format!("invalid resize {what} {text:?}: {reason}"))
        })
    };
    Ok((side("h", "height")?, side("w", "width")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |text: &str| size(&Query::parse(text)).map_err(|failure| failure.message);
        assert_eq!(check("h=24&w=80"), Ok((24, 80)));
        assert_eq!(check("h=x&w=80"), Err("invalid resize height \"x\": invalid syntax".to_owned()));
        assert_eq!(check("h=1&w=99999999"), Err("invalid resize width \"99999999\": value out of range".to_owned()));
    }
}
