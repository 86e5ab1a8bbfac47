//! OCI spec to plan to process, and further processes into it (exec).
//!
//! [`plan()`] is pure: it turns an OCI runtime spec into a [`Plan`], data that crosses a socket to the process that
//! applies it. [`apply`] is the interpreter inside the container's init; it names files only by descriptors that were
//! resolved below the container's root. [`command`] is the same as an OCI runtime's command line.

pub mod agent;
pub mod apply;
pub mod command;
pub mod devices;
mod failure;
pub mod hooks;
pub mod plan;
pub mod resctrl;
pub mod sources;

pub use failure::{Failure, FailureKind};
pub use plan::{
    Error, NamespaceKind, NamespaceSource, PidNamespace, Plan, ProcessPlan, exec_plan, parse_spec, plan, process_plan,
};
