//! Containers in user namespaces of their own, whose mounts, devices and identity the stub cannot have prepared.

use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;

use corten_shim::client::ExecProcess;
use corten_shim::protocol::Event;
use serde_json::{Value, json};

use crate::Case;
use crate::support::*;

pub const CASES: &[Case] = &[
    ("users::a_user_namespace_through_the_shim", a_user_namespace_through_the_shim),
    ("users::ids_that_are_not_mapped_are_refused", ids_that_are_not_mapped_are_refused),
];

/// Root is 100000 outside.
fn mapped(args: &[&str]) -> Value {
    let mut wanted = spec(args);
    wanted["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    for key in ["uidMappings", "gidMappings"] {
        wanted["linux"][key] = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    }
    wanted
}

/// With a stub that is warm, one that has staged mounts, and an exec into each.
fn a_user_namespace_through_the_shim(world: &World) {
    std::fs::set_permissions(world.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let rootfs = world.own_rootfs("users");
    std::fs::set_permissions(rootfs.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
    let script = "exec 2>&1; id -u; cat /proc/self/uid_map; hostname; touch /tmp/made && echo made; echo x >/dev/null && \
        stat -c %t:%T /dev/null /dev/zero; stat -c %t:%T /proc/keys; (echo 1 >/proc/sys/kernel/printk) 2>&1; echo ready; sleep 100";
    for staged in [false, true] {
        let mut shim = if staged { Shim::prepared(world) } else { Shim::new(world) };
        let (ours, theirs) = UnixStream::pair().unwrap();
        let wanted = mapped(&["sh", "-c", script]);
        let pid = shim.start(&rootfs, &plan(wanted.clone()), pipes(), &[(ALL, &theirs)]).unwrap();
        drop(theirs);
        let output = read_until(&ours, "ready");
        for expected in ["     100000      65536\n", "box\n", "made\n", "1:3\n", "1:5\n", "Read-only file system"] {
            assert!(output.contains(expected), "{expected:?}: {output}");
        }
        let owner = std::fs::metadata(format!("/proc/{pid}")).unwrap().uid();
        assert_eq!((owner, std::fs::metadata(rootfs.join("tmp/made")).unwrap().uid()), (100_000, 100_000));
        std::fs::remove_file(rootfs.join("tmp/made")).unwrap();

        let mut wanted = wanted;
        wanted["process"]["args"] = json!(["sh", "-c", "id -u; cat /proc/self/gid_map"]);
        wanted["process"]["user"] = json!({"uid": 7, "gid": 8});
        let spec: oci_spec::runtime::Spec = serde_json::from_value(wanted).unwrap();
        let process = corten_runtime::exec_plan(&spec, spec.process().as_ref().unwrap(), None).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let attach = Some((ALL, theirs.as_fd()));
        let seq = shim.connection.exec("e", ExecProcess::Plan(&process), None, attach, None).unwrap();
        drop(theirs);
        assert!(matches!(shim.answer(seq).unwrap(), Event::ExecStarted(_)));
        let output = unframe(&read_all(&ours));
        assert_eq!(output.split_whitespace().collect::<Vec<_>>(), ["7", "0", "100000", "65536"]);
        assert_eq!(shim.exec_exited("e").code, 0);

        let seq = shim.connection.signal(None, 9).unwrap();
        shim.answer(seq).unwrap();
        assert_eq!(shim.exited().code, 137);
        shim.release();
    }
}

fn ids_that_are_not_mapped_are_refused(_: &World) {
    let mut wanted = mapped(&["true"]);
    wanted["process"]["user"] = json!({"uid": 70_000, "gid": 0});
    let spec = serde_json::from_value(wanted).unwrap();
    let error = corten_runtime::plan(&spec, &corten_runtime::plan::Facts::default()).unwrap_err();
    assert!(error.to_string().contains("not mapped"), "{error}");
}
