//! Masked and read-only paths.
//!
//! Both work on one handle of the path: what was looked at is what is covered, whatever a link swapped in the meantime
//! says. The covers come from the minimal root, not from the container's `/dev` (CVE-2025-31133).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use corten_sys::mount::{self, Attributes, attr};
use corten_sys::path;

use super::Root;
use super::attributes::change_detached;
use super::base::Base;
use super::report::Explain;
use super::stage::Staged;
use crate::Failure;
use crate::plan::Plan;

pub(super) fn apply(plan: &Plan, root: &Root, base: &Base, staged: &Staged) -> Result<(), Failure> {
    for path in plan.readonly_paths.iter().filter(|path| !staged.covers(path)) {
        if let Some(place) = find(root, path)? {
            make_readonly(&place).explain_with(|| format!("cannot make {path} read-only"))?;
        }
    }
    for path in plan.masked_paths.iter().filter(|path| !staged.covers(path)) {
        if let Some(place) = find(root, path)? {
            cover(&place, base).explain_with(|| format!("cannot mask {path}"))?;
        }
    }
    Ok(())
}

/// What does not exist needs no protection.
fn find(root: &Root, path: &str) -> Result<Option<OwnedFd>, Failure> {
    match path::find(root, path) {
        Ok(place) => Ok(Some(place)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error).explain_with(|| format!("cannot look at {path}")),
    }
}

fn make_readonly(place: &OwnedFd) -> io::Result<()> {
    let tree = mount::clone_of(place.as_fd(), true)?;
    change_detached(tree.as_fd(), &Attributes { set: attr::RDONLY, ..Attributes::default() }, true)?;
    mount::attach(tree.as_fd(), place.as_fd())
}

fn cover(place: &OwnedFd, base: &Base) -> io::Result<()> {
    let cover = if path::is_directory(place.as_fd())? { &base.empty } else { &base.null };
    let cover = mount::clone_of(cover.as_fd(), false)?;
    // All covers share one inode: nobody is to change its mode or owner. Writing to the device still works.
    change_detached(cover.as_fd(), &Attributes { set: attr::RDONLY, ..Attributes::default() }, false)?;
    mount::attach(cover.as_fd(), place.as_fd())
}
