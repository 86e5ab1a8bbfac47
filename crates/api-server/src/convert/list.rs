//! `GET /containers/json`.

use super::inspect;
use corten_api_types::{ContainerSummary, HostConfigSummary, NetworkSettingsSummary, PortSummary};
use corten_base::time::from_unix_nanos;
use corten_base::units::human_duration;
use corten_engine::life::{Phase, State};
use corten_engine::{ContainerView, NetworkView};
use std::time::SystemTime;

/// One line of the list. Sizes are bytes of its own layer and of the whole root file system.
pub(crate) fn summary(view: &ContainerView, sizes: Option<(u64, u64)>, now: SystemTime) -> ContainerSummary {
    let signed = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
    let annotations = super::null_if_empty(&view.spec.annotations);
    ContainerSummary {
        id: view.id.to_string(),
        names: vec![format!("/{}", view.name)],
        image: view.spec.image.clone(),
        image_id: view.image_id.to_string(),
        command: command(&view.args),
        created: view.created_seconds(),
        ports: ports(&view.network),
        size_rw: sizes.map(|(own, _)| signed(own)).filter(|size| *size > 0),
        size_root_fs: sizes.map(|(_, whole)| signed(whole)).filter(|size| *size > 0),
        labels: view.spec.labels.clone(),
        state: view.state.phase.as_str().to_owned(),
        status: status(&view.state, now),
        host_config: HostConfigSummary { network_mode: view.spec.network_mode.as_text(), annotations },
        network_settings: NetworkSettingsSummary { networks: inspect::networks(view) },
        mounts: inspect::mounts(view),
        ..ContainerSummary::default()
    }
}

/// Program and arguments, those with a space in quotes.
fn command(args: &[String]) -> String {
    let quoted = |(position, arg): (usize, &String)| match position > 0 && arg.contains(' ') {
        true => format!("'{arg}'"),
        false => arg.clone(),
    };
    args.iter().enumerate().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Docker's sentence on a container's state.
fn status(state: &State, now: SystemTime) -> String {
    let since = |ns: Option<i64>| {
        let then = ns.map_or(now, from_unix_nanos);
        human_duration(now.duration_since(then).unwrap_or_default())
    };
    match state.phase {
        Phase::Running => format!("Up {}", since(state.started_ns)),
        Phase::Paused => format!("Up {} (Paused)", since(state.started_ns)),
        Phase::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(state.finished_ns)),
        Phase::Removing => "Removal In Progress".to_owned(),
        Phase::Dead => "Dead".to_owned(),
        Phase::Exited => format!("Exited ({}) {} ago", state.exit_code, since(state.finished_ns)),
        Phase::Created | Phase::Starting => "Created".to_owned(),
    }
}

fn ports(network: &NetworkView) -> Vec<PortSummary> {
    let mut summaries = Vec::new();
    for (port, bindings) in &network.ports {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let plain = PortSummary {
            private_port: number.parse().unwrap_or_default(),
            protocol: protocol.to_owned(),
            ..PortSummary::default()
        };
        if bindings.is_empty() {
            summaries.push(plain);
            continue;
        }
        summaries.extend(bindings.iter().map(|binding| PortSummary {
            ip: binding.host_ip.clone(),
            public_port: binding.host_port,
            ..plain.clone()
        }));
    }
    summaries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let now = from_unix_nanos(62_500_000_000);
        let view = inspect::tests::view();
        let line = summary(&view, None, now);
        assert_eq!(line.names, ["/web"]);
        assert_eq!(line.status, "Up About a minute");
        assert_eq!((line.ports.len(), line.ports[0].public_port, line.ports[1].private_port), (2, 8080, 90));
        assert_eq!(line.host_config.network_mode, "bridge");
        let args = ["sh", "-c", "a b"].map(str::to_owned);
        assert_eq!(command(&args), "sh -c 'a b'");
    }

    #[test]
    fn sentences() {
        let now = from_unix_nanos(10_000_000_000);
        let check = |phase: Phase, expect: &str| {
            let state = State { phase, exit_code: 3, finished_ns: Some(5_000_000_000), ..State::default() };
            assert_eq!(status(&state, now), expect);
        };
        check(Phase::Exited, "Exited (3) 5 seconds ago");
        check(Phase::Restarting, "Restarting (3) 5 seconds ago");
        check(Phase::Created, "Created");
    }
}
