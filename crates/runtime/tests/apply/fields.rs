//! Fields of the runtime spec on the real kernel, one case each or a few; docs/oci-runtime.md names them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use corten_runtime::Plan;
use serde_json::{Value, json};

use super::{Case, run, spec, start};

pub(super) const CASES: &[Case] = &[
    ("user_namespace_with_maps", user_namespace_with_maps),
    ("user_namespace_joined", user_namespace_joined),
    ("idmapped_mounts", idmapped_mounts),
    ("tmpcopyup_waits_for_nobody", tmpcopyup_waits_for_nobody),
    ("settings_of_the_hosts_namespaces_are_refused", settings_of_the_hosts_namespaces_are_refused),
    ("affinity_is_not_inherited", affinity_is_not_inherited),
    ("time_namespace_with_offsets", time_namespace_with_offsets),
    ("namespaces_joined_by_path", namespaces_joined_by_path),
    ("mount_namespace_joined", mount_namespace_joined),
    ("scheduler_policies", scheduler_policies),
    ("io_priority_class", io_priority_class),
    ("personality_domain", personality_domain),
    ("memory_policy_nodes", memory_policy_nodes),
    ("recursive_options", recursive_options),
    ("tmpcopyup_of_a_readonly_tmpfs", tmpcopyup_of_a_readonly_tmpfs),
    ("remount_of_an_earlier_mount", remount_of_an_earlier_mount),
    ("root_propagation_words", root_propagation_words),
    ("every_mount_option_is_taken", every_mount_option_is_taken),
    ("limits_are_clamped_with_a_warning", limits_are_clamped_with_a_warning),
    ("labels_the_kernel_does_not_know", labels_the_kernel_does_not_know),
    ("names_and_umask", names_and_umask),
    ("execs_enter_user_and_time_namespaces", execs_enter_user_and_time_namespaces),
];

/// A container in a user namespace of its own: ids from 100000 on.
fn mapped(script: &str, change: impl FnOnce(&mut Value)) -> Plan {
    spec(script, |value| {
        value["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        for key in ["uidMappings", "gidMappings"] {
            value["linux"][key] = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        }
        change(value);
    })
}

fn user_namespace_with_maps(rootfs: &Path) {
    let script = "cat /proc/self/uid_map /proc/self/gid_map; id -u; cat /proc/sys/kernel/hostname; echo x > /dev/null && \
        stat -c '%u %t:%T' /dev/null; stat -c %u /dev/pts; grep CapEff /proc/self/status; stat -c %t:%T /proc/keys; cat /proc/self/oom_score_adj";
    let plan = mapped(script, |value| {
        value["hostname"] = "inside".into();
        value["process"]["oomScoreAdj"] = 321.into();
        let all = json!(["CAP_CHOWN", "CAP_SYS_ADMIN"]);
        value["process"]["capabilities"] = json!({"bounding": all, "permitted": all, "effective": all});
        value["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100}]);
    });
    let output = run(rootfs, &plan).unwrap();
    let lines: Vec<String> = output.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines[..2], ["0 100000 65536", "0 100000 65536"], "{output}");
    assert_eq!(lines[2..4], ["0", "inside"], "{output}");
    assert_eq!(lines[4..6], ["65534 1:3", "0"], "{output}");
    assert_eq!(lines[6..9], ["CapEff: 0000000000200001", "1:3", "321"], "{output}");
    let user = mapped("id -u; id -g; ls -ldn /tmp | sed 's/ .*//'", |value| {
        value["process"]["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9]});
    });
    assert!(run(rootfs, &user).unwrap().starts_with("7\n8\n"));
}

fn user_namespace_joined(rootfs: &Path) {
    let namespace = corten_sys::user_namespace::with_maps("0 200000 1000\n", "0 200000 1000\n").unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&namespace));
    let plan = spec("cat /proc/self/uid_map; id -u; cat /proc/sys/kernel/hostname", |value| {
        value["hostname"] = "joined".into();
        value["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user", "path": path}));
    });
    let output = run(rootfs, &plan).unwrap();
    assert_eq!(output.split_whitespace().collect::<Vec<_>>(), ["0", "200000", "1000", "0", "joined"]);
}

fn idmapped_mounts(rootfs: &Path) {
    // Owners of a tmpfs, which /tmp may be, are mapped since Linux 6.3.
    let source = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(source.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(source.path().join("file"), "x").unwrap();
    std::os::unix::fs::chown(source.path().join("file"), Some(5), Some(6)).unwrap();
    fs::create_dir(source.path().join("below")).unwrap();
    let mount = |options: Value, maps: bool| {
        let mut mount = json!({"destination": "/mapped", "source": source.path(), "options": options});
        if maps {
            mount["uidMappings"] = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
            mount["gidMappings"] = json!([{"containerID": 0, "hostID": 2000, "size": 100}]);
        }
        mount
    };
    let script = "stat -c %u:%g /mapped/file";
    for options in [json!(["rbind", "ridmap"]), json!(["bind", "idmap"]), json!(["bind"])] {
        let plan = spec(script, |value| value["mounts"].as_array_mut().unwrap().push(mount(options, true)));
        assert_eq!(run(rootfs, &plan).unwrap(), "1005:2006\n");
    }
    // Without maps of its own it takes the container's: the file keeps its number.
    let inside = |options| {
        run(rootfs, &mapped(script, |value| value["mounts"].as_array_mut().unwrap().push(mount(options, false))))
            .unwrap()
    };
    assert_eq!(inside(json!(["bind", "idmap"])), "5:6\n");
    assert_eq!(inside(json!(["bind"])), "65534:65534\n");
    fs::remove_dir(rootfs.join("mapped")).unwrap();
}

fn time_namespace_with_offsets(rootfs: &Path) {
    for user in [false, true] {
        let change = |value: &mut Value| {
            value["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
            value["linux"]["timeOffsets"] =
                json!({"boottime": {"secs": 1_000_000_000}, "monotonic": {"secs": 5, "nanosecs": 6}});
        };
        // Days: the seconds go on between two runs.
        let script = "cat /proc/self/timens_offsets; read up _ < /proc/uptime; echo $((${up%.*} / 86400))";
        let plan = if user { mapped(script, change) } else { spec(script, change) };
        let output = run(rootfs, &plan).unwrap();
        let words: Vec<&str> = output.split_whitespace().collect();
        assert_eq!(words[..6], ["monotonic", "5", "6", "boottime", "1000000000", "0"], "{output}");
        assert!(words[6].parse::<u64>().unwrap() >= 1_000_000_000 / 86_400, "{output}");
    }
}

fn namespaces_joined_by_path(rootfs: &Path) {
    let script = "for n in pid net ipc uts cgroup time; do readlink /proc/self/ns/$n; done";
    let plan = spec(script, |value| {
        let own = |kind: &str, file: &str| json!({"type": kind, "path": format!("/proc/self/ns/{file}")});
        value["linux"]["namespaces"] = json!([{"type": "mount"}, own("pid", "pid"), own("network", "net"),
            own("ipc", "ipc"), own("uts", "uts"), own("cgroup", "cgroup"), own("time", "time")]);
    });
    let expected: String = ["pid", "net", "ipc", "uts", "cgroup", "time"]
        .map(|name| format!("{}\n", fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display()))
        .concat();
    assert_eq!(run(rootfs, &plan).unwrap(), expected);
    let plan =
        spec(script, |value| value["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"})));
    let (output, _) = start(rootfs, &plan, false).unwrap();
    let same: Vec<bool> = output.lines().zip(expected.lines()).map(|(inside, host)| inside == host).collect();
    assert_eq!(same, [false, false, false, false, false, true], "{output}");
}

fn mount_namespace_joined(rootfs: &Path) {
    let plan = spec("readlink /proc/self/ns/mnt", |value| {
        value["mounts"] = json!([]);
        value["linux"] = json!({"namespaces": [{"type": "mount", "path": "/proc/self/ns/mnt"}, {"type": "network"}]});
        value["process"]["args"] = json!(["readlink", "/proc/self/ns/mnt"]);
        value["process"]["env"] = json!(["PATH=/bin:/usr/bin"]);
    });
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_eq!(run(rootfs, &plan).unwrap(), format!("{}\n", own.display()));
}

fn scheduler_policies(rootfs: &Path) {
    let policy = |scheduler: Value, user: bool| {
        let script = "cat /proc/self/sched | grep -E '^(policy|prio) ' | sed 's/ *: */:/'; \
            sed -E 's/.*\\) //' /proc/self/stat | while read -r l; do set -- $l; echo ${16} ${17} ${38} ${39}; done";
        let change = |value: &mut Value| value["process"]["scheduler"] = scheduler;
        let plan = if user { mapped(script, change) } else { spec(script, change) };
        run(rootfs, &plan).map(|text| text.lines().last().unwrap_or_default().to_owned())
    };
    let inherited = fs::read_to_string("/proc/self/stat").unwrap();
    let inherited = inherited.rsplit(") ").next().unwrap().split(' ').nth(16).unwrap().to_owned();
    // /proc/self/stat counted from the state: priority, nice, real-time priority, policy.
    for user in [false, true] {
        assert_eq!(policy(json!({"policy": "SCHED_BATCH", "nice": 7}), user).unwrap(), "27 7 0 3");
        assert_eq!(policy(json!({"policy": "SCHED_RR", "priority": 9}), user).unwrap(), format!("-10 {inherited} 9 2"));
    }
    let reset = json!({"policy": "SCHED_FIFO", "priority": 3, "flags": ["SCHED_RESET_ON_FORK"]});
    assert_eq!(policy(reset, false).unwrap(), "20 0 0 0", "the shell's children are reset");
    let deadline =
        json!({"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 10_000_000, "period": 10_000_000});
    let plan = spec("", |value| {
        value["process"]["scheduler"] = deadline;
        value["process"]["args"] = json!(["sed", "-E", "s/([^ ]+ ){40}([0-9]+) .*/\\2/", "/proc/self/stat"]);
    });
    assert_eq!(run(rootfs, &plan).unwrap(), "6\n");
}

fn io_priority_class(rootfs: &Path) {
    for (class, level, expected) in [("IOPRIO_CLASS_IDLE", 0, "idle"), ("IOPRIO_CLASS_RT", 3, "realtime: prio 3")] {
        for user in [false, true] {
            let change =
                |value: &mut Value| value["process"]["ioPriority"] = json!({"class": class, "priority": level});
            let plan = if user { mapped("ionice -p 1", change) } else { spec("ionice -p 1", change) };
            let output = run(rootfs, &plan).unwrap();
            assert!(output.starts_with(expected), "{output}");
        }
    }
}

fn personality_domain(rootfs: &Path) {
    let plan = spec("cat /proc/self/personality", |value| value["linux"]["personality"] = json!({"domain": "LINUX32"}));
    assert_eq!(run(rootfs, &plan).unwrap(), "00000008\n");
}

fn memory_policy_nodes(rootfs: &Path) {
    let plan = spec("head -n 1 /proc/self/numa_maps", |value| {
        value["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    });
    let output = run(rootfs, &plan).unwrap();
    assert!(
        output.contains(" bind=static:0 ") || output.is_empty() && !Path::new("/proc/self/numa_maps").exists(),
        "{output}"
    );
}

fn recursive_options(rootfs: &Path) {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("below")).unwrap();
    let tmpfs = corten_sys::mount::FileSystem::open("tmpfs").unwrap().mount(0).unwrap();
    let place =
        rustix::fs::open(source.path().join("below"), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    corten_sys::mount::attach(std::os::fd::AsFd::as_fd(&tmpfs), std::os::fd::AsFd::as_fd(&place)).unwrap();
    let options = |options: Value| {
        let plan = spec("grep -oE ' /r(/below)? [a-z,]*' /proc/self/mountinfo", |value| {
            let mount = json!({"destination": "/r", "source": source.path(), "options": options});
            value["mounts"].as_array_mut().unwrap().push(mount);
        });
        run(rootfs, &plan).unwrap()
    };
    assert_eq!(options(json!(["rbind", "ro"])), " /r ro,relatime\n /r/below rw,relatime\n");
    assert_eq!(options(json!(["rbind", "rro"])), " /r ro,relatime\n /r/below ro,relatime\n");
    let all = json!(["rbind", "rro", "rnosuid", "rnodev", "rnoexec", "rnodiratime", "rnoatime", "rnosymfollow"]);
    let expected = "ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow";
    assert_eq!(options(all), format!(" /r {expected}\n /r/below {expected}\n"));
    let back = json!(["rbind", "rro", "rrw", "rnosuid", "rsuid", "rstrictatime"]);
    assert_eq!(options(back), " /r rw\n /r/below rw\n");
    corten_sys::mount::detach(&std::ffi::CString::new(source.path().join("below").to_str().unwrap()).unwrap()).unwrap();
    fs::remove_dir(rootfs.join("r")).unwrap();
}

fn tmpcopyup_of_a_readonly_tmpfs(rootfs: &Path) {
    fs::create_dir(rootfs.join("full")).unwrap();
    fs::write(rootfs.join("full/file"), "text").unwrap();
    let plan = spec("cat /full/file; grep -c ' /full ro' /proc/self/mountinfo", |value| {
        let mount = json!({"destination": "/full", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "ro"]});
        value["mounts"].as_array_mut().unwrap().push(mount);
    });
    assert_eq!(run(rootfs, &plan).unwrap(), "text1\n");
    fs::remove_dir_all(rootfs.join("full")).unwrap();
}

/// What a copy finds may be exchanged for something that an open waits for: nobody is kept waiting.
fn tmpcopyup_waits_for_nobody(rootfs: &Path) {
    use corten_sys::process::{self, Cloned};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
    fs::create_dir(rootfs.join("full")).unwrap();
    let (file, pipe) = (rootfs.join("full/file"), rootfs.join("pipe"));
    fs::write(&file, "text").unwrap();
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let Cloned::Parent { pid, pidfd } = process::clone_process(0, None).unwrap() else {
        while renameat_with(CWD, &file, CWD, &pipe, RenameFlags::EXCHANGE).is_ok() {}
        process::exit_now(1)
    };
    let plan = spec("echo there", |value| {
        let mount = json!({"destination": "/full", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]});
        value["mounts"].as_array_mut().unwrap().push(mount);
    });
    let comes = || {
        let container = super::begin(rootfs, &plan, false).unwrap();
        let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
        let count = poll(&mut [PollFd::new(&container.output, PollFlags::IN)], Some(&limit)).unwrap();
        container.end();
        count == 1
    };
    let all_came = (0..50).all(|_| comes());
    process::signal_pidfd(std::os::fd::AsFd::as_fd(&pidfd), 9).unwrap();
    process::reap(pid).unwrap();
    assert!(all_came, "one still waits for the pipe");
    fs::remove_dir_all(rootfs.join("full")).unwrap();
    fs::remove_file(pipe).unwrap();
}

/// A namespace named by a path may be the host's own: its settings stay as they are.
fn settings_of_the_hosts_namespaces_are_refused(rootfs: &Path) {
    for (kind, file, name, expected) in [
        ("network", "net", "net.ipv4.ip_forward", "hosts network namespace"),
        ("ipc", "ipc", "kernel.shmmni", "hosts ipc namespace"),
        ("uts", "uts", "kernel.domainname", "hosts uts namespace"),
    ] {
        let plan = spec("true", |value| {
            let all = value["linux"]["namespaces"].as_array_mut().unwrap();
            all.retain(|namespace| namespace["type"] != kind);
            all.push(json!({"type": kind, "path": format!("/proc/self/ns/{file}")}));
            value["linux"]["sysctl"] = json!({name: "1"});
        });
        let error = corten_runtime::sources::open_namespaces(&plan).unwrap_err();
        assert_eq!(error.to_string(), format!("sysctl {name:?} is not allowed in the {expected}"));
    }
    // In a stranger's they are its own.
    let first = spec("echo; exec busybox sleep 1000", |_| {});
    let container = super::begin(rootfs, &first, false).unwrap();
    container.wait_for_output();
    let path = format!("/proc/{}/ns/net", container.spawned.pid);
    let plan = spec("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", |value| {
        value["linux"]["namespaces"][2] = json!({"type": "network", "path": path});
        value["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "77"});
    });
    assert_eq!(run(rootfs, &plan).unwrap(), "77\n");
    container.end();
}

/// What its parents were kept on is nothing to a container.
fn affinity_is_not_inherited(rootfs: &Path) {
    let own = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap().to_owned()
    };
    let all = own();
    if all == "0" {
        println!("skipped: there is one processor");
        return;
    }
    corten_sys::scheduling::set_affinity(&[0]).unwrap();
    assert_eq!(own(), "0");
    let output = run(rootfs, &spec("grep Cpus_allowed_list /proc/self/status", |_| {}));
    corten_sys::scheduling::forget_affinity().unwrap();
    assert_eq!(output.unwrap(), format!("Cpus_allowed_list:\t{all}\n"));
    assert_eq!(own(), all);
}

fn remount_of_an_earlier_mount(rootfs: &Path) {
    let plan = spec("grep -oE ' /tmp [a-z,]*' /proc/self/mountinfo", |value| {
        let mounts = value["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]}));
        mounts.push(json!({"destination": "/tmp", "options": ["remount", "bind", "ro", "noexec"]}));
    });
    assert_eq!(run(rootfs, &plan).unwrap(), " /tmp ro,nosuid,noexec,relatime\n");
}

fn root_propagation_words(rootfs: &Path) {
    use corten_sys::mount::{Propagation, set_root_propagation};
    let flags = |word: &str| {
        // The line of the root; kernels differ in the order of lines.
        let script = "sed -n 's|^[0-9]* [0-9]* [0-9:]* [^ ]* / ||p' /proc/self/mountinfo | sed 's/ - .*//; s/:.*/:/'";
        let plan = spec(script, |value| value["linux"]["rootfsPropagation"] = word.into());
        run(rootfs, &plan).unwrap()
    };
    assert!(flags("shared").contains("shared:") && flags("rshared").contains("shared:"));
    assert!(flags("unbindable").contains("unbindable"));
    let has_peers = |text: &str| ["shared:", "master:"].map(|word| text.contains(word));
    assert_eq!(has_peers(&flags("private")), [false, false]);
    // What has no peers cannot be told from a private one when it is made a slave.
    set_root_propagation(Propagation::Shared).unwrap();
    let seen = ["slave", "rslave", "private"].map(|word| has_peers(&flags(word)));
    set_root_propagation(Propagation::Private).unwrap();
    assert_eq!(seen, [[false, true], [false, true], [false, false]]);
}

fn every_mount_option_is_taken(rootfs: &Path) {
    let words = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime \
        noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rdev rdiratime \
        relatime rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate \
        rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime \
        suid symfollow sync tmpcopyup unbindable";
    for word in words.split_whitespace().filter(|word| *word != "bind") {
        let plan = spec("echo taken", |value| {
            let mount = json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": [word]});
            value["mounts"].as_array_mut().unwrap().push(mount);
        });
        assert_eq!(start(rootfs, &plan, false).map(|(text, _)| text).as_deref(), Ok("taken\n"), "{word}");
    }
}

fn limits_are_clamped_with_a_warning(rootfs: &Path) {
    use corten_sys::credentials::{Capabilities, capabilities, set_capabilities};
    /// Raises limits and lowers the score.
    const SYS_RESOURCE: u64 = 1 << 24;
    let hard = corten_sys::limits::get(corten_sys::limits::Resource::parse("RLIMIT_NOFILE").unwrap()).unwrap().hard;
    let all = capabilities().unwrap();
    for (user, withheld) in [(false, false), (true, false), (false, true), (true, true)] {
        let change = |value: &mut Value| {
            value["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": hard + 1, "hard": hard + 1}]);
            value["process"]["oomScoreAdj"] = (-999).into();
        };
        let script =
            "grep 'Max open files' /proc/self/limits | sed 's/[^0-9]*//; s/ .*//'; cat /proc/self/oom_score_adj";
        let plan = if user { mapped(script, change) } else { spec(script, change) };
        if withheld {
            set_capabilities(Capabilities { effective: all.effective & !SYS_RESOURCE, ..all }).unwrap();
        }
        let started = start(rootfs, &plan, false);
        set_capabilities(all).unwrap();
        let (output, warnings) = started.unwrap();
        if output == format!("{}\n-999\n", hard + 1) {
            assert!(!withheld && warnings.is_empty(), "{warnings:?}");
        } else {
            assert!(output.starts_with(&format!("{hard}\n")) && !output.contains("-999"), "{output}");
            assert!(warnings[0].contains("oom_score_adj") && warnings[1].contains("limit 7"), "{warnings:?}");
        }
    }
}

fn labels_the_kernel_does_not_know(rootfs: &Path) {
    let refused = |change: fn(&mut Value)| run(rootfs, &spec("true", change)).unwrap_err().message;
    let text = refused(|value| value["process"]["apparmorProfile"] = "some-profile".into());
    let is_enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|it| it.trim() == "Y");
    assert!(text.contains("some-profile"), "{text}");
    assert_eq!(text.contains("AppArmor is not enabled"), !is_enabled, "{text}");
    if is_enabled {
        let plan = spec("cat /proc/self/attr/apparmor/current", |value| {
            value["process"]["apparmorProfile"] = "unconfined".into();
        });
        assert_eq!(run(rootfs, &plan).unwrap().trim(), "unconfined");
        println!("AppArmor is enabled here");
    }
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        let text = refused(|value| value["process"]["selinuxLabel"] = "u:r:t:s0".into());
        assert!(text.contains("u:r:t:s0") && text.contains("SELinux is not enabled"), "{text}");
        let text = refused(|value| value["linux"]["mountLabel"] = "u:object_r:t:s0".into());
        assert!(text.contains("SELinux is not enabled"), "{text}");
    }
}

fn names_and_umask(rootfs: &Path) {
    let plan = spec("cat /proc/sys/kernel/domainname; umask; id -G", |value| {
        value["domainname"] = "some.domain".into();
        value["process"]["user"] = json!({"uid": 0, "gid": 0, "umask": 0o027, "additionalGids": [10, 11]});
    });
    assert_eq!(run(rootfs, &plan).unwrap(), "some.domain\n0027\n0 10 11\n");
}

fn execs_enter_user_and_time_namespaces(rootfs: &Path) {
    use corten_runtime::apply::{self, Channel, Note};
    use corten_sys::process::{self, Cloned};
    let change = |value: &mut Value| {
        value["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        value["linux"]["timeOffsets"] = json!({"boottime": {"secs": 77}});
    };
    let first = mapped("echo; exec busybox sleep 1000", change);
    let container = super::begin(rootfs, &first, false).unwrap();
    container.wait_for_output();
    let value = super::value(
        "cat /proc/self/uid_map /proc/self/timens_offsets; id -u; grep Cpus_allowed_list /proc/self/status",
        |value| {
            value["linux"]["namespaces"]
                .as_array_mut()
                .unwrap()
                .extend([json!({"type": "user"}), json!({"type": "time"})]);
            value["process"]["execCPUAffinity"] = json!({"final": "0"});
        },
    );
    let spec: oci_spec::runtime::Spec = serde_json::from_value(value).unwrap();
    let exec = corten_runtime::exec_plan(&spec, spec.process().as_ref().unwrap(), None).unwrap();
    let (output, stdout) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let channel = Channel::new().unwrap();
    let Cloned::Parent { pid, .. } = process::clone_process(0, None).unwrap() else {
        let mut reporter = channel.reporter();
        let pidfd = std::os::fd::AsFd::as_fd(&container.spawned.pidfd);
        let entered = apply::enter_container(&exec, pidfd, &[], &mut reporter);
        if let Ok(()) = entered
            && let Ok(Cloned::Parent { pid, pidfd }) = process::clone_sibling()
        {
            process::exit_now(i32::from(reporter.moved(pid, pidfd).is_err()));
        }
        let failure = entered.err().unwrap_or_else(|| {
            let copy = || stdout.try_clone().unwrap();
            let stdio = apply::Stdio::Pipes { stdin: copy(), stdout: copy(), stderr: copy() };
            apply::exec(&exec, Some(stdio), apply::Manner::default(), &mut reporter)
        });
        reporter.failed(failure);
        process::exit_now(1)
    };
    drop(stdout);
    let reports = channel.reports();
    let text = std::io::read_to_string(fs::File::from(output)).unwrap();
    let mut notes = Vec::new();
    while let Some((note, _)) = reports.receive().unwrap() {
        // The end of the container's first process waits until everybody else in its PID namespace is reaped.
        if let Note::Moved { pid } = note {
            process::reap(pid).unwrap();
        } else {
            notes.push(note);
        }
    }
    process::reap(pid).unwrap();
    container.end();
    assert_eq!(notes, []);
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(
        words,
        ["0", "100000", "65536", "monotonic", "0", "0", "boottime", "77", "0", "0", "Cpus_allowed_list:", "0"]
    );
}
