//! The program of the image `corten/hello`: says what it sees from inside its container.
//!
//! It reads `/proc` and `/sys` only, and leaves out what it can't read: the container may have been given less.

#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let text = report();
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn report() -> String {
    let mut text =
        String::from("\nHello from Corten!\n\nThis program runs in a container. From in here, this is the world:\n\n");
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a string can't fail.
            let _ = writeln!(text, "  {name:<12} {value}");
        }
    };
    line("process id", Some(std::process::id().to_string()));
    line("host name", word("/proc/sys/kernel/hostname"));
    line("user", user());
    line("processes", processes());
    line("root", root());
    line("memory", memory());
    line("network", network());
    for (number, row) in namespaces().chunks(2).enumerate() {
        line(if number == 0 { "namespaces" } else { "" }, Some(row.join("  ").trim_end().to_owned()));
    }
    text.push_str(NEXT);
    text
}

const NEXT: &str = "
What just happened: the client asked the daemon for a container of the image corten/hello. The daemon put a
layer of the container's own over the image's files, gave it namespaces and a cgroup, had a small supervisor start
this program as the first process in there, and sent what it printed to your terminal.

What to try next:
  corten run -it --rm debian bash           a shell in a Debian container
  corten run -d -p 8080:80 nginx            a web server on http://localhost:8080
  corten ps                                 what is running
  corten --help                             everything else

";

/// The first line of a file.
fn word(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

/// Real user and group, and how many of the kernel's privileges are left.
fn user() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    let (uid, gid) = (field("Uid:")?, field("Gid:")?);
    let capabilities = field("CapEff:").and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    let filter = if field("Seccomp:") == Some("2") { ", system calls filtered" } else { "" };
    let name = if uid == "0" { " (root)" } else { "" };
    Some(format!("{uid}:{gid}{name}, {} capabilities{filter}", capabilities.count_ones()))
}

fn processes() -> Option<String> {
    let entries = fs::read_dir("/proc").ok()?;
    let is_number = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
    let count = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_number)).count();
    Some(if count == 1 { "1 visible, this one".to_owned() } else { format!("{count} visible") })
}

/// What is mounted at `/`: see proc_pid_mountinfo(5).
fn root() -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/"))?;
    let access = line.split(' ').nth(5)?.split(',').next()?;
    let file_system = line.split_once(" - ")?.1.split(' ').next()?;
    let access = if access == "ro" { "read-only" } else { "writable" };
    Some(format!("{file_system}, {access}; {} mounts", mounts.lines().count()))
}

/// The cgroup's limit, version 2 or 1.
fn memory() -> Option<String> {
    let limit = word("/sys/fs/cgroup/memory.max").or_else(|| word("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    let limit = limit.and_then(|text| text.parse::<u64>().ok()).filter(|&bytes| bytes < 1 << 60);
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let kibibytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.split_whitespace().next()?;
        Some(kibibytes.parse::<u64>().ok()? << 10)
    });
    match (limit, total) {
        (Some(limit), _) => Some(format!("limited to {} MiB", limit >> 20)),
        (None, Some(total)) => Some(format!("no limit, the machine has {} MiB", total >> 20)),
        (None, None) => None,
    }
}

/// Names of the interfaces and the IPv4 addresses that are not loopback's.
fn network() -> Option<String> {
    let devices = fs::read_to_string("/proc/net/dev").ok()?;
    let names: Vec<&str> = devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    let mut text = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let addresses = addresses();
    if !addresses.is_empty() {
        text.push_str(&format!("; {}", addresses.join(", ")));
    }
    Some(text)
}

/// The kernel's table of routes lists an address, then that it is a local one.
fn addresses() -> Vec<String> {
    let table = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut addresses = Vec::new();
    let mut last = "";
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address;
        } else if line.ends_with("host LOCAL") && !last.starts_with("127.") && !addresses.iter().any(|a| a == last) {
            addresses.push(last.to_owned());
        }
    }
    addresses
}

fn namespaces() -> Vec<String> {
    const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let read = |kind: &&str| fs::read_link(format!("/proc/self/ns/{kind}")).ok();
    KINDS.iter().filter_map(read).map(|link| format!("{:<24}", link.display().to_string())).collect()
}
