//! Writes as data: what a set of limits means for the files of a group.

use crate::detect::Controller;
use crate::devices::Policy;

/// Something to be written to a file of one controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub controller: Controller,
    pub file: String,
    pub value: String,
}

/// A step in applying limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// One write.
    One(Write),
    /// One write that may find no file, as the kernel's setting says already what is wanted then.
    Optional(Write),
    /// The first file that exists gets its value (the same setting has other names with other schedulers).
    Either(Write, Write),
    /// Limits of which one bounds the other: the write goes before the steps or after them, as the present values demand.
    Around(Write, Box<Step>),
    /// A period alone in `cpu.max`, whose first word stays.
    Period(u64),
    /// v1's list of devices becomes this, by what its present state lacks and has too much.
    Devices(Policy),
    /// Several values for one file.
    Many(Controller, &'static str, Vec<String>),
}

impl Step {
    /// The controller it needs.
    pub(crate) fn controller(&self) -> Controller {
        match self {
            Self::One(write) | Self::Optional(write) | Self::Either(write, _) | Self::Around(write, _) => {
                write.controller
            }
            Self::Period(_) => Controller::Cpu,
            Self::Devices(_) => Controller::Devices,
            Self::Many(controller, ..) => *controller,
        }
    }
}

/// A write with anything that can be printed.
pub(crate) fn write(controller: Controller, file: impl Into<String>, value: impl ToString) -> Write {
    Write { controller, file: file.into(), value: value.to_string() }
}

/// A step of one write.
pub(crate) fn one(controller: Controller, file: impl Into<String>, value: impl ToString) -> Step {
    Step::One(write(controller, file, value))
}

/// Two writes of which one bounds the other.
pub(crate) fn pair(first: Write, second: Write) -> Step {
    Step::Around(first, Box::new(Step::One(second)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A step in shorthand, for the tests of both versions.
    pub(crate) fn shorthand(step: &Step) -> String {
        let line = |write: &Write| format!("{}={}", write.file, write.value);
        match step {
            Step::One(write) => line(write),
            Step::Optional(write) => format!("{}?", line(write)),
            Step::Either(one, two) => format!("{}|{}", line(one), line(two)),
            Step::Around(write, step) => format!("{}&{}", line(write), shorthand(step)),
            Step::Period(period) => format!("cpu.max=_ {period}"),
            Step::Devices(policy) => format!("devices={}", if policy.allow { "allow" } else { "deny" }),
            Step::Many(_, file, values) => format!("{file}={}", values.join(",")),
        }
    }
}
