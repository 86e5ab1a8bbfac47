//! From a sample to the cells of a line, by the formulas of the API's specification.

use corten_api_types::{BlkioEntry, ContainerStats, CpuStats, MemoryStats};
use corten_base::units::{bytes_size, human_size_with_precision};

use crate::format::{Row, short_id};
use crate::matches::Matches;

pub(super) static HEADERS: &[(&str, &str)] = &[
    ("Container", "CONTAINER"),
    ("Name", "NAME"),
    ("ID", "CONTAINER ID"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

/// A line: what the container was asked for by, who it was when last heard of, and its figures if they are of any use.
pub(super) fn row(
    asked: &str,
    last: Option<&ContainerStats>,
    figures: Option<&ContainerStats>,
    matches: &Matches,
) -> Row {
    let name = last.map(|stats| stats.name.as_str()).and_then(|name| name.get(1..)).filter(|name| !name.is_empty());
    let id = last.map(|stats| stats.id.as_str()).unwrap_or_default();
    let cell = |of: fn(&ContainerStats) -> String, none: &str| figures.map_or_else(|| none.to_owned(), of);
    Row {
        fields: vec![
            ("Container", asked.to_owned()),
            ("Name", name.unwrap_or("--").to_owned()),
            ("ID", short_id(id, !matches.is_on("no-trunc"))),
            ("CPUPerc", cell(|it| percentage(cpu(&it.precpu_stats, &it.cpu_stats)), "--")),
            ("MemUsage", cell(memory_use, "-- / --")),
            ("MemPerc", cell(|it| percentage(memory_share(&it.memory_stats)), "--")),
            ("NetIO", cell(network, "--")),
            (
                "BlockIO",
                cell(|it| blocks(it.blkio_stats.io_service_bytes_recursive.as_deref().unwrap_or_default()), "--"),
            ),
            ("PIDs", cell(|it| it.pids_stats.current.to_string(), "--")),
        ],
        labels: Default::default(),
    }
}

fn percentage(value: f64) -> String {
    format!("{value:.2}%")
}

/// Of one processor: two that are busy are 200 %.
fn cpu(before: &CpuStats, now: &CpuStats) -> f64 {
    let own = now.cpu_usage.total_usage as f64 - before.cpu_usage.total_usage as f64;
    let all = now.system_cpu_usage as f64 - before.system_cpu_usage as f64;
    let processors = match now.online_cpus {
        0 => now.cpu_usage.percpu_usage.len() as f64,
        count => f64::from(count),
    };
    if own > 0.0 && all > 0.0 { own / all * processors * 100.0 } else { 0.0 }
}

/// Without the pages of files that nobody has used lately: they are given back for the asking.
fn used(memory: &MemoryStats) -> u64 {
    let idle = |key: &str| memory.stats.get(key).copied().filter(|idle| *idle < memory.usage);
    let idle = idle("total_inactive_file").or_else(|| idle("inactive_file"));
    memory.usage - idle.unwrap_or(0)
}

fn memory_use(stats: &ContainerStats) -> String {
    let memory = &stats.memory_stats;
    format!("{} / {}", bytes_size(used(memory) as f64), bytes_size(memory.limit as f64))
}

fn memory_share(memory: &MemoryStats) -> f64 {
    if memory.limit == 0 { 0.0 } else { used(memory) as f64 / memory.limit as f64 * 100.0 }
}

fn pair(left: u64, right: u64) -> String {
    let size = |bytes: u64| human_size_with_precision(bytes as f64, 3);
    format!("{} / {}", size(left), size(right))
}

fn network(stats: &ContainerStats) -> String {
    let interfaces = stats.networks.values();
    let (received, sent) = interfaces.fold((0, 0), |(rx, tx), it| (rx + it.rx_bytes, tx + it.tx_bytes));
    pair(received, sent)
}

fn blocks(entries: &[BlkioEntry]) -> String {
    let sum = |letter: &str| -> u64 {
        let of_kind = entries.iter().filter(|entry| entry.op.to_lowercase().starts_with(letter));
        of_kind.map(|entry| entry.value).sum()
    };
    pair(sum("r"), sum("w"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_api_types::decode;

    fn cells(sample: &str, has_figures: bool) -> Vec<String> {
        let sample: ContainerStats = decode(sample.as_bytes()).expect("a sample");
        let row = row("box", Some(&sample), Some(&sample).filter(|_| has_figures), &Matches::default());
        row.fields.into_iter().map(|(_, cell)| cell).collect()
    }

    const SAMPLE: &str = r#"{"name":"/web","id":"0123456789abcdef",
        "cpu_stats":{"cpu_usage":{"total_usage":300},"system_cpu_usage":2000,"online_cpus":4},
        "precpu_stats":{"cpu_usage":{"total_usage":100},"system_cpu_usage":1000},
        "memory_stats":{"usage":3145728,"limit":67108864,"stats":{"total_inactive_file":1048576,"inactive_file":1}},
        "networks":{"eth0":{"rx_bytes":1000,"tx_bytes":1},"eth1":{"rx_bytes":260,"tx_bytes":1}},
        "blkio_stats":{"io_service_bytes_recursive":[{"op":"Read","value":4096},{"op":"write","value":5},{"op":"","value":7}]},
        "pids_stats":{"current":3}}"#;

    #[test]
    fn figures() {
        let expect =
            ["box", "web", "0123456789ab", "80.00%", "2MiB / 64MiB", "3.12%", "1.26kB / 2B", "4.1kB / 5B", "3"];
        assert_eq!(cells(SAMPLE, true), expect);
    }

    #[test]
    fn what_is_not_known() {
        assert_eq!(cells(SAMPLE, false), ["box", "web", "0123456789ab", "--", "-- / --", "--", "--", "--", "--"]);
        // A container that doesn't run.
        let expect = ["box", "web", "01", "0.00%", "0B / 0B", "0.00%", "0B / 0B", "0B / 0B", "0"];
        assert_eq!(cells(r#"{"name":"/web","id":"01"}"#, true), expect);
        assert_eq!(row("box", None, None, &Matches::default()).fields[1].1, "--");
    }

    #[test]
    fn counters_that_went_back_are_no_use_of_time() {
        // The container was started again.
        let text = SAMPLE.replace("\"total_usage\":300", "\"total_usage\":30");
        assert_eq!(cells(&text, true)[3], "0.00%");
    }
}
