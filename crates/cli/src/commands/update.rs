//! `corten update`

use corten_api_types::{ContainerUpdateRequest, ContainerUpdateResponse};

use crate::args::report;
use crate::command::{Arguments, Command, value};
use crate::commands::{print_line, segment};
use crate::container::{cpus, memory, parse_cpus, parse_restart_policy, parse_size, signed, swap, unsigned16};
use crate::failure::{Failure, Outcome};
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["container update", "update"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Change limits and restart policy of containers",
    flags: &[&[
        value("blkio-weight", "uint16", "Relative block I/O weight, 10 to 1000").check(unsigned16).default("0"),
        value("cpu-period", "int", "Period of the CPU quota, in microseconds").check(signed),
        value("cpu-quota", "int", "CPU time per period, in microseconds").check(signed),
        value("cpu-rt-period", "int", "Period of real-time CPU time, in microseconds").check(signed),
        value("cpu-rt-runtime", "int", "Real-time CPU time per period, in microseconds").check(signed),
        value("cpu-shares", "int", "Relative CPU weight").short('c').check(signed),
        value("cpus", "decimal", "Number of CPUs, such as 1.5").check(cpus),
        value("cpuset-cpus", "string", "CPUs to run on (0-3, 0,1)"),
        value("cpuset-mems", "string", "Memory nodes to use (0-3, 0,1)"),
        value("kernel-memory", "bytes", "Limit of kernel memory (no longer in effect)").check(memory).hidden(),
        value("memory", "bytes", "Limit of memory").short('m').check(memory),
        value("memory-reservation", "bytes", "Soft limit of memory").check(memory),
        value("memory-swap", "bytes", "Limit of memory and swap together: '-1' for unlimited swap").check(swap),
        value("pids-limit", "int", "Limit of processes (-1 for none)").check(signed),
        value("restart", "string", "When to start the container again"),
    ]],
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
