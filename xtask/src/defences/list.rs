//! The defences: what each is, where it stands, and which test notices when it is gone.

/// One defence.
pub struct Defence {
    /// The attack, by its number or name.
    pub attack: &'static str,
    /// What keeps it off.
    pub what: &'static str,
    /// Where it stands.
    pub file: &'static str,
    /// Its code, which occurs there once.
    pub code: &'static str,
    /// What would stand there without it.
    pub instead: &'static str,
    /// Package of the test.
    pub package: &'static str,
    /// Which of the package's test programs, as `cargo test` takes it.
    pub suite: [&'static str; 2],
    /// Name of the test.
    pub test: &'static str,
}

const ATTACKS: (&str, [&str; 2]) = ("corten", ["--test", "attacks"]);
const ISOLATION: (&str, [&str; 2]) = ("corten", ["--test", "isolation"]);
const RUNTIME_COMMAND: (&str, [&str; 2]) = ("corten", ["--test", "runtime_command"]);
const SUPERVISE: (&str, [&str; 2]) = ("corten-shim", ["--test", "supervise"]);
const APPLY: (&str, [&str; 2]) = ("corten-runtime", ["--test", "apply"]);
const RUNTIME: (&str, [&str; 2]) = ("corten-runtime", ["--lib", "--locked"]);
const ENGINE: (&str, [&str; 2]) = ("corten-engine", ["--test", "engine"]);
const PATHS: (&str, [&str; 2]) = ("corten-sys", ["--lib", "--locked"]);

const fn defence(
    attack: &'static str,
    what: &'static str,
    (file, code, instead): (&'static str, &'static str, &'static str),
    (package, suite): (&'static str, [&'static str; 2]),
    test: &'static str,
) -> Defence {
    Defence { attack, what, file, code, instead, package, suite, test }
}

/// All of them.
pub const DEFENCES: &[Defence] = &[
    defence(
        "CVE-2019-5736",
        "shims execute a read-only view of the executable",
        (
            "crates/sys/src/mount.rs",
            "match set_attributes(view.as_fd(), &Attributes { set: attr::RDONLY, ",
            "match set_attributes(view.as_fd(), &Attributes { set: 0, ",
        ),
        SUPERVISE,
        "own_binary_is_read_only",
    ),
    defence(
        "CVE-2019-5736",
        "the view is in no mount namespace in which it could be changed",
        (
            "crates/sys/src/mount.rs",
            "    Ok(rustix::fs::openat(CWD, crate::process::fd_path(view.as_fd()), flags, rustix::fs::Mode::empty())?)",
            "    let _ = flags;\n    Ok(view)",
        ),
        SUPERVISE,
        "own_binary_is_read_only",
    ),
    defence(
        "CVE-2019-5736",
        "and so does the OCI command line",
        (
            "crates/runtime/src/command/own_binary.rs",
            "    if there.f_flag.contains(StatVfsMountFlags::RDONLY) {\n",
            "    if there.f_flag.contains(StatVfsMountFlags::RDONLY) || true {\n",
        ),
        RUNTIME_COMMAND,
        "the_executable_cannot_be_reached_for_writing",
    ),
    defence(
        "CVE-2022-0492",
        "nothing of the host is left below a root that lies over the minimal one",
        (
            "crates/runtime/src/apply/base.rs",
            "        mount::detach(c\"kit\")?;\n        self.bare.set(true);",
            "        self.bare.set(true);",
        ),
        SUPERVISE,
        "below_a_containers_root_is_nothing",
    ),
    defence(
        "CVE-2016-9962",
        "who goes into a container holds no descriptor of the host",
        (
            "crates/shim/src/stub.rs",
            "            close_others(&[reporter.socket().as_fd()], &[], stdio.as_ref());\n            if go_in",
            "            if go_in",
        ),
        ATTACKS,
        "whoever_comes_in_brings_nothing_of_the_host",
    ),
    defence(
        "CVE-2016-9962",
        "nor who goes in from the OCI command line",
        (
            "crates/runtime/src/command/exec.rs",
            "        close_others(&reporter, stdio.as_ref(), manner);\n",
            "        close_others(&reporter, stdio.as_ref(), Manner { preserve_fds: 1 << 20, ..manner });\n",
        ),
        RUNTIME_COMMAND,
        "newcomers_bring_nothing_of_the_host",
    ),
    defence(
        "CVE-2016-9962",
        "a newcomer's procfs shows processes and nothing that is masked",
        ("crates/runtime/src/apply/sysctl.rs", "            processes.set_string(\"subset\", \"pid\")?;\n", ""),
        RUNTIME,
        "a_newcomer_holds_processes_only",
    ),
    defence(
        "CVE-2016-9962",
        "and is gone before others can hold it back",
        ("crates/runtime/src/apply/process.rs", "    *placement.proc = Proc::None;\n", ""),
        RUNTIME_COMMAND,
        "newcomers_bring_nothing_of_the_host",
    ),
    defence(
        "CVE-2016-9962",
        "and who takes it over all the same names no process of the host as the container's",
        ("crates/runtime/src/command/launch.rs", "        if !process::is_child(pid) {\n", "        if false {\n"),
        RUNTIME_COMMAND,
        "a_newcomer_that_is_taken_over_names_no_process_of_the_host",
    ),
    defence(
        "CVE-2016-9962",
        "nor does who takes over an exec of the engine's, to the shim",
        (
            "crates/shim/src/process.rs",
            "        if !process::is_child(pid) && !strays.iter().any(|ended| ended.pid == pid) {\n",
            "        if false {\n",
        ),
        SUPERVISE,
        "an_exec_that_is_taken_over_names_no_process_of_the_host",
    ),
    defence(
        "CVE-2024-21626",
        "the working directory must lie below the root",
        (
            "crates/runtime/src/apply/process.rs",
            "Ok(path) if path.as_bytes().starts_with(b\"/\") => Ok(()),\n        _ => Err(",
            "Ok(_) => Ok(()),\n        _ => Err(",
        ),
        APPLY,
        "a_leaked_directory_is_no_way_out",
    ),
    defence(
        "CVE-2024-21626",
        "no program is named by way of a descriptor: of the host's directories none is open then",
        ("crates/runtime/src/apply/mod.rs", "    drop(inputs.base);\n    if let", "    if let"),
        RUNTIME_COMMAND,
        "no_descriptor_leads_to_the_hosts_programs",
    ),
    defence(
        "CVE-2024-21626, CVE-2016-9962",
        "nor anything else, while a container waits for its start",
        ("crates/runtime/src/command/launch.rs", "                self.close_others(&opened, None, &reporter);\n", ""),
        RUNTIME_COMMAND,
        "who_waits_for_the_start_holds_nothing_of_the_host",
    ),
    defence(
        "CVE-2025-31133",
        "a device node of the image is verified before it stands for the device",
        ("crates/runtime/src/apply/devices.rs", "    if same {\n", "    if same || !same {\n"),
        SUPERVISE,
        "masks_do_not_use_the_images_null",
    ),
    defence(
        "CVE-2025-31133",
        "masked paths are covered with the shim's null device, not with whatever the image has there by then",
        (
            "crates/runtime/src/apply/mask.rs",
            "            cover(&place, base).explain_with(",
            "            let _ = cover;\n            let null = path::find(root, \"/dev/null\").and_then(|null| mount::clone_of(null.as_fd(), false));\n            \
             let _ = base;\n            null.and_then(|null| mount::attach(null.as_fd(), place.as_fd())).explain_with(",
        ),
        SUPERVISE,
        "a_null_that_is_swapped_masks_nothing_else",
    ),
    defence(
        "CVE-2025-31133",
        "a masked path that is a link masks what it leads to",
        (
            "crates/runtime/src/apply/mask.rs",
            "    match path::find(root, path) {\n",
            "    match path::find_no_follow(root, path) {\n",
        ),
        SUPERVISE,
        "masked_links_mask_what_they_lead_to",
    ),
    defence(
        "CVE-2025-52565",
        "the console is not bound over a link",
        (
            "crates/runtime/src/apply/devices.rs",
            "let place = path::find_no_follow(&dev, \"console\").explain(what)?;",
            "let place = path::find(root, \"/dev/console\").explain(what)?;",
        ),
        SUPERVISE,
        "console_link_is_refused",
    ),
    defence(
        "CVE-2025-52881",
        "what is written to procfs goes to procfs's own root",
        ("crates/sys/src/path.rs", "    if !is_proc_root(proc_root)? {\n", "    if false {\n"),
        PATHS,
        "proc_files_need_a_real_proc_root",
    ),
    defence(
        "CVE-2025-52881",
        "and crosses no link on its way",
        (
            "crates/sys/src/path.rs",
            "ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV",
            "ResolveFlags::BENEATH | ResolveFlags::NO_XDEV",
        ),
        PATHS,
        "proc_files_need_a_real_proc_root",
    ),
    defence(
        "CVE-2025-52881",
        "nor anything that is mounted over procfs's files",
        (
            "crates/sys/src/path.rs",
            "ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV",
            "ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS",
        ),
        PATHS,
        "proc_files_that_are_covered_are_refused",
    ),
    defence(
        "CVE-2019-16884",
        "nothing is mounted over the kernel's own files",
        (
            "crates/runtime/src/apply/procfs.rs",
            "if path::is_in_proc(place).explain(WHAT)? && !is_emulated(root, place)? {",
            "if false && !is_emulated(root, place)? {",
        ),
        ISOLATION,
        "nothing_is_mounted_over_procfs",
    ),
    defence(
        "CVE-2019-19921, CVE-2023-27561",
        "/proc and /sys are no links",
        (
            "crates/runtime/src/apply/mounts.rs",
            "matches!(fstype, \"proc\" | \"sysfs\") || plan",
            "matches!(fstype, \"procfs\") || plan",
        ),
        SUPERVISE,
        "kernel_views_behind_links_are_refused",
    ),
    defence(
        "CVE-2026-41579",
        "nor is /dev",
        ("crates/runtime/src/apply/mounts.rs", " || plan.destination.trim_end_matches('/') == \"/dev\";", ";"),
        SUPERVISE,
        "kernel_views_behind_links_are_refused",
    ),
    defence(
        "CVE-2021-30465",
        "one resolver, from a descriptor, that does not leave the root",
        ("crates/sys/src/path.rs", "ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS", "ResolveFlags::empty()"),
        PATHS,
        "links_stay_inside",
    ),
    defence(
        "CVE-2021-30465",
        "whatever is swapped for a link meanwhile",
        ("crates/sys/src/path.rs", "ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS", "ResolveFlags::empty()"),
        SUPERVISE,
        "links_swapped_while_starting",
    ),
    defence(
        "CVE-2021-30465, CVE-2019-19921",
        "by a neighbour whose image swaps links on a shared volume",
        ("crates/sys/src/path.rs", "ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS", "ResolveFlags::empty()"),
        ATTACKS,
        "a_neighbour_that_swaps_links_moves_no_mount",
    ),
    defence(
        "CVE-2021-30465",
        "what is missing is made from one directory to the next, and no link is followed there",
        ("crates/sys/src/path.rs", "name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC", "name, flags | OFlags::CLOEXEC"),
        PATHS,
        "directories_are_made_through_links_inside_the_root",
    ),
    defence(
        "CVE-2022-0492",
        "the filter keeps user namespaces and mounts from whoever lacks CAP_SYS_ADMIN",
        (
            "crates/engine/src/launch.rs",
            "let seccomp = filter(shared, usual, &oci)?;",
            "let seccomp = filter(shared, usual, &oci)?.filter(|_| false);",
        ),
        ATTACKS,
        "control_groups_are_no_way_out",
    ),
    defence(
        "CVE-2022-0492",
        "a container's view of its control groups is read-only",
        (
            "crates/spec/src/mounts.rs",
            "(\"/sys/fs/cgroup\", \"cgroup\", \"cgroup\", &[\"ro\", ",
            "(\"/sys/fs/cgroup\", \"cgroup\", \"cgroup\", &[",
        ),
        ISOLATION,
        "control_groups_are_shown_and_not_writable",
    ),
    defence(
        "CVE-2022-0492",
        "and so are the hierarchies that shims keep at hand",
        (
            "crates/runtime/src/apply/base.rs",
            "const SHOWN: u64 = attr::RDONLY | attr::NOSUID",
            "const SHOWN: u64 = attr::NOSUID",
        ),
        SUPERVISE,
        "the_minimal_root_gives_nothing_to_write_to",
    ),
    defence(
        "CVE-2016-9962",
        "the shims' own root, which they share, is read-only: its null device covers masked paths of others",
        ("crates/shim/src/zygote.rs", "    base::seal()?;\n", ""),
        SUPERVISE,
        "the_minimal_root_gives_nothing_to_write_to",
    ),
    defence(
        "cgroup namespace escape",
        "a container's hierarchies begin at its own group",
        (
            "crates/runtime/src/apply/namespaces.rs",
            "        namespace::unshare(flags::CGROUP).explain(\"cannot make a cgroup namespace\")?;\n",
            "",
        ),
        ISOLATION,
        "control_groups_are_shown_and_not_writable",
    ),
    defence(
        "chroot escape",
        "shims stand at their namespace's root, where an exec arrives, whatever the daemon's is",
        ("crates/runtime/src/apply/base.rs", "    namespace::stand_at_root()?;\n", ""),
        ATTACKS,
        "a_chroot_around_the_daemon_is_no_way_out",
    ),
    defence(
        "chroot escape",
        "and so does a container's first process, whatever the OCI command line's is",
        ("crates/runtime/src/apply/mod.rs", "    if in_host {\n", "    if false && in_host {\n"),
        RUNTIME_COMMAND,
        "a_chroot_around_the_runtime_is_no_way_out",
    ),
    defence(
        "an image's device as its passwd file",
        "the daemon opens a container's files only if they are files: opening a device has effects on the host",
        ("crates/sys/src/path.rs", "    if !is_regular(place.as_fd())? {\n        return Ok(None);\n    }\n", ""),
        PATHS,
        "only_regular_files_are_opened",
    ),
    defence(
        "a root that is handed on",
        "the next container gets a removed one's root only if nothing was ever changed in it, not even for a moment",
        (
            "crates/snapshot/src/reuse.rs",
            "        Ok(is_empty && mark.still_holds(&self.upper))",
            "        let _ = mark;\n        Ok(is_empty)",
        ),
        ENGINE,
        "a_root_that_was_changed_is_nobody_elses",
    ),
    defence(
        "a root that is handed on",
        "the files that it has besides only as they were written",
        (
            "crates/engine/src/spare/directory.rs",
            "        if !FILES.iter().zip(marks).all(",
            "        if false && !FILES.iter().zip(marks).all(",
        ),
        ENGINE,
        "files_that_were_changed_are_nobody_elses",
    ),
    defence(
        "a root that is handed on",
        "nobody who outlives the container has anything of its mounts any more",
        (
            "crates/engine/src/reuse.rs",
            "        if !watched.are_gone() || ",
            "        let _ = watched.are_gone();\n        if ",
        ),
        ENGINE,
        "a_root_in_others_reach_is_nobody_elses",
    ),
    defence(
        "a root that is handed on",
        "it goes to containers with the same user and rights, and neither to nor from any with unusual ones",
        (
            "crates/engine/src/reuse.rs",
            "        (alone && plain).then(|| Rights {",
            "        let _ = plain;\n        alone.then(|| Rights {",
        ),
        ENGINE,
        "a_root_goes_to_none_with_other_rights",
    ),
    defence(
        "a root that is handed on",
        "nor to or from any that shares mounts, a network or processes: it could pass a watch of its files to somebody",
        (
            "crates/engine/src/reuse.rs",
            "        (alone && plain).then(|| Rights {",
            "        let _ = alone;\n        plain.then(|| Rights {",
        ),
        ENGINE,
        "a_root_that_others_came_into_is_nobody_elses",
    ),
    defence(
        "a root that is handed on",
        "nor from one that something was executed in",
        ("crates/engine/src/exec.rs", "        reuse.forget();\n", "        drop(reuse);\n"),
        ENGINE,
        "a_root_that_others_came_into_is_nobody_elses",
    ),
    defence(
        "a root that is handed on",
        "nor from one whose namespaces another has joined",
        ("crates/engine/src/launch.rs", "    launch.joined.share();\n", ""),
        ENGINE,
        "a_root_that_others_came_into_is_nobody_elses",
    ),
];
