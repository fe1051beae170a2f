//! A control socket that a group may use.

use crate::harness::Daemon;
use crate::site::{PLAIN, Site};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

/// Mode and group.
fn reach(path: &Path) -> (u32, u32) {
    let found = path.symlink_metadata().expect("the daemon has made it");
    (found.mode() & 0o7777, found.gid())
}

fn site(group: &str) -> Site {
    Site::new(&format!("control_group = \"{group}\"\n{PLAIN}"))
}

#[test]
fn the_control_socket_alone_is_opened_to_a_group() {
    let own = nix::unistd::getegid().as_raw();
    let mut daemon = Daemon::start_at(site(&own.to_string()));
    let runtime = daemon.site.runtime();
    assert_eq!(reach(&runtime), (0o710, own));
    assert_eq!(reach(&runtime.join("control.ipc")), (0o660, own));
    assert_eq!(reach(&runtime.join("w")).0, 0o700);
    assert_eq!(reach(&daemon.site.state()).0, 0o700);

    // One that is refused changes nothing of the first one's.
    daemon.site.configure(PLAIN);
    let refused = daemon.site.command().output().expect("the daemon can be executed");
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");
    assert_eq!(reach(&runtime), (0o710, own));

    // Without the setting it is closed again.
    daemon.stop();
    daemon.start_again();
    assert_eq!(reach(&runtime).0, 0o700);
    assert_eq!(reach(&runtime.join("control.ipc")).0 & 0o077, 0);
}

#[test]
fn a_group_that_is_not_there_is_a_wrong_setting() {
    let output = site("no-such-group").command().output().expect("the daemon can be executed");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("no-such-group") && words.contains("control_group"), "{words}");
}

#[test]
#[ignore = "needs root"]
fn members_of_the_group_are_clients_and_others_are_told_why_they_are_not() {
    const GROUP: u32 = 4_321;
    const NOBODY: u32 = 65_534;
    let site = site(&GROUP.to_string());
    fs::set_permissions(site.path(), fs::Permissions::from_mode(0o711)).expect("it is ours");
    // Whoever runs the tests may have built them where others cannot look.
    let program = site.path().join("pushpullctl");
    fs::copy(env!("CARGO_BIN_EXE_pushpullctl"), &program).expect("it is there");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let daemon = Daemon::start_at(site);
    let ask = |group: u32, words: &[&str]| -> Output {
        let mut command = Command::new(&program);
        command.arg("--runtime-dir").arg(daemon.site.runtime()).args(words).current_dir("/");
        command.uid(NOBODY).gid(group).output().expect("pushpullctl can be executed")
    };
    let stranger = ask(NOBODY, &["ping"]);
    assert_eq!(stranger.status.code(), Some(3), "{stranger:?}");
    assert!(String::from_utf8_lossy(&stranger.stderr).contains("control_group"), "{stranger:?}");
    let member = ask(GROUP, &["add", "--wait", "--no-env", "--", "id -u"]);
    assert_eq!(member.status.code(), Some(0), "{member:?}");
    for socket in fs::read_dir(daemon.site.runtime().join("w")).expect("we are root") {
        let (mode, _) = reach(&socket.expect("readable").path());
        assert_eq!(mode & 0o077, 0, "workers' sockets are closed");
    }
    // Root's clients may use anyone's.
    let root = Command::new(&program).arg("--runtime-dir").arg(daemon.site.runtime()).arg("ping").output();
    assert!(root.expect("pushpullctl can be executed").status.success());
}

#[test]
#[ignore = "needs root"]
fn workers_that_run_as_another_user_reach_their_own_sockets_and_no_others() {
    const USER: u32 = 65_534;
    let pools = format!(
        "[pools.default]\nworkers = 1\nuser = \"{USER}\"\ngroup = \"{USER}\"\n[pools.ours]\nworkers = 1\n"
    );
    let site = Site::new(&pools);
    fs::set_permissions(site.path(), fs::Permissions::from_mode(0o711)).expect("it is ours");
    let daemon = Daemon::start_at(site);
    let runtime = daemon.site.runtime();
    let record = daemon.run(json!("id -u"));
    assert_eq!(record["result"]["stdout"], format!("{USER}\n"));
    assert_eq!(daemon.run(json!({"run": "id -u", "pool": "ours"}))["result"]["stdout"], "0\n");
    let command = format!("ls {}; cat {}", runtime.display(), runtime.join("pushpulld.lock").display());
    let record = daemon.run(json!(command));
    assert_eq!(record["result"]["stdout"], "", "it looks into nothing: {record}");
    let mut owners: Vec<(u32, u32)> = fs::read_dir(runtime.join("w"))
        .expect("we are root")
        .map(|socket| socket.expect("readable").metadata().expect("it is there"))
        .map(|found| (found.uid(), found.mode() & 0o7777))
        .collect();
    owners.sort_unstable();
    assert_eq!(owners, [(0, 0o700), (0, 0o700), (USER, 0o700), (USER, 0o700)]);
    assert_eq!(reach(&runtime.join("control.ipc")).0 & 0o077, 0);
}
