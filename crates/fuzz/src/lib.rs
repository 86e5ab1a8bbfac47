//! Fuzz targets: functions of bytes that must not panic, and a driver that makes up the bytes.
//!
//! A target is one entry of [`TARGETS`]. What it finds wrong it says by panicking. The driver ([`drive`]) is deterministic: each
//! run follows from its seed alone, so that a finding is repeated by naming it. `./x fuzz` runs it for a time, `cargo test` for
//! a few runs per target.

mod bpf;
pub mod drive;
mod mutate;
mod random;
mod targets;

pub use mutate::Form;

/// Something that takes whatever it is given.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// How inputs are made from the samples.
    pub form: Form,
    /// Inputs that get far, to be changed; there is at least one.
    pub samples: &'static [&'static str],
    /// Words that mean something to it.
    pub words: &'static [&'static str],
    /// Panics on an input that shows a defect.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    targets::challenge::TARGET,
    targets::config::TARGET,
    targets::image::TARGET,
    targets::layer::TARGET,
    targets::manifest::INDEX,
    targets::manifest::MANIFEST,
    targets::mounts::TARGET,
    targets::progress::TARGET,
    targets::reference::TARGET,
    targets::seccomp::TARGET,
];
