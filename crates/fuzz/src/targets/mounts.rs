//! A mount's options, one per line: sorted as mount(8)'s users expect, with the last word winning.

use corten_runtime::plan::{Facts, MountKind, plan};
use corten_sys::mount::attr;
use serde_json::json;

use crate::{Form, Target};

pub(crate) const TARGET: Target = Target {
    name: "mount-options",
    form: Form::Lines,
    samples: &[
        "nosuid\nnoexec\nmode=755\nsize=64k",
        "rbind\nrro\nrslave\nnoatime",
        "bind\nro\nnodev\nrprivate\nstrictatime",
    ],
    words: &[
        "ro",
        "rw",
        "rro",
        "rrw",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "rnoexec",
        "noatime",
        "rnoatime",
        "relatime",
        "norelatime",
        "strictatime",
        "nodiratime",
        "diratime",
        "nosymfollow",
        "bind",
        "rbind",
        "shared",
        "rshared",
        "slave",
        "private",
        "unbindable",
        "runbindable",
        "tmpcopyup",
        "remount",
        "defaults",
        "mode=0",
        "size=",
        "=",
        "r",
        "idmap",
        "ridmap",
        "rbindable",
    ],
    run,
};

fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let options: Vec<&str> = text.split('\n').collect();
    let spec = json!({
        "ociVersion": "1.2.0", "process": {"user": {"uid": 0, "gid": 0}, "args": ["a"], "cwd": "/"},
        "mounts": [{"destination": "/m", "type": "tmpfs", "source": "s", "options": options}],
        "linux": {"namespaces": [{"type": "mount"}]},
    });
    let spec = serde_json::from_value(spec).expect("a spec");
    let mount = match plan(&spec, &Facts::default()) {
        Ok(plan) => plan.mounts.into_iter().next().expect("one mount"),
        // Options that exclude each other, or need mappings that are not there.
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let says = |wanted: &[&str]| options.iter().any(|word| wanted.contains(word));
    let remount = says(&["remount"]);
    assert_eq!(mount.kind == MountKind::Remount, remount);
    assert_eq!(matches!(mount.kind, MountKind::Bind { .. }), says(&["bind", "rbind"]) && !remount);
    let pairs = [
        ("ro", "rw", attr::RDONLY),
        ("nosuid", "suid", attr::NOSUID),
        ("nodev", "dev", attr::NODEV),
        ("noexec", "exec", attr::NOEXEC),
        ("nodiratime", "diratime", attr::NODIRATIME),
    ];
    for (set, clear, bit) in pairs {
        let check = |prefix: &str, is_set: u64, is_cleared: u64| {
            let last = options
                .iter()
                .rev()
                .filter_map(|word| word.strip_prefix(prefix))
                .find(|word| [set, clear].contains(word));
            assert_eq!(is_set & bit != 0, last == Some(set), "{prefix}{set}");
            assert_eq!(is_cleared & bit != 0, last == Some(clear), "{prefix}{clear}");
        };
        check("", mount.set, mount.clear);
        check("r", mount.set_recursive, mount.clear_recursive);
    }
}
