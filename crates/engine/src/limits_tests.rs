use super::*;

const MIB: i64 = 1 << 20;

fn support() -> Support {
    let (cpus, mems) = ("0-1".to_owned(), "0".to_owned());
    Support {
        memory: true,
        swap: true,
        memory_reservation: true,
        memory_swappiness: true,
        pids: true,
        cpu_shares: true,
        cpu_cfs: true,
        cpuset: true,
        blkio_weight: true,
        cpus,
        mems,
        cpu_count: 2,
        ..Support::default()
    }
}

/// What an update says: its error, its warnings, or nothing.
fn check(present: Resources, new: Resources, expect: &str) {
    let spec = ContainerSpec { resources: present, ..ContainerSpec::default() };
    let mut change = UpdateContainer { resources: new, restart: None };
    let text = check_change(&support(), &mut change.resources)
        .and_then(|warnings| updated(&spec, &change).map(|_| warnings.join("\n")))
        .unwrap_or_else(|error| error.message());
    assert_eq!(text, expect);
}

#[test]
fn an_update_is_checked_by_itself() {
    let memory = |memory, memory_swap| Resources { memory, memory_swap, ..Resources::default() };
    check(memory(0, 0), memory(4 * MIB, 0), "Minimum memory limit allowed is 6MB");
    let text = "Minimum memoryswap limit should be larger than memory limit, see usage";
    check(memory(0, 0), memory(64 * MIB, 32 * MIB), text);
    // Alone it is nothing that a new container could have.
    check(memory(0, 0), memory(0, 64 * MIB), "");
    let cpus = |nano_cpus, cpu_period| Resources { nano_cpus, cpu_period, ..Resources::default() };
    check(cpus(0, 0), cpus(1, 5000), "Conflicting options: Nano CPUs and CPU Period cannot both be set");
    let text = "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available";
    check(cpus(0, 0), cpus(9_000_000_000, 0), text);
    let cpuset = Resources { cpuset_cpus: "7".into(), ..Resources::default() };
    check(cpus(0, 0), cpuset, "Requested CPUs are not available - requested 7, available: 0-1");
}

#[test]
fn an_update_may_contradict_what_is_there() {
    let memory = |memory, memory_swap| Resources { memory, memory_swap, ..Resources::default() };
    let text =
        "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time";
    check(memory(64 * MIB, 128 * MIB), memory(129 * MIB, 0), text);
    check(memory(64 * MIB, 128 * MIB), memory(128 * MIB, 0), "");
    check(memory(64 * MIB, 128 * MIB), memory(256 * MIB, 256 * MIB), "");
    check(memory(0, 0), memory(64 * MIB, 0), text);
    let cpus =
        |nano_cpus, cpu_period, cpu_quota| Resources { nano_cpus, cpu_period, cpu_quota, ..Resources::default() };
    let text =
        |new: &str, old: &str| format!("Conflicting options: {new} cannot be updated as {old} has already been set");
    check(cpus(0, 5000, 0), cpus(1, 0, 0), &text("Nano CPUs", "CPU Period"));
    check(cpus(0, 0, 5000), cpus(1, 0, 0), &text("Nano CPUs", "CPU Quota"));
    check(cpus(1, 0, 0), cpus(0, 5000, 0), &text("CPU Period", "NanoCPUs"));
    check(cpus(1, 0, 0), cpus(0, 0, 5000), &text("CPU Quota", "NanoCPUs"));
    check(cpus(1, 0, 0), cpus(2, 0, 0), "");
}

#[test]
fn restart_policies_change_unless_the_container_goes_with_its_end() {
    let change = UpdateContainer { restart: Some(RestartPolicy::Always), ..UpdateContainer::default() };
    let spec = ContainerSpec::default();
    assert_eq!(updated(&spec, &change).unwrap().restart, RestartPolicy::Always);
    let removed = ContainerSpec { auto_remove: true, ..spec };
    let text = "Restart policy cannot be updated because AutoRemove is enabled for the container";
    assert_eq!(updated(&removed, &change).unwrap_err().message(), text);
    let change = UpdateContainer { restart: Some(RestartPolicy::No), ..change };
    assert!(updated(&removed, &change).is_ok());
}

#[test]
fn the_group_hears_of_differences_only() {
    let present = Resources {
        memory: 64 * MIB,
        memory_swap: 128 * MIB,
        cpu_shares: 512,
        pids_limit: Some(10),
        cpuset_cpus: "0".into(),
        ..Resources::default()
    };
    let heard = |new: Resources| {
        let mut after = present.clone();
        merge(&mut after, &new);
        difference(&present, &after)
    };
    assert_eq!(heard(Resources::default()), Resources::default());
    assert_eq!(heard(Resources { cpu_shares: 512, ..Resources::default() }), Resources::default());
    let swap = Resources { memory_swap: -1, ..Resources::default() };
    assert_eq!(heard(swap), Resources { memory: 64 * MIB, memory_swap: -1, ..Resources::default() });
    let pids = Resources { pids_limit: Some(0), ..Resources::default() };
    assert_eq!(heard(pids), Resources { pids_limit: Some(-1), ..Resources::default() });
    let cpus = Resources { nano_cpus: 5, cpuset_cpus: "0-1".into(), ..Resources::default() };
    assert_eq!(heard(cpus.clone()), cpus);
}

#[test]
fn what_the_host_lacks_is_left_out_of_an_update() {
    let mut change = Resources { memory_reservation: 8 * MIB, pids_limit: Some(0), ..Resources::default() };
    let warnings = check_change(&Support::default(), &mut change).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(change, Resources::default());
}
