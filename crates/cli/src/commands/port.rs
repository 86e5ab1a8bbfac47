//! `corten port`

use corten_api_types::{ContainerInspect, PortBinding};

use crate::command::{Arguments, Command};
use crate::commands::segment;
use crate::failure::{Failure, Outcome};
use crate::format::natural_order;
use crate::matches::Matches;
use crate::session::Session;
use crate::streams::{Sink, write_plain};

pub(crate) static COMMAND: Command = Command {
    spellings: &["container port", "port"],
    usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    about: "Show where a container's ports are published",
    flags: &[],
    arguments: Arguments::Between(1, 2),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let name = &matches.arguments[0];
    let container: ContainerInspect =
        session.client()?.get(&format!("/containers/{}/json", segment(name))).send()?.json()?;
    let ports = container.network_settings.ports.unwrap_or_default();
    let mut lines = Vec::new();
    let address = |binding: &PortBinding| match binding.host_ip.contains(':') {
        true => format!("[{}]:{}", binding.host_ip, binding.host_port),
        false => format!("{}:{}", binding.host_ip, binding.host_port),
    };
    match matches.arguments.get(1) {
        Some(wanted) => {
            let key = if wanted.contains('/') { wanted.clone() } else { format!("{wanted}/tcp") };
            let bindings = ports.get(&key).and_then(Option::as_ref);
            let bindings = bindings
                .ok_or_else(|| Failure::message(format!("Error: No public port '{wanted}' published for {name}")))?;
            lines.extend(bindings.iter().map(address));
        }
        None => {
            for (port, bindings) in &ports {
                lines.extend(bindings.iter().flatten().map(|binding| format!("{port} -> {}", address(binding))));
            }
        }
    }
    lines.sort_by(|left, right| natural_order(left, right));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    write_plain(Sink::Stdout, text.as_bytes())
}
