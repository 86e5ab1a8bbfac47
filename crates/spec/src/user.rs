//! `--user` and `--group-add` against the container's own passwd and group files.
//!
//! Texts of errors are Docker's. Files are passed as text, so that whoever reads them resolves their paths below the
//! container's root; a missing file is the empty string.

use corten_base::ErrorKind;

/// Ids must fit 31 bits, as Docker demands.
const MAX_ID: u32 = i32::MAX as u32;

/// A user as the kernel sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups; Docker puts the primary one first.
    pub groups: Vec<u32>,
    /// Home directory from the passwd file, `/` if there is no entry.
    pub home: String,
}

impl ResolvedUser {
    /// Root with its own group only, without any file.
    pub fn root() -> Self {
        Self { uid: 0, gid: 0, groups: vec![0], home: "/".to_owned() }
    }
}

/// Why a user can't be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A name without an entry.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    User(String),
    /// A group name without an entry.
    #[error("unable to find group {0}: no matching entries in group file")]
    Group(String),
    /// A number below 0 or above 31 bits.
    #[error("uids and gids must be in range 0-{MAX_ID}")]
    Range,
}

impl Error {
    /// The sort of failure.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Resolves `spec` (`""`, `user`, `uid`, `user:group`, `uid:gid` in any mixture) and the names or numbers in `extra`.
///
/// Numbers need no entry. Supplementary groups of the group file count only when the spec names no group.
pub fn resolve(passwd: &str, group: &str, spec: &str, extra: &[String]) -> Result<ResolvedUser, Error> {
    let (user_text, group_text) = spec.split_once(':').unwrap_or((spec, ""));
    let wanted_user = Wanted::parse(user_text)?;
    let wanted_group = Wanted::parse(group_text)?;

    let entry = users(passwd).find(|entry| match &wanted_user {
        None => entry.uid == 0,
        Some(Wanted::Id(id)) => entry.uid == *id,
        Some(Wanted::Name(name)) => entry.name == *name,
    });
    let mut user = match (&entry, &wanted_user) {
        (Some(entry), _) => {
            ResolvedUser { uid: entry.uid, gid: entry.gid, groups: Vec::new(), home: entry.home.to_owned() }
        }
        (None, Some(Wanted::Name(name))) => return Err(Error::User((*name).to_owned())),
        (None, Some(Wanted::Id(id))) => ResolvedUser { uid: *id, ..ResolvedUser::default() },
        (None, None) => ResolvedUser::default(),
    };
    if user.home.is_empty() {
        "/".clone_into(&mut user.home);
    }

    let mut supplementary = Vec::new();
    if let Some(wanted) = &wanted_group {
        user.gid = group_id(group, wanted)?;
    } else if let Some(entry) = &entry {
        supplementary = groups(group).filter(|candidate| candidate.has_member(entry.name)).map(|it| it.gid).collect();
    }
    user.groups = vec![user.gid];
    user.groups.extend(supplementary);
    for name in extra {
        let id = match Wanted::parse(name)? {
            Some(wanted) => group_id(group, &wanted)?,
            None => return Err(Error::Group(String::new())),
        };
        user.groups.push(id);
    }
    dedup_keeping_order(&mut user.groups);
    Ok(user)
}

/// A user or group asked for.
enum Wanted<'a> {
    Id(u32),
    Name(&'a str),
}

impl<'a> Wanted<'a> {
    fn parse(text: &'a str) -> Result<Option<Self>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Some(Self::Name(text)));
        }
        match text.parse::<i64>() {
            Ok(id) if (0..=i64::from(MAX_ID)).contains(&id) => Ok(Some(Self::Id(id as u32))),
            _ => Err(Error::Range),
        }
    }
}

struct UserEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl GroupEntry<'_> {
    fn has_member(&self, name: &str) -> bool {
        self.members.split(',').any(|member| member == name)
    }
}

/// Entries of a passwd file. One whose numbers can't be read is skipped: taking it for 0 would make it root.
fn users(passwd: &str) -> impl Iterator<Item = UserEntry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        let uid = id(fields.next()?)?;
        let gid = id(fields.next()?)?;
        let _comment = fields.next();
        Some(UserEntry { name, uid, gid, home: fields.next().unwrap_or("") })
    })
}

fn groups(group: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        let gid = id(fields.next()?)?;
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or("") })
    })
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= MAX_ID)
}

fn group_id(group: &str, wanted: &Wanted<'_>) -> Result<u32, Error> {
    match wanted {
        Wanted::Id(id) => Ok(*id),
        Wanted::Name(name) => groups(group)
            .find(|entry| entry.name == *name)
            .map(|entry| entry.gid)
            .ok_or_else(|| Error::Group((*name).to_owned())),
    }
}

fn dedup_keeping_order(ids: &mut Vec<u32>) {
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(*id));
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\nbroken:x:zero:0::/:\nadm:x:3:4:adm:/var/adm:/bin/false\n\
                          long:x:4294967295:1::/:\nwww:x:33:33::/var/www\n";
    const GROUP: &str = "root:x:0:\nadm:x:4:root,adm,www\nwww:x:33:\nvideo:x:44:www\nbad:x:y:www\n";

    fn check(spec: &str, extra: &[&str], expect: &str) {
        let extra: Vec<String> = extra.iter().map(|name| (*name).to_owned()).collect();
        let result = match resolve(PASSWD, GROUP, spec, &extra) {
            Ok(user) => format!("{}:{} {:?} {}", user.uid, user.gid, user.groups, user.home),
            Err(error) => error.to_string(),
        };
        assert_eq!(result, expect, "{spec}");
    }

    #[test]
    fn names_and_numbers() {
        check("", &[], "0:0 [0, 4] /root");
        check("www", &[], "33:33 [33, 4, 44] /var/www");
        check("33", &[], "33:33 [33, 4, 44] /var/www");
        check("www:adm", &[], "33:4 [4] /var/www");
        check("www:77", &[], "33:77 [77] /var/www");
        check("1234", &[], "1234:0 [0] /");
        check("1234:5", &[], "1234:5 [5] /");
        check(":adm", &[], "0:4 [4] /root");
        check("adm", &["video", "99", "4"], "3:4 [4, 44, 99] /var/adm");
    }

    #[test]
    fn errors_have_dockers_texts() {
        check("nobody", &[], "unable to find user nobody: no matching entries in passwd file");
        check("www:nope", &[], "unable to find group nope: no matching entries in group file");
        check("", &["nope"], "unable to find group nope: no matching entries in group file");
        check("-1", &[], "uids and gids must be in range 0-2147483647");
        check("4294967296", &[], "uids and gids must be in range 0-2147483647");
        check("broken", &[], "unable to find user broken: no matching entries in passwd file");
        check("long", &[], "unable to find user long: no matching entries in passwd file");
    }

    #[test]
    fn files_may_be_missing() {
        assert_eq!(resolve("", "", "", &[]).unwrap(), ResolvedUser::root());
        assert_eq!(resolve("", "", "7:8", &[]).unwrap().groups, [8]);
        assert!(resolve("", "", "root", &[]).is_err());
    }
}
