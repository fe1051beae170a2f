//! Which user and groups a worker runs as, looked up before the fork: a lookup in the child could deadlock.

use super::exec::Ids;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgrouplist};
use std::ffi::CString;

/// A user with its groups, as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl Account {
    pub(super) fn ids(&self) -> Ids<'_> {
        Ids { uid: self.uid, gid: self.gid, groups: &self.groups }
    }
}

/// A user or group that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("there is no user {0:?}: name one that `getent passwd` lists, or its number")]
    NoUser(String),
    #[error("there is no group {0:?}: name one that `getent group` lists, or its number")]
    NoGroup(String),
    #[error("user {0} is in no user database, so its group is not known: say also `group`")]
    GroupMissing(u32),
    #[error("the user database cannot be read: {0}")]
    Lookup(#[from] nix::Error),
}

/// The account that the settings `user` and `group` ask for; each is a name or a number. `None` when that is what
/// this process is already and it could not change it anyway: then there is nothing to do and nothing to refuse.
pub fn resolve(user: Option<&str>, group: Option<&str>) -> Result<Option<Account>, AccountError> {
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let group = group.map(find_group).transpose()?;
    let account = match user {
        Some(user) => with_user(user, group)?,
        None => only_group(group.unwrap_or_else(getegid)),
    };
    let unchanged = account.uid == geteuid().as_raw() && account.gid == getegid().as_raw();
    Ok((geteuid().is_root() || !unchanged).then_some(account))
}

/// The number of a group, which is named or given as a number.
pub fn group(text: &str) -> Result<u32, AccountError> {
    find_group(text).map(Gid::as_raw)
}

fn with_user(user: &str, group: Option<Gid>) -> Result<Account, AccountError> {
    let (uid, entry) = find_user(user)?;
    let gid = match (group, &entry) {
        (Some(gid), _) => gid,
        (None, Some(entry)) => entry.gid,
        (None, None) => return Err(AccountError::GroupMissing(uid.as_raw())),
    };
    let groups = match entry.and_then(|entry| CString::new(entry.name).ok()) {
        Some(name) => getgrouplist(&name, gid)?.into_iter().map(Gid::as_raw).collect(),
        None => vec![gid.as_raw()],
    };
    Ok(Account { uid: uid.as_raw(), gid: gid.as_raw(), groups })
}

fn only_group(gid: Gid) -> Account {
    Account { uid: geteuid().as_raw(), gid: gid.as_raw(), groups: vec![gid.as_raw()] }
}

/// A name goes before a number, as in `chown`.
fn find_user(text: &str) -> Result<(Uid, Option<User>), AccountError> {
    if let Some(entry) = User::from_name(text)? {
        return Ok((entry.uid, Some(entry)));
    }
    let uid = number(text).map(Uid::from_raw).ok_or_else(|| AccountError::NoUser(text.to_owned()))?;
    Ok((uid, User::from_uid(uid)?))
}

fn find_group(text: &str) -> Result<Gid, AccountError> {
    if let Some(entry) = Group::from_name(text)? {
        return Ok(entry.gid);
    }
    number(text).map(Gid::from_raw).ok_or_else(|| AccountError::NoGroup(text.to_owned()))
}

/// A user's or group's number. The largest one means "leave it" to the kernel, so it is none.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asked_for_changes_nothing() {
        assert_eq!(resolve(None, None).expect("no lookup is needed"), None);
    }

    #[test]
    fn names_and_numbers_find_the_same_user() {
        let by_name = with_user("root", None).expect("every system has root");
        assert_eq!((by_name.uid, by_name.gid), (0, 0));
        assert!(by_name.groups.contains(&0));
        assert_eq!(with_user("0", None).expect("root's number"), by_name);
    }

    #[test]
    fn a_group_of_its_own_replaces_the_users_first_one() {
        let account = with_user("root", Some(Gid::from_raw(4321))).expect("every system has root");
        assert_eq!(account.gid, 4321);
        assert!(account.groups.contains(&4321));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = resolve(Some("no-such-user"), None).expect_err("there is none");
        assert!(error.to_string().contains("\"no-such-user\""), "{error}");
        let error = resolve(None, Some("no-such-group")).expect_err("there is none");
        assert!(error.to_string().contains("\"no-such-group\""), "{error}");
        assert!(matches!(resolve(Some("4294967295"), None), Err(AccountError::NoUser(_))));
        assert!(matches!(resolve(Some("3999999999"), None), Err(AccountError::GroupMissing(3_999_999_999))));
    }
}
