//! A runtime `config.json`: whatever it says becomes a plan or an error.

use corten_runtime::plan::{Facts, MountKind, SeccompProgram};
use corten_runtime::{Plan, plan};
use corten_seccomp::{Machine, compile};
use oci_spec::runtime::Spec;

use crate::{Form, Target};

pub(crate) const TARGET: Target = Target {
    name: "config",
    form: Form::Json,
    samples: &[include_str!("config.json")],
    words: &[
        "bind",
        "rbind",
        "tmpfs",
        "proc",
        "cgroup",
        "cgroup2",
        "shared",
        "rslave",
        "size=1k",
        "user",
        "mount",
        "time",
        "CAP_SYS_ADMIN",
        "RLIMIT_NOFILE",
        "SCMP_ACT_NOTIFY",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_CMP_MASKED_EQ",
        "SCMP_ARCH_X32",
        "net.core.somaxconn",
        "kernel/domainname",
        "/dev",
        "/dev/null",
    ],
    run,
};

fn run(input: &[u8]) {
    let Ok(spec) = serde_json::from_slice::<Spec>(input) else { return };
    for unified_cgroup in [false, true] {
        let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
        let compiled = profile.and_then(|profile| compile(profile, Machine::X86_64).ok());
        let seccomp = compiled.map(|program| SeccompProgram { filter: program.filter, flags: program.flags });
        let _ = (plan::net_devices(&spec), plan::rdt(&spec, "id"));
        match plan(&spec, &Facts { seccomp, unified_cgroup, host_side: true }) {
            Ok(plan) => check(&plan),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// A plan crosses a socket, and refers to what is handed over beside it.
fn check(plan: &Plan) {
    let text = serde_json::to_vec(plan).expect("a plan is JSON");
    assert_eq!(&serde_json::from_slice::<Plan>(&text).expect("of its own kind"), plan);
    let binds = plan.mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Bind { .. }));
    assert_eq!(plan.sources().len(), binds.count());
    assert!(plan.mounts.iter().all(|mount| mount.destination.starts_with('/')));
    assert!(!plan.process.args.is_empty() && plan.process.cwd.starts_with('/'));
    let texts = plan.process.args.iter().chain(&plan.process.env).chain([&plan.process.cwd]);
    assert!(texts.into_iter().all(|text| !text.contains('\0')));
    plan.joins();
}
