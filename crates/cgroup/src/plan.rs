//! Writes as data: what a set of limits means for the files of a group.

use crate::detect::Controller;

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
    /// Two limits of which one bounds the other: whichever order the present values demand.
    Pair(Write, Write),
    /// Several values for one file.
    Many(Controller, &'static str, Vec<String>),
}

impl Step {
    /// The controller it needs.
    pub(crate) fn controller(&self) -> Controller {
        match self {
            Self::One(write) | Self::Optional(write) | Self::Either(write, _) | Self::Pair(write, _) => {
                write.controller
            }
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
