//! A profile of AppArmor for a test, loaded while it lives.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Allows everything but writing below `/closed`.
pub struct Profile {
    /// What processes under it say.
    pub name: String,
}

impl Profile {
    /// Loads it; none, with the reason printed, on a kernel without AppArmor or where its parser is not installed.
    pub fn load(name: &str) -> Option<Profile> {
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        if !enabled.is_ok_and(|enabled| enabled.trim() == "Y") {
            println!("skipped: this kernel has no AppArmor");
            return None;
        }
        let profile = Profile { name: name.to_owned() };
        let text = format!(
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{ file, capability, network, mount, umount, \
             signal, ptrace, unix, pivot_root, deny /closed/** w, }}\n"
        );
        if !Path::new("/sys/kernel/security/apparmor").exists() || !parse("--replace", &text) {
            println!("skipped: apparmor_parser is not installed, or securityfs is not mounted");
            return None;
        }
        Some(profile)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        parse("--remove", &format!("profile {} {{ }}\n", self.name));
    }
}

fn parse(action: &str, text: &str) -> bool {
    let parser = Command::new("apparmor_parser").args([action, "--skip-cache"]).stdin(Stdio::piped()).spawn();
    let Ok(mut parser) = parser else { return false };
    let written = parser.stdin.take().is_some_and(|mut input| input.write_all(text.as_bytes()).is_ok());
    parser.wait().is_ok_and(|status| status.success()) && written
}
