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
        } else if let Some((_, act)) = WORDS.iter().find(|(known, _)| *known == word) {
            act(self);
        } else {
            self.add_attribute(word);
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

/// What a word does.
type Act = fn(&mut Options);

/// Words that are neither attributes nor propagation.
const WORDS: &[(&str, Act)] = &[
    ("", |_| {}),
    ("defaults", |_| {}),
    ("nofail", |_| {}),
    // Flags of mount(2) that no file system of today makes anything of.
    ("loud", |_| {}),
    ("silent", |_| {}),
    ("iversion", |_| {}),
    ("noiversion", |_| {}),
    ("remount", |options| options.remount = true),
    ("bind", |options| options.bind = true),
    ("rbind", |options| (options.bind, options.recursive) = (true, true)),
    ("tmpcopyup", |options| options.copy_up = true),
    ("idmap", |options| options.id_map = Some(false)),
    ("ridmap", |options| options.id_map = Some(true)),
];

/// Flags that the kernel's mount layer knows for every file system.
const FOR_EVERY_FILE_SYSTEM: &[&str] = &["async", "dirsync", "lazytime", "mand", "nolazytime", "nomand", "sync"];

const PROPAGATIONS: [(&str, Propagation); 4] = [
    ("private", Propagation::Private),
    ("shared", Propagation::Shared),
    ("slave", Propagation::Slave),
    ("unbindable", Propagation::Unbindable),
];

/// All words with a meaning of their own, for the list of features; sorted. Others are the file system's.
pub(crate) fn words() -> Vec<String> {
    let plain = WORDS.iter().map(|(word, _)| *word).chain(FOR_EVERY_FILE_SYSTEM.iter().copied());
    let with_recursive = ATTRIBUTES.iter().map(|(word, _)| *word).chain(PROPAGATIONS.map(|(word, _)| word));
    let recursive = with_recursive.clone().map(|word| format!("r{word}"));
    let mut words: Vec<String> = plain.chain(with_recursive).map(str::to_owned).chain(recursive).collect();
    words.retain(|word| !word.is_empty());
    words.sort_unstable();
    words
}

pub(super) fn propagation(word: &str) -> Option<(Propagation, bool)> {
    let kind = |word: &str| PROPAGATIONS.iter().find(|(known, _)| *known == word).map(|(_, kind)| *kind);
    kind(word).map(|kind| (kind, false)).or_else(|| Some((kind(word.strip_prefix('r')?)?, true)))
}

/// One word's effect on the attribute bits.
#[derive(Clone, Copy)]
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

const ATTRIBUTES: &[(&str, Change)] = &[
    ("ro", Change::Set(attr::RDONLY)),
    ("rw", Change::Clear(attr::RDONLY)),
    ("nosuid", Change::Set(attr::NOSUID)),
    ("suid", Change::Clear(attr::NOSUID)),
    ("nodev", Change::Set(attr::NODEV)),
    ("dev", Change::Clear(attr::NODEV)),
    ("noexec", Change::Set(attr::NOEXEC)),
    ("exec", Change::Clear(attr::NOEXEC)),
    ("nodiratime", Change::Set(attr::NODIRATIME)),
    ("diratime", Change::Clear(attr::NODIRATIME)),
    ("nosymfollow", Change::Set(attr::NOSYMFOLLOW)),
    ("symfollow", Change::Clear(attr::NOSYMFOLLOW)),
    ("noatime", Change::AccessTime(attr::NOATIME)),
    ("strictatime", Change::AccessTime(attr::STRICTATIME)),
    ("relatime", Change::AccessTime(attr::RELATIME)),
    ("atime", Change::AccessTime(attr::RELATIME)),
    ("nostrictatime", Change::AccessTime(attr::RELATIME)),
    ("norelatime", Change::AccessTime(attr::STRICTATIME)),
];

fn attribute(word: &str) -> Option<Change> {
    ATTRIBUTES.iter().find(|(known, _)| *known == word).map(|(_, change)| *change)
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
