//! A directory for one test. At the end every process that stands in it is ended and it is removed.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::{Group, User};

use super::process::{self, Holder};
use super::program;

/// A root-owned directory, mode 0711 so that `postgres` can pass but not look around.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
    mounts: RefCell<Vec<PathBuf>>,
}

impl Scratch {
    /// Makes `/var/tmp/pitr-test-<topic>-XXXXXX` (or below `PITR_SCRATCH`).
    pub fn new(topic: &str) -> Scratch {
        assert!(nix::unistd::Uid::effective().is_root(), "these tests need root: they own clusters as postgres and run pitr as root");
        let base = std::env::var_os("PITR_SCRATCH").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let made = tempfile::Builder::new().prefix(&format!("pitr-test-{topic}-")).tempdir_in(base).expect("make a scratch directory");
        let dir = made.keep().canonicalize().unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o711)).unwrap();
        Scratch { dir, mounts: RefCell::new(Vec::new()) }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Makes the directory `name` (relative, parents too) for `owner` and `group` with `mode`.
    pub fn dir(&self, name: impl AsRef<Path>, owner: &str, group: &str, mode: u32) -> PathBuf {
        make_dir(&self.dir.join(name), owner, group, mode)
    }

    /// Writes a root-owned file of `mode` and returns its path; parents are made root-owned, 0755.
    pub fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.dir.join(name);
        make_dir(path.parent().unwrap(), "root", "root", 0o755);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Mounts an empty tmpfs of `mib` MiB on an existing directory below this one, until the end of the test.
    pub fn mount_tmpfs(&self, dir: &Path, mib: u32) {
        assert!(dir.starts_with(&self.dir));
        program::ok(program::program("mount").args(["-t", "tmpfs", "-o"]).arg(format!("size={mib}m")).arg("tmpfs").arg(dir));
        self.mounts.borrow_mut().push(dir.to_path_buf());
    }

    /// Makes a filesystem of `mib` MiB in a file and mounts it on an existing directory below this one, until the end of the
    /// test. `kind` is one that has a `mkfs.KIND`.
    pub fn mount_image(&self, kind: &str, dir: &Path, mib: u64) {
        assert!(dir.starts_with(&self.dir));
        let image = self.dir.join(format!("{}.{kind}", self.mounts.borrow().len()));
        fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        program::ok(program::program(format!("mkfs.{kind}")).arg("-q").arg(&image));
        program::ok(program::program("mount").args(["-o", "loop"]).arg(&image).arg(dir));
        self.mounts.borrow_mut().push(dir.to_path_buf());
    }

    /// Processes with anything below this directory.
    pub fn holders(&self) -> Vec<Holder> {
        process::holders(&self.dir)
    }

    /// SIGQUIT (a server's immediate shutdown) for everything that stands here, SIGKILL for what stays.
    fn end_processes(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut signal = Signal::SIGQUIT;
        loop {
            let left = self.holders();
            if left.is_empty() || Instant::now() > deadline + Duration::from_secs(5) {
                break;
            }
            for holder in &left {
                process::send(holder.pid, signal);
            }
            if Instant::now() > deadline {
                signal = Signal::SIGKILL;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.end_processes();
        for dir in self.mounts.borrow().iter().rev() {
            let unmounted = program::output(program::program("umount").arg(dir));
            if unmounted.code != 0 {
                eprintln!("{}", unmounted.stderr);
            }
        }
        if std::env::var_os("PITR_KEEP").is_some_and(|v| v == "1" || v == "failed" && std::thread::panicking()) {
            eprintln!("kept: {}", self.dir.display());
            return;
        }
        if std::thread::panicking() {
            eprintln!("removed {}; PITR_KEEP=1 keeps it", self.dir.display());
        }
        // A mount that was left below must not lead the removal elsewhere.
        let removed = program::output(program::program("rm").args(["-rf", "--one-file-system", "--"]).arg(&self.dir));
        if removed.code != 0 {
            eprintln!("{}", removed.stderr);
        }
    }
}

/// Makes `path` with its parents; only `path` itself gets owner, group and mode, and only if it is new.
pub fn make_dir(path: &Path, owner: &str, group: &str, mode: u32) -> PathBuf {
    if !path.exists() {
        fs::create_dir_all(path).unwrap();
        give(path, owner, group, mode);
    }
    path.to_path_buf()
}

/// Sets owner, group and mode (in that order: a change of owner clears the set-gid bit).
pub fn give(path: &Path, owner: &str, group: &str, mode: u32) {
    let uid = User::from_name(owner).unwrap().unwrap_or_else(|| panic!("no user {owner}")).uid;
    let gid = Group::from_name(group).unwrap().unwrap_or_else(|| panic!("no group {group}")).gid;
    chown(path, Some(uid.as_raw()), Some(gid.as_raw())).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
