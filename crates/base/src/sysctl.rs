//! Kernel parameters that belong to a namespace, so that a container can have its own.
//!
//! `namespaces(7)`, `ipc_namespaces(7)`; the list is the one that Docker and runc let through.

/// The kind of namespace that a parameter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Network.
    Network,
}

/// Whose a parameter is, by its name with dots; none for what is the whole machine's.
pub fn owner(name: &str) -> Option<Owner> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    match name {
        _ if IPC.contains(&name) || name.starts_with("fs.mqueue.") => Some(Owner::Ipc),
        _ if name.starts_with("net.") => Some(Owner::Network),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners() {
        let check = |name, expect| assert_eq!(owner(name), expect, "{name}");
        check("kernel.shm_rmid_forced", Some(Owner::Ipc));
        check("fs.mqueue.msg_max", Some(Owner::Ipc));
        check("net.core.somaxconn", Some(Owner::Network));
        check("network.x", None);
        check("kernel.sem2", None);
        check("kernel.core_pattern", None);
    }
}
