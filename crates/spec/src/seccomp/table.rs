//! The default seccomp profile as a table: which system calls a container may make, and under which conditions.
//!
//! It has the effect of Docker's default profile (moby/profiles), including its answer to CVE-2026-31431: sockets of the
//! families `AF_ALG` and `AF_VSOCK` are refused. What no rule names fails with `EPERM`. Names that an architecture lacks are
//! skipped by the compiler.

use oci_spec::runtime::LinuxSeccompOperator::{self, *};

use super::{ENOSYS, When};

/// Argument conditions of a rule: index, operator, value, second value. All must hold.
pub(super) type Args = &'static [(usize, LinuxSeccompOperator, u64, u64)];

/// One row of the table.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// Names, separated by white space.
    pub names: &'static str,
    /// When the row counts.
    pub when: &'static [When],
    /// Conditions on the arguments.
    pub args: Args,
    /// The error the call fails with; `None` allows it.
    pub errno: Option<u32>,
}

const fn allow(names: &'static str) -> Row {
    Row { names, when: &[], args: &[], errno: None }
}

const fn allow_when(when: &'static [When], names: &'static str) -> Row {
    Row { names, when, args: &[], errno: None }
}

const fn allow_if(names: &'static str, args: Args) -> Row {
    Row { names, when: &[], args, errno: None }
}

/// The low half of an argument.
const LOW: u64 = 0xffff_ffff;
/// `CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}`.
const NEW_NAMESPACES: u64 =
    0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000;

/// The table.
pub(super) const ROWS: &[Row] = &[
    allow(
        "
        accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
        clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
        clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
        epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
        exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2
        fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
        fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
        futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid
        getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid
        getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname
        getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1
        inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl
        ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32
        lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr
        lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat
        mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
        mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall
        munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal
        pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64
        process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
        recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat
        renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
        rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
        sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
        sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
        seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto
        set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
        setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid
        setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl
        shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat
        stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time
        timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
        timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate
        truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork
        vmsplice wait4 waitid waitpid write writev
        ",
    ),
    allow_when(&[When::Kernel(4, 8)], "process_vm_readv process_vm_writev ptrace"),
    // Every family but AF_ALG (38) and AF_VSOCK (40). The kernel reads the family from the low half of the register, but a
    // filter compares whole registers: "greater than 40" would let 0x1_0000_0026 through, which is AF_ALG. So the families
    // below 64 (there are 46) are named by masks of the low half, in ranges that are powers of two.
    allow_if("socket", &[(0, ScmpCmpMaskedEq, LOW & !31, 0)]),
    allow_if("socket", &[(0, ScmpCmpMaskedEq, LOW & !3, 32)]),
    allow_if("socket", &[(0, ScmpCmpMaskedEq, LOW & !1, 36)]),
    allow_if("socket", &[(0, ScmpCmpMaskedEq, LOW, 39)]),
    allow_if("socket", &[(0, ScmpCmpMaskedEq, LOW, 41)]),
    allow_if("socket", &[(0, ScmpCmpMaskedEq, LOW & !1, 42)]),
    allow_if("socket", &[(0, ScmpCmpMaskedEq, LOW & !3, 44)]),
    allow_if("socket", &[(0, ScmpCmpMaskedEq, LOW & !15, 48)]),
    // PER_LINUX, PER_LINUX32, UNAME26, both, and the query.
    allow_if("personality", &[(0, ScmpCmpEq, 0, 0)]),
    allow_if("personality", &[(0, ScmpCmpEq, 0x0008, 0)]),
    allow_if("personality", &[(0, ScmpCmpEq, 0x2_0000, 0)]),
    allow_if("personality", &[(0, ScmpCmpEq, 0x2_0008, 0)]),
    allow_if("personality", &[(0, ScmpCmpEq, 0xffff_ffff, 0)]),
    allow_when(&[When::Arch(&["ppc64le"])], "sync_file_range2 swapcontext"),
    allow_when(
        &[When::Arch(&["arm", "arm64"])],
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    allow_when(&[When::Arch(&["amd64", "x32"])], "arch_prctl"),
    allow_when(&[When::Arch(&["amd64", "x32", "x86"])], "modify_ldt"),
    allow_when(&[When::Arch(&["s390", "s390x"])], "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    allow_when(&[When::Arch(&["riscv64"])], "riscv_flush_icache"),
    allow_when(&[When::Cap("CAP_DAC_READ_SEARCH")], "open_by_handle_at"),
    allow_when(
        &[When::Cap("CAP_SYS_ADMIN")],
        "
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules
        lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname
        sethostname setns syslog umount umount2 unshare
        ",
    ),
    // Processes and threads, but no new namespaces; s390 has the flags in the second argument.
    Row {
        names: "clone",
        when: &[When::NoCap("CAP_SYS_ADMIN"), When::NoArch(&["s390", "s390x"])],
        args: &[(0, ScmpCmpMaskedEq, NEW_NAMESPACES, 0)],
        errno: None,
    },
    Row {
        names: "clone",
        when: &[When::NoCap("CAP_SYS_ADMIN"), When::Arch(&["s390", "s390x"])],
        args: &[(1, ScmpCmpMaskedEq, NEW_NAMESPACES, 0)],
        errno: None,
    },
    // A filter can't see clone3's flags; ENOSYS makes C libraries fall back to clone.
    Row { names: "clone3", when: &[When::NoCap("CAP_SYS_ADMIN")], args: &[], errno: Some(ENOSYS) },
    allow_when(&[When::Cap("CAP_SYS_BOOT")], "reboot"),
    allow_when(&[When::Cap("CAP_SYS_CHROOT")], "chroot"),
    allow_when(&[When::Cap("CAP_SYS_MODULE")], "delete_module init_module finit_module"),
    allow_when(&[When::Cap("CAP_SYS_PACCT")], "acct"),
    allow_when(
        &[When::Cap("CAP_SYS_PTRACE")],
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    allow_when(&[When::Cap("CAP_SYS_RAWIO")], "iopl ioperm"),
    allow_when(&[When::Cap("CAP_SYS_TIME")], "settimeofday stime clock_settime clock_settime64"),
    allow_when(&[When::Cap("CAP_SYS_TTY_CONFIG")], "vhangup"),
    allow_when(&[When::Cap("CAP_SYS_NICE")], "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    allow_when(&[When::Cap("CAP_SYSLOG")], "syslog"),
    allow_when(&[When::Cap("CAP_BPF")], "bpf"),
    allow_when(&[When::Cap("CAP_PERFMON")], "perf_event_open"),
];
