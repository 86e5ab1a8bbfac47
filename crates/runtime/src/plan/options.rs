//! Mount options: fstab words to mount attributes, propagation, and what is left for the file system.

use corten_sys::mount::attr;

use super::Propagation;

/// Options sorted by who applies them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub bind: bool,
    pub recursive: bool,
    pub set: u64,
    pub clear: u64,
    pub set_recursive: u64,
    pub clear_recursive: u64,
    pub propagation: Option<(Propagation, bool)>,
    pub copy_up: bool,
    /// An existing mount is to be changed.
    pub remount: bool,
    /// Id-mapped, and whether with the mounts below.
    pub id_map: Option<bool>,
    pub file_system: Vec<(String, Option<String>)>,
}

/// Sorts fstab words; later ones win over earlier ones.
pub(super) fn parse(words: &[String]) -> Options {
    let mut options = Options::default();
    for word in words {
        options.add(word);
    }
    options
}

impl Options {
    fn add(&mut self, word: &str) {
        if let Some(found) = propagation(word) {
            self.propagation = Some(found);
            return;
        }
        match word {
            // The last ones are flags of mount(2) that no file system of today makes anything of.
            "" | "defaults" | "nofail" | "loud" | "silent" | "iversion" | "noiversion" => {}
            "remount" => self.remount = true,
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.id_map = Some(false),
            "ridmap" => self.id_map = Some(true),
            _ => self.add_attribute(word),
        }
    }

    fn add_attribute(&mut self, word: &str) {
        if let Some(change) = attribute(word) {
            change.apply(&mut self.set, &mut self.clear);
        } else if let Some(change) = word.strip_prefix('r').and_then(attribute) {
            change.apply(&mut self.set_recursive, &mut self.clear_recursive);
        } else {
            let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
            self.file_system.push((key.to_owned(), value.map(str::to_owned)));
        }
    }
}

pub(super) fn propagation(word: &str) -> Option<(Propagation, bool)> {
    let kind = |word: &str| match word {
        "private" => Some(Propagation::Private),
        "shared" => Some(Propagation::Shared),
        "slave" => Some(Propagation::Slave),
        "unbindable" => Some(Propagation::Unbindable),
        _ => None,
    };
    kind(word).map(|kind| (kind, false)).or_else(|| Some((kind(word.strip_prefix('r')?)?, true)))
}

/// One word's effect on the attribute bits.
enum Change {
    Set(u64),
    Clear(u64),
    AccessTime(u64),
}

impl Change {
    fn apply(&self, set: &mut u64, clear: &mut u64) {
        match *self {
            Change::Set(bit) => (*set, *clear) = (*set | bit, *clear & !bit),
            Change::Clear(bit) => (*set, *clear) = (*set & !bit, *clear | bit),
            // Access time is a field, not a bit: mount_setattr(2) wants the whole field cleared before it is set.
            Change::AccessTime(value) => {
                *set = *set & !attr::ATIME_MASK | value;
                *clear |= attr::ATIME_MASK;
            }
        }
    }
}

fn attribute(word: &str) -> Option<Change> {
    Some(match word {
        "ro" => Change::Set(attr::RDONLY),
        "rw" => Change::Clear(attr::RDONLY),
        "nosuid" => Change::Set(attr::NOSUID),
        "suid" => Change::Clear(attr::NOSUID),
        "nodev" => Change::Set(attr::NODEV),
        "dev" => Change::Clear(attr::NODEV),
        "noexec" => Change::Set(attr::NOEXEC),
        "exec" => Change::Clear(attr::NOEXEC),
        "nodiratime" => Change::Set(attr::NODIRATIME),
        "diratime" => Change::Clear(attr::NODIRATIME),
        "nosymfollow" => Change::Set(attr::NOSYMFOLLOW),
        "symfollow" => Change::Clear(attr::NOSYMFOLLOW),
        "noatime" => Change::AccessTime(attr::NOATIME),
        "strictatime" => Change::AccessTime(attr::STRICTATIME),
        "relatime" | "atime" | "nostrictatime" => Change::AccessTime(attr::RELATIME),
        "norelatime" => Change::AccessTime(attr::STRICTATIME),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &str, expect: impl FnOnce(&mut Options)) {
        let words: Vec<String> = words.split(',').map(str::to_owned).collect();
        let mut expected = Options::default();
        expect(&mut expected);
        assert_eq!(parse(&words), expected);
    }

    #[test]
    fn words_find_their_place() {
        check("rbind,ro,rprivate", |o| {
            (o.bind, o.recursive, o.set) = (true, true, attr::RDONLY);
            o.propagation = Some((Propagation::Private, true));
        });
        check("ro,rw", |o| o.clear = attr::RDONLY);
        check("rro,rnosuid", |o| o.set_recursive = attr::RDONLY | attr::NOSUID);
        check("noatime", |o| (o.set, o.clear) = (attr::NOATIME, attr::ATIME_MASK));
        check("noatime,relatime", |o| o.clear = attr::ATIME_MASK);
        check("slave", |o| o.propagation = Some((Propagation::Slave, false)));
        check("size=64m,mode=1777,newinstance", |o| {
            o.file_system = vec![
                ("size".into(), Some("64m".into())),
                ("mode".into(), Some("1777".into())),
                ("newinstance".into(), None),
            ];
        });
    }
}
