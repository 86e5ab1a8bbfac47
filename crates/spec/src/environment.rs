//! The environment of a container's process, put together from its sources as Docker does.

/// The search path of a container that sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `PATH`, `HOSTNAME` and, with a terminal, `TERM`; then `linked` (legacy links); then `config` (the image's and the user's),
/// whose entries replace earlier ones in place and, without `=`, remove them.
pub fn environment(hostname: &str, tty: bool, linked: &[String], config: &[String]) -> Vec<String> {
    let mut env = vec![format!("PATH={DEFAULT_PATH}"), format!("HOSTNAME={hostname}")];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    env.extend_from_slice(linked);
    replace_or_append(env, config)
}

/// Lays `overrides` over `base`.
pub(crate) fn replace_or_append(mut base: Vec<String>, overrides: &[String]) -> Vec<String> {
    for entry in overrides {
        let name = name_of(entry);
        let place = base.iter().position(|known| name_of(known) == name);
        match (place, entry.contains('=')) {
            (Some(place), true) => base[place].clone_from(entry),
            (Some(place), false) => drop(base.remove(place)),
            (None, true) => base.push(entry.clone()),
            (None, false) => {}
        }
    }
    base
}

fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tty: bool, config: &[&str], expect: &[&str]) {
        let config: Vec<String> = config.iter().map(|entry| (*entry).to_owned()).collect();
        assert_eq!(environment("box", tty, &[], &config), expect);
    }

    #[test]
    fn sources_are_layered() {
        let path = format!("PATH={DEFAULT_PATH}");
        check(false, &[], &[&path, "HOSTNAME=box"]);
        check(true, &["PATH=/bin", "A=1=2"], &["PATH=/bin", "HOSTNAME=box", "TERM=xterm", "A=1=2"]);
        check(true, &["TERM", "B", "C="], &[&path, "HOSTNAME=box", "C="]);
        check(false, &["A=1", "A=2"], &[&path, "HOSTNAME=box", "A=2"]);
    }
}
