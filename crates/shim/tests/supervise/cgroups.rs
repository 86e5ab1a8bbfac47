//! Cgroups: joined at start and by execs, shown inside, and what the OOM killer did in them.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use corten_shim::client::ExecProcess;
use corten_shim::protocol::Event;
use serde_json::json;

use crate::Case;
use crate::support::*;

pub const CASES: &[Case] = &[("cgroups::joined_shown_and_out_of_memory", joined_shown_and_out_of_memory)];

/// One group of our own in every cgroup v1 hierarchy (or in the unified one), removed at the end.
struct Groups(Vec<PathBuf>);

impl Groups {
    fn new() -> Groups {
        let name = format!("corten-shim-test-{}", std::process::id());
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let of = |kind: &str| {
            let matching =
                mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|fields| fields[2] == kind);
            matching.map(|fields| PathBuf::from(fields[1]).join(&name)).collect::<Vec<_>>()
        };
        let paths = Some(of("cgroup")).filter(|paths| !paths.is_empty()).unwrap_or_else(|| of("cgroup2"));
        for path in &paths {
            fs::create_dir(path).unwrap();
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(value) = fs::read(path.parent().unwrap().join(file)) {
                    let _ = fs::write(path.join(file), value);
                }
            }
        }
        Groups(paths)
    }

    fn open(&self) -> Vec<OwnedFd> {
        self.0.iter().map(|path| File::open(path).unwrap().into()).collect()
    }

    fn limit_memory(&self, bytes: u64) -> bool {
        // With swap to go to, nobody would be killed.
        for path in &self.0 {
            let _ = fs::write(path.join("memory.swap.max"), "0");
        }
        let files = self.0.iter().flat_map(|path| [path.join("memory.limit_in_bytes"), path.join("memory.max")]);
        let limited = files.filter(|file| file.exists()).any(|file| fs::write(file, bytes.to_string()).is_ok());
        // v1's is of both together, and never below the memory's own.
        for path in &self.0 {
            let _ = fs::write(path.join("memory.memsw.limit_in_bytes"), bytes.to_string());
        }
        limited
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        // A case that failed half-way leaves its container: everything in a group of ours is ours.
        let members = fs::read_to_string(self.0[0].join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        for path in &self.0 {
            let deadline = std::time::Instant::now() + PATIENCE;
            while fs::remove_dir(path).is_err() && std::time::Instant::now() < deadline {
                std::thread::yield_now();
            }
        }
    }
}

fn joined_shown_and_out_of_memory(world: &World) {
    let groups = Groups::new();
    let limited = groups.limit_memory(32 << 20);
    // With staged mounts, too: they show nothing of the groups that the stub is not in yet.
    for (private, staged) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut wanted = spec(&[
            "sh",
            "-c",
            "exec 2>&1; cat /proc/self/cgroup; ls /sys/fs/cgroup; cd /sys/fs/cgroup/pids || cd /sys/fs/cgroup; \
            cat cgroup.procs; touch /sys/fs/cgroup/x; mkdir x; echo ready; sleep 100",
        ]);
        wanted["mounts"].as_array_mut().unwrap().push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup",
            "source": "cgroup", "options": ["ro", "nosuid", "noexec", "nodev"]}));
        if !private {
            wanted["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "cgroup");
        }
        let mut shim = if staged { Shim::prepared(world) } else { Shim::new(world) };
        let (ours, theirs) = UnixStream::pair().unwrap();
        shim.start_in(&world.rootfs, &plan(wanted), pipes(), &[(ALL, &theirs)], &groups.open(), true).unwrap();
        drop(theirs);
        let output = read_until(&ours, "ready");
        assert_eq!(output.contains("corten-shim-test"), !private, "{output}");
        assert!(output.contains("pids") && output.contains("/x: Read-only"), "{output}");
        assert!(output.contains("can't create directory 'x': Read-only"), "{output}");

        let process = plan(spec(&["cat", "/proc/self/cgroup"])).process;
        let (ours, theirs) = UnixStream::pair().unwrap();
        let seq =
            shim.connection.exec("e", ExecProcess::Plan(&process), None, Some((ALL, theirs.as_fd())), None).unwrap();
        drop(theirs);
        assert!(matches!(shim.answer(seq).unwrap(), Event::ExecStarted(_)));
        let output = unframe(&read_all(&ours));
        let hierarchy = if output.contains(":pids:") { "pids" } else { "0:" };
        let name = if private { "/\n" } else { "/corten-shim-test" };
        assert!(output.contains(&format!("{hierarchy}:{name}")), "{output}");
        shim.exec_exited("e");
        let seq = shim.connection.signal(None, 9).unwrap();
        shim.answer(seq).unwrap();
        assert!(!shim.exited().oom);
        shim.release();
    }
    if limited {
        let mut shim = Shim::new(world);
        let eater = spec(&["sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1"]);
        shim.start_in(&world.rootfs, &plan(eater), pipes(), &[], &groups.open(), true).unwrap();
        let status = shim.exited();
        assert!(status.oom, "{status:?}");
        shim.release();
    }
}
