//! Which file systems may hold the job file.
//!
//! `SQLite`'s write-ahead log needs locks and shared memory that hold for everybody who has the file open, which
//! file systems that other machines share do not promise. Pure, so that it can be tested without having one.

/// Kinds of FUSE file systems, after `fuse.`, that are backed by another machine. FUSE as such is no reason to
/// refuse: most others are local.
const FUSE_NETWORK: [&str; 14] = [
    "sshfs",
    "rclone",
    "s3fs",
    "gcsfuse",
    "blobfuse",
    "blobfuse2",
    "goofys",
    "glusterfs",
    "ceph",
    "ceph-fuse",
    "juicefs",
    "davfs",
    "curlftpfs",
    "cifs",
];

/// Why a state directory on a file system with this `statfs` magic number, mounted as `kind` (from mountinfo;
/// may be empty), is refused: the name of the file system. `None`: it is taken for local.
pub fn refused(magic: u32, kind: &str) -> Option<String> {
    let name = match magic {
        0x6969 => "nfs",
        0x517b | 0xfe53_4d42 | 0xff53_4d42 => "smb",
        0x5346_414f | 0x6b41_4653 => "afs",
        0x0102_1997 => "9p",
        0x00c3_6400 => "ceph",
        0x0bd0_0bd0 => "lustre",
        0x4750_4653 => "gpfs",
        0x0116_1970 => "gfs2",
        0x7461_636f => "ocfs2",
        0x7375_7245 => "coda",
        0x564c => "ncp",
        0x786f_4256 => "vboxsf",
        0xbacb_acbc => "vmhgfs",
        0x6573_5546 => return fuse(kind),
        _ => return None,
    };
    Some(name.to_owned())
}

fn fuse(kind: &str) -> Option<String> {
    let network = kind.strip_prefix("fuse.").is_some_and(|inner| FUSE_NETWORK.contains(&inner));
    network.then(|| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::refused;

    #[test]
    fn network_file_systems_are_refused_by_name() {
        for (magic, name) in [
            (0x6969, "nfs"),
            (0xff53_4d42, "smb"),
            (0xfe53_4d42, "smb"),
            (0x0102_1997, "9p"),
            (0x6b41_4653, "afs"),
        ] {
            assert_eq!(refused(magic, "").as_deref(), Some(name));
        }
    }

    #[test]
    fn of_fuse_only_what_another_machine_serves_is_refused() {
        assert_eq!(refused(0x6573_5546, "fuse.sshfs").as_deref(), Some("fuse.sshfs"));
        for local in ["fuse.mergerfs", "fuseblk", "fuse", "virtiofs", ""] {
            assert_eq!(refused(0x6573_5546, local), None, "{local}");
        }
    }

    #[test]
    fn local_file_systems_are_taken() {
        // ext, xfs, btrfs, tmpfs, zfs, overlay, f2fs
        for magic in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x2fc1_2fc1, 0x794c_7630, 0xf2f5_2010] {
            assert_eq!(refused(magic, "anything"), None, "{magic:x}");
        }
    }
}
