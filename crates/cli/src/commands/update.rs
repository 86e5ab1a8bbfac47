//! `corten update`

use corten_api_types::{ContainerUpdateRequest, ContainerUpdateResponse};

use crate::args::report;
use crate::command::{Arguments, Command, value};
use crate::commands::{print_line, segment};
use crate::container::{RESOURCE_FLAGS, memory, parse_cpus, parse_restart_policy, parse_size};
use crate::failure::{Failure, Outcome};
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["container update", "update"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Change limits and restart policy of containers",
    flags: &[
        RESOURCE_FLAGS,
        &[
            value("kernel-memory", "bytes", "Limit of kernel memory (no longer in effect)").check(memory).hidden(),
            value("restart", "string", "When to start the container again"),
        ],
    ],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    if !COMMAND.flags().any(|flag| matches.is_set(flag.key)) {
        return Err(Failure::message("you must provide one or more flags when using this command"));
    }
    let request = request(matches)?;
    let client = session.client()?;
    let (mut warnings, mut failed) = (Vec::new(), false);
    for name in &matches.arguments {
        let sent = client.post(&format!("/containers/{}/update", segment(name))).json(&request).send();
        match sent.and_then(|response| response.json::<ContainerUpdateResponse>()) {
            Ok(answer) => {
                print_line(name)?;
                warnings.extend(answer.warnings.unwrap_or_default());
            }
            Err(error) => {
                report(&error.to_string());
                failed = true;
            }
        }
    }
    if !warnings.is_empty() {
        print_line(warnings.join("\n"))?;
    }
    if failed { Err(Failure::Status(1)) } else { Ok(()) }
}

fn request(matches: &Matches) -> Outcome<ContainerUpdateRequest> {
    let policy = parse_restart_policy(matches.text("restart")).map_err(Failure::message)?;
    Ok(ContainerUpdateRequest {
        cpu_shares: matches.number("cpu-shares"),
        memory: parse_size(matches.text("memory")),
        nano_cpus: parse_cpus(matches.text("cpus")).unwrap_or_default(),
        blkio_weight: u16::try_from(matches.number("blkio-weight")).unwrap_or_default(),
        cpu_period: matches.number("cpu-period"),
        cpu_quota: matches.number("cpu-quota"),
        cpu_realtime_period: matches.number("cpu-rt-period"),
        cpu_realtime_runtime: matches.number("cpu-rt-runtime"),
        cpuset_cpus: matches.text("cpuset-cpus").to_owned(),
        cpuset_mems: matches.text("cpuset-mems").to_owned(),
        kernel_memory: 0,
        memory_reservation: parse_size(matches.text("memory-reservation")),
        memory_swap: parse_size(matches.text("memory-swap")),
        pids_limit: Some(matches.number("pids-limit")).filter(|limit| *limit != 0),
        restart_policy: policy,
    })
}
