//! Users and groups as an image knows them (passwd(5), group(5)).

use crate::error::{Error, Result};

/// Who a process is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups that `/etc/group` gives the user.
    pub groups: Vec<u32>,
    /// Home directory, where `/etc/passwd` has one.
    pub home: Option<String>,
}

/// The largest id that is one: the kernel takes (uint32)-1 for «no change».
const MAX_ID: u64 = u32::MAX as u64 - 1;

/// Who `user` is: `NAME`, `UID`, either with `:GROUP` or `:GID`; empty is root.
///
/// What looks like a number is one: a number that does not fit is an error and is never looked up as a name
/// (CVE-2024-40635). A number without an entry in `passwd` has group 0, unless a group is given.
pub fn resolve(user: &str, passwd: &str, group: &str) -> Result<Identity> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    };
    let entry = match number(user)? {
        Some(uid) => User::all(passwd).find(|it| it.uid == uid).unwrap_or(User { name: "", uid, gid: 0, home: "" }),
        None if user.is_empty() => {
            User::all(passwd).find(|it| it.uid == 0).unwrap_or(User { name: "root", uid: 0, gid: 0, home: "" })
        }
        None => User::all(passwd)
            .find(|it| it.name == user)
            .ok_or_else(|| Error::Invalid(format!("there is no user {user:?} in the image's /etc/passwd")))?,
    };
    let gid = match wanted_group {
        None | Some("") => entry.gid,
        Some(wanted) => group_id(wanted, group)?,
    };
    let groups = Group::all(group)
        .filter(|it| !entry.name.is_empty() && it.members.split(',').any(|member| member == entry.name))
        .map(|it| it.gid)
        .collect();
    let home = (!entry.home.is_empty()).then(|| entry.home.to_owned());
    Ok(Identity { uid: entry.uid, gid, groups, home })
}

fn group_id(wanted: &str, group: &str) -> Result<u32> {
    if let Some(gid) = number(wanted)? {
        return Ok(gid);
    }
    let found = Group::all(group).find(|it| it.name == wanted).map(|it| it.gid);
    found.ok_or_else(|| Error::Invalid(format!("there is no group {wanted:?} in the image's /etc/group")))
}

/// A number, nothing like one, or an error.
fn number(text: &str) -> Result<Option<u32>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u64>() {
        Ok(number) if number <= MAX_ID => Ok(Some(number as u32)),
        _ => Err(Error::Invalid(format!("the user or group {text} is not between 0 and {MAX_ID}"))),
    }
}

/// Checks a number that a request gives.
pub fn checked(id: i64) -> Result<u32> {
    u32::try_from(id)
        .ok()
        .filter(|&id| u64::from(id) <= MAX_ID)
        .ok_or_else(|| Error::Invalid(format!("the user or group {id} is not between 0 and {MAX_ID}")))
}

#[derive(Clone, Copy)]
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> User<'a> {
    /// The entries that can be read; others belong to nobody.
    fn all(passwd: &'a str) -> impl Iterator<Item = Self> {
        passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _password) = (fields.next()?, fields.next()?);
            let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            let home = fields.nth(1).unwrap_or("");
            (!name.is_empty() && !name.starts_with('#')).then_some(Self { name, uid, gid, home })
        })
    }
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> Group<'a> {
    fn all(group: &'a str) -> impl Iterator<Item = Self> {
        group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _password) = (fields.next()?, fields.next()?);
            let gid = fields.next()?.parse().ok()?;
            Some(Self { name, gid, members: fields.next().unwrap_or("").trim_end() })
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nweb:x:33:34:web:/var/www:/bin/sh\n1234:x:7:7::/:\n99999999999:x:0:0::/:\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nextra:x:50:web,root\nmore:x:51:other,web\n";

    fn of(user: &str) -> (u32, u32, Vec<u32>) {
        let identity = resolve(user, PASSWD, GROUP).unwrap();
        (identity.uid, identity.gid, identity.groups)
    }

    #[test]
    fn names_and_numbers_are_found() {
        assert_eq!(of(""), (0, 0, vec![50]));
        assert_eq!(of("web"), (33, 34, vec![50, 51]));
        assert_eq!(of("33"), (33, 34, vec![50, 51]));
        assert_eq!(of("33:0"), (33, 0, vec![50, 51]));
        assert_eq!(of("web:extra"), (33, 50, vec![50, 51]));
        assert_eq!(of("1002"), (1002, 0, vec![]));
        assert_eq!(of("1002:1003"), (1002, 1003, vec![]));
        assert_eq!(resolve("web", PASSWD, GROUP).unwrap().home.as_deref(), Some("/var/www"));
    }

    #[test]
    fn what_looks_like_a_number_is_never_a_name() {
        // CVE-2024-40635: the first fits no id, the second is the name of an entry with user 0.
        for user in ["4294967295", "99999999999", "-1", "1:4294967296", "+99999999999"] {
            let error = resolve(user, PASSWD, GROUP).unwrap_err();
            assert!(error.to_string().contains("is not between 0 and"), "{user}: {error}");
        }
        assert_eq!(of("1234").0, 1234);
    }

    #[test]
    fn unknown_names_are_errors_that_name_the_file() {
        let error = resolve("nobody", PASSWD, GROUP).unwrap_err();
        assert_eq!(error.to_string(), "there is no user \"nobody\" in the image's /etc/passwd");
        let error = resolve("web:none", PASSWD, GROUP).unwrap_err();
        assert_eq!(error.to_string(), "there is no group \"none\" in the image's /etc/group");
    }

    #[test]
    fn a_request_cannot_name_an_id_that_does_not_exist() {
        for id in [-1, i64::from(u32::MAX), i64::MAX] {
            assert!(checked(id).is_err(), "{id}");
        }
        assert_eq!(checked(65534).unwrap(), 65534);
    }
}
