//! Processes started in running containers.

use super::streams;
use crate::call::{Answer, Call};
use crate::convert::create::console_size;
use crate::hijack;
use crate::response;
use crate::router::{Route, route};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_api_types::{ExecCreateRequest, ExecInspect, ExecStartRequest, IdResponse, ProcessConfig};
use corten_engine::{DetachKeys, ExecSpec, ExecView, StartExec};
use hyper::StatusCode;

pub(crate) const ROUTES: &[Route] = &[
    route!(POST "/containers/{id}/exec" ContainerExec => create),
    route!(POST "/exec/{id}/start" ExecStart => start),
    route!(POST "/exec/{id}/resize" ExecResize => resize),
    route!(GET "/exec/{id}/json" ExecInspect => inspect),
];

async fn create(mut call: Call) -> Answer {
    let request: ExecCreateRequest = call.json_or_default().await?;
    let spec = ExecSpec {
        args: request.cmd.unwrap_or_default(),
        env: request.env.unwrap_or_default(),
        user: request.user,
        working_dir: request.working_dir,
        tty: request.tty,
        privileged: request.privileged,
        attach_stdin: request.attach_stdin,
        attach_stdout: request.attach_stdout,
        attach_stderr: request.attach_stderr,
        detach_keys: request.detach_keys,
        console_size: request.console_size.and_then(console_size),
    };
    let id = call.engine.execs().create(&call.name, spec).await?;
    Ok(response::json_with(StatusCode::CREATED, &IdResponse { id: id.to_string() }))
}

/// Whether there is a terminal was said at the exec's creation; what this request says of it is not needed.
async fn start(mut call: Call) -> Answer {
    let request: ExecStartRequest = call.json_or_default().await?;
    let options = StartExec { detach: request.detach, console_size: request.console_size.and_then(console_size) };
    match call.engine.execs().start(&call.name, options).await? {
        None => Ok(response::empty(StatusCode::OK)),
        Some(attached) => hijack::attach(call, attached),
    }
}

async fn resize(call: Call) -> Answer {
    let (height, width) = streams::size(&call.query)?;
    call.engine.execs().resize(&call.name, height, width).await?;
    Ok(response::empty(StatusCode::OK))
}

async fn inspect(call: Call) -> Answer {
    Ok(response::json(&shown(&call.engine.execs().inspect(&call.name)?)))
}

fn shown(view: &ExecView) -> ExecInspect {
    let spec = &view.spec;
    let (entrypoint, arguments) = spec.args.split_first().map(|(f, r)| (f.clone(), r.to_vec())).unwrap_or_default();
    ExecInspect {
        id: view.id.to_string(),
        running: view.running,
        exit_code: view.exit_code,
        process_config: ProcessConfig {
            tty: spec.tty,
            entrypoint,
            arguments,
            privileged: Some(spec.privileged),
            user: spec.user.clone(),
        },
        open_stdin: spec.attach_stdin,
        open_stderr: spec.attach_stderr,
        open_stdout: spec.attach_stdout,
        can_remove: false,
        container_id: view.container_id.to_string(),
        detach_keys: detach_keys(&spec.detach_keys),
        pid: view.pid,
    }
}

/// The keys' bytes in base64; the notation was checked when the exec was made.
fn detach_keys(notation: &str) -> String {
    match DetachKeys::parse(notation) {
        Ok(keys) if !notation.is_empty() => STANDARD.encode(keys.sequence()),
        _ => String::new(),
    }
}
