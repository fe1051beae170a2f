//! Who may reach what: the runtime directory, the workers' sockets in it, and the control socket.

use super::account;
use super::clients::Clients;
use super::daemon::StartError;
use super::dirs::{DirError, Directory, Reach};
use crate::config::Config;

/// What a configuration says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Access {
    /// The group that may use the control socket: its name and its number.
    group: Option<(String, u32)>,
    pub(super) runtime: Reach,
    pub(super) workers: Reach,
}

impl Access {
    /// # Errors
    /// When there is no such group.
    pub(super) fn of(config: &Config) -> Result<Access, StartError> {
        let group = config.daemon.control_group.as_ref();
        let group = group.map(|name| group_number(name).map(|number| (name.clone(), number))).transpose()?;
        // Workers that run as somebody else must reach their sockets.
        let has_users = config.pools.iter().any(|pool| pool.user.is_some());
        let (runtime, workers) = match &group {
            _ if has_users => (Reach::Everybody, Reach::Everybody),
            Some((_, number)) => (Reach::Group(*number), Reach::Owner),
            None => (Reach::Owner, Reach::Owner),
        };
        Ok(Access { group, runtime, workers })
    }

    /// Opens the runtime directory as far as it is to be, and makes the one of the workers' sockets.
    ///
    /// # Errors
    /// When we may not, or something else is in its place.
    pub(super) fn open_directory(&self, runtime: &Directory) -> Result<(), StartError> {
        runtime.open_to(self.runtime).map_err(|error| match &self.group {
            Some((group, _)) => StartError::Group { group: group.clone(), error: error.to_string() },
            None => StartError::Directory(error),
        })
    }

    /// Makes the directory of the workers' sockets.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn open_workers(&self, runtime: &Directory) -> Result<Directory, DirError> {
        runtime.inner(super::endpoints::WORKERS, self.workers)
    }

    /// Opens the control socket as far as it is to be.
    ///
    /// # Errors
    /// When we are neither root nor a member of the group.
    pub(super) fn open_socket(&self, clients: &Clients) -> Result<(), StartError> {
        let number = self.group.as_ref().map(|(_, number)| *number);
        clients.open_to(number).map_err(|error| match &self.group {
            Some((group, _)) => StartError::Group { group: group.clone(), error: error.to_string() },
            None => StartError::System { what: "open the control socket", error },
        })
    }
}

fn group_number(name: &str) -> Result<u32, StartError> {
    let refuse =
        |error: account::AccountError| StartError::Group { group: name.to_owned(), error: error.to_string() };
    account::group(name).map_err(refuse)
}
