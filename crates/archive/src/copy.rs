//! Bringing one file of a lower layer up into the layer that is being extracted, as overlayfs does before it links it.

use crate::lower::Found;
use crate::metadata::{self, Defaults};
use crate::name::joined;
use crate::tree::Directory;
use crate::{Error, Kind, Result};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsFd;

/// Copies what was found to `name` in `directory`; answers the bytes of data.
pub(crate) fn copy_up(found: &Found, directory: &Directory, name: &[u8]) -> Result<u64> {
    let path = joined(&directory.path, name);
    let failed = |operation| {
        let path = &path;
        move |errno: Errno| Error::entry(operation, path, errno)
    };
    let parent = directory.fd.as_fd();
    let file_type = FileType::from_raw_mode(found.stat.st_mode);
    let mut size = 0;
    let kind = match file_type {
        FileType::RegularFile => {
            size = copy_data(found, directory, name, &path)?;
            Kind::File
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&found.file, "", Vec::new()).map_err(failed("readlink"))?;
            rustix::fs::symlinkat(target, parent, name).map_err(failed("symlink"))?;
            Kind::Symlink
        }
        FileType::Directory => return Err(failed("link")(Errno::ISDIR)),
        other => {
            rustix::fs::mknodat(parent, name, other, Mode::empty(), found.stat.st_rdev).map_err(failed("mknod"))?;
            Kind::CharDevice
        }
    };
    let mut model = metadata::from_stat(kind, &found.stat);
    model.xattrs = metadata::read_xattrs(&found.file).map_err(failed("getxattr"))?;
    metadata::set_at(parent, name, &model, &Defaults::UNKNOWN)
        .and_then(|()| metadata::set_times_at(parent, name, &metadata::times(&model)))
        .map_err(|(operation, errno)| Error::entry(operation, &path, errno))?;
    Ok(size)
}

fn copy_data(found: &Found, directory: &Directory, name: &[u8], path: &[u8]) -> Result<u64> {
    let mut source =
        File::open(metadata::by_descriptor(&found.file)).map_err(|error| Error::entry("open", path, error))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(&directory.fd, name, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| Error::entry("open", path, errno))?;
    std::io::copy(&mut source, &mut File::from(copy)).map_err(|error| Error::entry("write", path, error))
}
