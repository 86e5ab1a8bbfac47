//! The processes of a container, read from `/proc`: no `ps` is executed, neither the host's nor the container's.
//!
//! The columns are those of `ps -ef`, which is what Docker runs unless told otherwise, and of `ps aux`-like requests as far as they
//! name columns by `-o`.

use std::fs;
use std::sync::Arc;

use crate::blocking;
use crate::error::Error;
use crate::life::Refusal;
use crate::shared::Shared;
use crate::view::ContainerView;

type Table = (Vec<String>, Vec<Vec<String>>);

/// Titles and one row per process.
pub(crate) async fn top(shared: &Arc<Shared>, view: Arc<ContainerView>, arguments: &str) -> Result<Table, Error> {
    if !view.state.has_process() {
        return Err(Refusal::NotRunning(view.id.to_string()).into());
    }
    let columns = columns(arguments)?;
    let shared = shared.clone();
    blocking::run(move || {
        let group = shared.find_group(&view.id, &view.spec.cgroup_parent)?;
        let pids = group.procs().map_err(Error::failed("cannot list the container's processes"))?;
        let rows = pids
            .into_iter()
            .filter_map(Process::read)
            .map(|process| columns.iter().map(|(_, value)| value(&process)).collect());
        Ok((columns.iter().map(|(title, _)| title.to_string()).collect(), rows.collect()))
    })
    .await?
}

type Column = (&'static str, fn(&Process) -> String);

/// `ps -ef`, or the columns of `-o`.
fn columns(arguments: &str) -> Result<Vec<Column>, Error> {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let listed = match words.as_slice() {
        [] | ["-ef"] => "uid,pid,ppid,c,stime,tty,time,cmd",
        ["aux" | "-aux"] => "user,pid,vsz,rss,tty,stat,time,cmd",
        ["-o" | "o", listed] | ["-eo" | "eo", listed] => listed,
        [word] if word.starts_with("-o") => &word[2..],
        _ => return Err(Error::NotImplemented(format!("top with the arguments {arguments:?}"))),
    };
    listed.split(',').map(column).collect()
}

fn column(name: &str) -> Result<Column, Error> {
    Ok(match name {
        "uid" => ("UID", |process| process.uid.clone()),
        "user" => ("USER", |process| process.uid.clone()),
        "pid" => ("PID", |process| process.pid.to_string()),
        "ppid" => ("PPID", |process| process.field(4)),
        "c" => ("C", |_| "0".into()),
        "stime" => ("STIME", |process| process.started()),
        "tty" | "tt" | "tname" => ("TTY", |process| if process.field(7) == "0" { "?".into() } else { "pts".into() }),
        "time" => ("TIME", |process| process.time()),
        "stat" | "state" | "s" => ("STAT", |process| process.field(3)),
        "vsz" => ("VSZ", |process| (process.number(23) / 1024).to_string()),
        "rss" => ("RSS", |process| (process.number(24) * 4).to_string()),
        "cmd" | "args" | "command" => ("CMD", |process| process.command.clone()),
        "comm" => ("COMMAND", |process| process.name.clone()),
        other => return Err(Error::Invalid(format!("unknown column {other:?} of ps"))),
    })
}

/// One process as `/proc` shows it.
struct Process {
    pid: i32,
    uid: String,
    name: String,
    command: String,
    /// Fields of `/proc/<pid>/stat` from the third on.
    fields: Vec<String>,
}

impl Process {
    /// None when it has ended meanwhile.
    fn read(pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        // The name stands in brackets and may hold anything.
        let (before, after) = stat.rsplit_once(')')?;
        let name = before.split_once('(')?.1.to_string();
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.to_string();
        let words: Vec<String> = cmdline
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty())
            .map(|word| String::from_utf8_lossy(word).into())
            .collect();
        let command = if words.is_empty() { format!("[{name}]") } else { words.join(" ") };
        let uid = if uid == "0" { "root".into() } else { uid };
        Some(Process { pid, uid, name, command, fields: after.split_whitespace().map(Into::into).collect() })
    }

    /// A field by its number in proc_pid_stat(5).
    fn field(&self, number: usize) -> String {
        self.fields.get(number - 3).cloned().unwrap_or_default()
    }

    fn number(&self, number: usize) -> u64 {
        self.field(number).parse().unwrap_or(0)
    }

    /// CPU time; clock ticks are hundredths of a second on every Linux.
    fn time(&self) -> String {
        let seconds = (self.number(14) + self.number(15)) / 100;
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    /// Hour and minute of its start, UTC.
    fn started(&self) -> String {
        let boot = fs::read_to_string("/proc/stat").ok();
        let boot = boot.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("btime ")));
        let seconds = boot.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0) + self.number(22) / 100;
        format!("{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles() {
        let titles = |arguments| {
            columns(arguments).map(|columns| columns.iter().map(|(title, _)| *title).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(titles("").unwrap(), "UID PID PPID C STIME TTY TIME CMD");
        assert_eq!(titles("-o pid,comm").unwrap(), "PID COMMAND");
        assert!(titles("-o nope").is_err());
        assert!(titles("--forest").is_err());
    }

    #[test]
    fn this_process() {
        let process = Process::read(std::process::id().cast_signed()).unwrap();
        assert!(!process.command.is_empty());
        assert_eq!(process.field(3).len(), 1);
    }
}
