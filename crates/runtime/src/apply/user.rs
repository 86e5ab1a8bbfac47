//! A user's home directory from the container's own passwd file.

use std::fs::File;
use std::io::Read;

use corten_sys::path;
use rustix::fs::OFlags;

/// More than this is not a passwd file.
const MAX_SIZE: u64 = 1 << 20;

/// The home directory of `uid`, "/" when the file names none. The caller's root directory is the container's.
pub(super) fn home(uid: u32) -> String {
    read().and_then(|text| find(&text, uid)).unwrap_or_else(|| "/".into())
}

fn read() -> Option<String> {
    let file = path::open_fitting(rustix::fs::CWD, "/etc/passwd", OFlags::RDONLY, path::is_regular).ok()??;
    let mut bytes = Vec::new();
    File::from(file).take(MAX_SIZE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn find(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let matches = fields.get(2)?.parse() == Ok(uid);
        fields.get(5).filter(|home| matches && !home.is_empty()).map(|home| (*home).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn homes_are_found_by_uid() {
        let passwd = "root:x:0:0::/root:/bin/sh\nshort:x:5\nuser:x:7:7::/home/user:\n";
        assert_eq!(find(passwd, 7).as_deref(), Some("/home/user"));
        assert_eq!(find(passwd, 5), None);
    }
}
