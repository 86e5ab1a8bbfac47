//! More fields of the runtime spec on the real kernel: the process's own, devices, memory policies; docs/oci-runtime.md names them.

use std::path::Path;

use corten_sys::limits::{self, Resource};
use serde_json::{Value, json};

use super::{Case, run, spec};

pub(super) const CASES: &[Case] = &[
    ("arguments_and_environment", arguments_and_environment),
    ("users_of_any_number", users_of_any_number),
    ("rlimits_of_every_type", rlimits_of_every_type),
    ("capability_sets_are_apart", capability_sets_are_apart),
    ("devices_of_every_type", devices_of_every_type),
    ("memory_policy_modes_and_flags", memory_policy_modes_and_flags),
    ("personality_of_this_machine", personality_of_this_machine),
];

/// As they are: blanks, quotes, empty ones, a variable named twice.
fn arguments_and_environment(rootfs: &Path) {
    let plan = spec("", |value| {
        let script = "for word in \"$0\" \"$@\"; do echo \"<$word>\"; done; echo \"$ONE|$TWO|$EMPTY\"";
        value["process"]["args"] = json!(["sh", "-c", script, "a b", "", "'\"\\", "ü"]);
        value["process"]["env"] = json!(["PATH=/bin", "ONE=1 and more", "TWO==x", "EMPTY="]);
    });
    assert_eq!(run(rootfs, &plan).unwrap(), "<a b>\n<>\n<'\"\\>\n<ü>\n1 and more|=x|\n");
    let plan = spec("", |value| {
        value["process"]["args"] = json!(["cat", "/proc/self/environ"]);
        value["process"]["env"] = json!(["PATH=/bin", "ONE=1 and more", "TWO==x", "EMPTY="]);
    });
    assert_eq!(run(rootfs, &plan).unwrap(), "PATH=/bin\0ONE=1 and more\0TWO==x\0EMPTY=\0HOME=/\0");
}

/// No entry of the container's user database is needed.
fn users_of_any_number(rootfs: &Path) {
    let plan = spec("id -u; id -g; id -G; umask; grep -E '^(Uid|Gid)' /proc/self/status", |value| {
        value["process"]["user"] =
            json!({"uid": 4_000_000_000_u32, "gid": 70_000, "umask": 0o137, "additionalGids": [5, 4_000_000_001_u32]});
    });
    let (uid, gid) = (["4000000000"; 4].join("\t"), ["70000"; 4].join("\t"));
    let expected = format!("4000000000\n70000\n70000 5 4000000001\n0137\nUid:\t{uid}\nGid:\t{gid}\n");
    assert_eq!(run(rootfs, &plan).unwrap(), expected);
}

/// What the kernel tells of each in /proc/self/limits, in its own order.
fn rlimits_of_every_type(rootfs: &Path) {
    /// CAP_SYS_RESOURCE.
    const SYS_RESOURCE: u64 = 1 << 24;
    let all = [
        ("RLIMIT_CPU", "Max cpu time", 10_000_u64, 20_000_u64),
        ("RLIMIT_FSIZE", "Max file size", 1 << 30, 1 << 31),
        ("RLIMIT_DATA", "Max data size", 1 << 30, 1 << 31),
        ("RLIMIT_STACK", "Max stack size", 1 << 20, 1 << 21),
        ("RLIMIT_CORE", "Max core file size", 0, 4096),
        ("RLIMIT_RSS", "Max resident set", 1 << 30, 1 << 31),
        ("RLIMIT_NPROC", "Max processes", 10_000, 10_001),
        ("RLIMIT_NOFILE", "Max open files", 100, 200),
        ("RLIMIT_MEMLOCK", "Max locked memory", 4096, 8192),
        ("RLIMIT_AS", "Max address space", 1 << 33, 1 << 34),
        ("RLIMIT_LOCKS", "Max file locks", 11, 12),
        ("RLIMIT_SIGPENDING", "Max pending signals", 100, 101),
        ("RLIMIT_MSGQUEUE", "Max msgqueue size", 4096, 8192),
        ("RLIMIT_NICE", "Max nice priority", 1, 2),
        ("RLIMIT_RTPRIO", "Max realtime priority", 1, 2),
        ("RLIMIT_RTTIME", "Max realtime timeout", 1_000_000, 2_000_000),
    ];
    let may_raise = corten_sys::credentials::capabilities().unwrap().effective & SYS_RESOURCE != 0;
    let plan = spec("cat /proc/self/limits", |value| {
        let all = all.iter().map(|(name, _, soft, hard)| json!({"type": name, "soft": soft, "hard": hard}));
        value["process"]["rlimits"] = all.collect::<Vec<_>>().into();
    });
    let output = run(rootfs, &plan).unwrap();
    for (name, told, soft, hard) in all {
        let line =
            output.lines().find_map(|line| line.strip_prefix(told)).unwrap_or_else(|| panic!("{told}: {output}"));
        let numbers: Vec<&str> = line.split_whitespace().take(2).collect();
        // A host that withholds CAP_SYS_RESOURCE lets nobody beyond what it has.
        let most = if may_raise { u64::MAX } else { limits::get(Resource::parse(name).unwrap()).unwrap().hard };
        assert_eq!(numbers, [soft, hard].map(|limit| limit.min(most).to_string()), "{name}");
    }
    assert_eq!(output.lines().count(), all.len() + 1, "one that no case is of: {output}");
}

/// Each of the five is another set; execve(2) makes the program's from them, so the program is nobody's.
fn capability_sets_are_apart(rootfs: &Path) {
    let plan = spec("grep Cap /proc/self/status", |value| {
        value["process"]["user"] = json!({"uid": 5, "gid": 5});
        value["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SYS_TIME"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "effective": ["CAP_CHOWN", "CAP_KILL"],
            "inheritable": ["CAP_CHOWN", "CAP_NET_RAW"],
            "ambient": ["CAP_CHOWN"],
        });
    });
    let (chown, kill, net_raw, sys_time) = (1_u64, 1 << 5, 1 << 13, 1 << 25);
    // A program without capabilities of its own keeps what is ambient.
    let expected = [
        ("Inh", chown | net_raw),
        ("Prm", chown),
        ("Eff", chown),
        ("Bnd", chown | kill | net_raw | sys_time),
        ("Amb", chown),
    ];
    let expected: String = expected.map(|(name, set)| format!("Cap{name}:\t{set:016x}\n")).concat();
    assert_eq!(run(rootfs, &plan).unwrap(), expected);
    // Root's program gets all that is in the bounding set: what it may not have is taken by that one.
    let plan = spec("grep Cap /proc/self/status", |value| {
        value["process"]["capabilities"] =
            json!({"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": []});
    });
    let output = run(rootfs, &plan).unwrap();
    assert!(output.contains(&format!("CapEff:\t{kill:016x}\nCapBnd:\t{kill:016x}\n")), "{output}");
}

/// A pipe has no numbers; `u` is `c`. What a file mode does not say is 0666.
fn devices_of_every_type(rootfs: &Path) {
    let plan = spec("cd /dev; stat -c '%n %F %t:%T %a %u:%g' b c deep/u p", |value| {
        value["linux"]["devices"] = json!([
            {"path": "/dev/b", "type": "b", "major": 7, "minor": 99, "fileMode": 0o600},
            {"path": "/dev/c", "type": "c", "major": 1, "minor": 8, "fileMode": 0o440, "uid": 3, "gid": 4},
            {"path": "/dev/deep/u", "type": "u", "major": 1, "minor": 9, "uid": 5},
            {"path": "/dev/p", "type": "p", "gid": 6},
        ]);
    });
    let expected = "b block special file 7:63 600 0:0\nc character special file 1:8 440 3:4\n\
        deep/u character special file 1:9 666 5:0\np fifo 0:0 666 0:6\n";
    assert_eq!(run(rootfs, &plan).unwrap(), expected);
}

fn memory_policy_modes_and_flags(rootfs: &Path) {
    if !Path::new("/proc/self/numa_maps").exists() {
        println!("skipped: this kernel knows one memory node");
        return;
    }
    let policy = |policy: Value| {
        // The stack is the process's own, and has no policy but the process's.
        let plan = spec("head -n 1 /proc/self/numa_maps", |value| value["linux"]["memoryPolicy"] = policy);
        run(rootfs, &plan)
            .map(|line| line.split(' ').nth(1).unwrap_or_default().to_owned())
            .map_err(|failure| failure.message)
    };
    for (mode, nodes, flags, told) in [
        ("MPOL_DEFAULT", "", json!([]), "default"),
        ("MPOL_LOCAL", "", json!([]), "local"),
        ("MPOL_BIND", "0", json!([]), "bind:0"),
        ("MPOL_INTERLEAVE", "0", json!([]), "interleave:0"),
        ("MPOL_PREFERRED", "0", json!([]), "prefer:0"),
        ("MPOL_BIND", "0", json!(["MPOL_F_STATIC_NODES"]), "bind=static:0"),
        ("MPOL_INTERLEAVE", "0", json!(["MPOL_F_RELATIVE_NODES"]), "interleave=relative:0"),
    ] {
        let told = Ok(told.to_owned());
        assert_eq!(policy(json!({"mode": mode, "nodes": nodes, "flags": flags})), told, "{mode} {flags}");
    }
    for (mode, nodes, flags) in [
        ("MPOL_BIND", "", json!([])),
        ("MPOL_BIND", "1000", json!([])),
        ("MPOL_BIND", "0", json!(["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"])),
    ] {
        let refused = policy(json!({"mode": mode, "nodes": nodes, "flags": flags})).unwrap_err();
        assert!(refused.starts_with("cannot set the memory policy"), "{refused}");
    }
}

fn personality_of_this_machine(rootfs: &Path) {
    let plan = spec("cat /proc/self/personality", |value| {
        value["linux"]["personality"] = json!({"domain": "LINUX", "flags": []});
    });
    assert_eq!(run(rootfs, &plan).unwrap(), "00000000\n");
}
