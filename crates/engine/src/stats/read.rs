//! One look: the control group's files, the interfaces' counters, the machine's processor times.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::Arc;

use corten_cgroup::Group;

use super::{Counters, Sample, Traffic, Usage};
use crate::registry::Handle;
use crate::shared::Shared;
use crate::view::ContainerView;

/// Clock ticks of `/proc/stat` are hundredths of a second on every Linux.
const TICK_NS: u64 = 10_000_000;

/// A container and, while it runs, its open control group. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    handle: Arc<Handle>,
    /// Of the run that began at this time.
    group: Option<(Option<i64>, Arc<Group>)>,
}

/// What one look needs to know of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Host {
    system_cpu_ns: u64,
    online_cpus: u32,
    memory: u64,
}

impl Host {
    /// The machine now. Blocks.
    pub(crate) fn now() -> io::Result<Host> {
        let (system_cpu_ns, online_cpus) = processors(&fs::read_to_string("/proc/stat")?);
        Ok(Host { system_cpu_ns, online_cpus, memory: crate::info::memory() })
    }
}

impl Source {
    pub(crate) fn new(handle: Arc<Handle>) -> Source {
        Source { handle, group: None }
    }

    /// Looks at the container. Blocks.
    pub(crate) fn look(&mut self, shared: &Shared, host: &Host) -> Sample {
        let view = self.handle.now();
        let usage = match view.state.has_process() {
            true => self.usage(shared, &view, host),
            false => None,
        };
        // A group that was taken away meanwhile reads as zeros.
        let after = self.handle.now();
        let usage =
            usage.filter(|_| (after.state.pid, after.state.started_ns) == (view.state.pid, view.state.started_ns));
        Sample { view: after, usage: usage.map(Arc::new) }
    }

    fn usage(&mut self, shared: &Shared, view: &ContainerView, host: &Host) -> Option<Usage> {
        let began = view.state.started_ns;
        let known = self.group.take().filter(|(of, _)| *of == began).map(|(_, group)| group);
        let group = match known {
            Some(group) => group,
            None => Arc::new(shared.find_group(&view.id, &view.spec.cgroup_parent).ok()?),
        };
        self.group = Some((began, group.clone()));
        let mut stats = group.stats().ok()?;
        stats.memory.limit = stats.memory.limit.min(host.memory);
        Some(Usage {
            read_ns: crate::task::now_ns(),
            group: stats,
            is_v2: shared.cgroups.is_v2(),
            system_cpu_ns: host.system_cpu_ns,
            online_cpus: host.online_cpus,
            networks: networks(view.state.pid, view.id.as_str()).unwrap_or_default(),
        })
    }
}

/// The interfaces of the network namespace that a container's process is in; none in the host's. `None` if the process has gone.
fn networks(pid: i32, container: &str) -> Option<BTreeMap<String, Traffic>> {
    let namespace = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    if fs::read_link("/proc/self/ns/net").is_ok_and(|own| own == namespace) {
        return Some(BTreeMap::new());
    }
    let interfaces = interfaces(&fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?);
    // Looked up last: what was read by this number was this container's, and not of a process that has it now.
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.split(['/', '\n']).any(|part| part == container).then_some(interfaces)
}

/// `/proc/net/dev`: eight counters of what came in, then eight of what went out. Only `eth0`, `eth1` and so on are endpoints;
/// some kernels put devices of their own into each namespace.
fn interfaces(text: &str) -> BTreeMap<String, Traffic> {
    let line = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let name = name.trim();
        let number = name.strip_prefix("eth")?;
        let counters: Vec<u64> = counters.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let direction = |from: usize| {
            let [bytes, packets, errors, dropped] = *counters.get(from..from + 4)? else { return None };
            Some(Counters { bytes, packets, errors, dropped })
        };
        let is_endpoint = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        is_endpoint.then_some((name.to_owned(), Traffic { received: direction(0)?, sent: direction(8)? }))
    };
    text.lines().filter_map(line).collect()
}

/// `/proc/stat`: the machine's processor time in all its states, guests' (which is part of users') and stolen time apart; and
/// how many processors there are.
fn processors(text: &str) -> (u64, u32) {
    const STATES: usize = 7;
    let all = text.lines().find_map(|line| line.strip_prefix("cpu "));
    let ticks = all.unwrap_or_default().split_whitespace().take(STATES).filter_map(|word| word.parse::<u64>().ok());
    let is_processor = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.bytes().next().is_some_and(|byte| byte.is_ascii_digit()))
    };
    let count = text.lines().filter(is_processor).count();
    (ticks.sum::<u64>() * TICK_NS, u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_counters() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
            lo:       1       2    0    0    0     0          0         0        1       2    0    0    0     0       0          0\n  \
            eth0:    1048      13   1    2    0     0          0         0      738       9    3    4    0     0       0          0\n\
            ethernet: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n eth1: 5\n tunl0: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n";
        let received = Counters { bytes: 1048, packets: 13, errors: 1, dropped: 2 };
        let sent = Counters { bytes: 738, packets: 9, errors: 3, dropped: 4 };
        assert_eq!(interfaces(text), BTreeMap::from([("eth0".to_owned(), Traffic { received, sent })]));
    }

    #[test]
    fn processor_times() {
        let text = "cpu  10 20 30 40 50 60 70 1000 2000 3000\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\ncpufreq 3\n";
        assert_eq!(processors(text), (280 * TICK_NS, 2));
        assert_eq!(processors(""), (0, 0));
    }

    #[test]
    fn another_process_is_not_mistaken_for_a_container() {
        let own = std::process::id().cast_signed();
        // This process is in its own network namespace, whatever that is: nothing of it is shown.
        assert_eq!(networks(own, "0123"), Some(BTreeMap::new()));
        assert_eq!(networks(i32::MAX, "0123"), None);
    }
}
