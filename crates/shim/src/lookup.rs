//! Where a program is, as Go's `exec.LookPath` finds it and in its words: Docker's users know the texts.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The path of a program: itself if it has a slash and can be executed, else the first of its name in `path`, the variable's value.
pub fn find(program: &str, path: &str) -> Result<PathBuf, String> {
    if program.contains('/') {
        let found = PathBuf::from(program);
        return executable(&found).map(|()| found).map_err(|reason| format!("exec: \"{program}\": {reason}"));
    }
    let candidates = env::split_paths(path).filter(|directory| directory.is_absolute()).map(|each| each.join(program));
    let mut found = candidates.filter(|candidate| executable(candidate).is_ok());
    found.next().ok_or_else(|| format!("exec: \"{program}\": executable file not found in $PATH"))
}

fn executable(program: &Path) -> Result<(), String> {
    let metadata =
        fs::metadata(program).map_err(|error| format!("stat {}: {}", program.display(), describe(&error)))?;
    match metadata.is_dir() {
        true => Err("is a directory".into()),
        false if metadata.permissions().mode() & 0o111 == 0 => Err("permission denied".into()),
        false => Ok(()),
    }
}

/// The system's words as Go prints them.
pub(crate) fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_go_finds_them() {
        let directory = tempfile::tempdir().unwrap();
        let (fine, plain) = (directory.path().join("fine"), directory.path().join("plain"));
        fs::write(&fine, "").unwrap();
        fs::write(&plain, "").unwrap();
        fs::set_permissions(&fine, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("/nonexistent:.:{}", directory.path().display());
        assert_eq!(find("fine", &path), Ok(fine.clone()));
        assert_eq!(find(fine.to_str().unwrap(), ""), Ok(fine));
        assert_eq!(find("plain", &path).unwrap_err(), "exec: \"plain\": executable file not found in $PATH");
        let plain = plain.display();
        assert_eq!(find(&plain.to_string(), "").unwrap_err(), format!("exec: \"{plain}\": permission denied"));
        assert_eq!(find("/etc", "").unwrap_err(), "exec: \"/etc\": is a directory");
        assert_eq!(
            find("/nonexistent/x", "").unwrap_err(),
            "exec: \"/nonexistent/x\": stat /nonexistent/x: no such file or directory"
        );
    }
}
