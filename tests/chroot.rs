//! A cluster and `pitr` in a chroot: the root directory there is no mount point, and paths have other names outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::support::program::{self, program};
use crate::support::story::{self, DATABASE};
use crate::support::{Pitr, Scratch, Story, TestCluster, wait_until};

/// Restored and undone in there. The root's directories are the host's, mounted in a namespace of the test's own with
/// shared mounts, as they are on a host with systemd.
#[test]
fn there_and_back_in_a_chroot() {
    let scratch = Scratch::new("chroot");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    cluster.cron_tarball("base-20261121.tar.gz", None);
    let target = story.work(10);
    story.migrate(123);
    let last = story.work(5);
    cluster.archive_caught_up();
    cluster.stop();
    let mut pitr = Pitr::for_cluster(&scratch, &cluster);
    pitr.set("database", DATABASE);

    let chroot = Chroot::new(&scratch, &cluster.home);
    let server = |action: &[&str]| {
        let mut command = chroot.command();
        command.args(["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]);
        command.arg(cluster.programs.bin.join("pg_ctl")).arg("-D").arg(&cluster.data).arg("-l").arg(&cluster.log).arg("-w").args(action);
        program::ok(&mut command);
    };
    server(&["start"]);
    assert!(!cluster.running(), "out here it stands in another place");
    pitr.within(chroot.prefix());

    let status = pitr.json(&["status"]);
    assert_eq!(status["clusters"][0]["state"], "serving", "{status}");
    let restored = pitr.json(&["restore", "--yes", "--to-time", &target.time]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(story::facts(&cluster, DATABASE), target.facts);
    let undone = pitr.json(&["undo", "--yes"]);
    assert_eq!(undone["outcome"], "undone", "{undone}");
    assert_eq!(story::facts(&cluster, DATABASE), last.facts);
    server(&["stop"]);
}

/// A directory with mounts in it that only processes of its own mount namespace see; one of them lives as long as this.
struct Chroot {
    root: PathBuf,
    keeper: Child,
}

impl Chroot {
    fn new(scratch: &Scratch, home: &Path) -> Chroot {
        let root = scratch.dir("root", "root", "root", 0o755);
        let program = Path::new(env!("CARGO_BIN_EXE_pitr")).parent().unwrap();
        let mut script = String::from("set -e; cd \"$1\"; mount --make-rshared /\n");
        for dir in ["/usr", "/etc", "/proc", "/dev"].map(Path::new).into_iter().chain([program, home]) {
            script += &format!("mkdir -p .{0}; mount --rbind {0} .{0}\n", dir.display());
        }
        // On a merged system these are links into /usr; elsewhere they are directories.
        for name in ["bin", "sbin", "lib", "lib64"] {
            match fs::read_link(Path::new("/").join(name)) {
                Ok(target) => script += &format!("ln -s {} {name}\n", target.display()),
                Err(_) => script += &format!("if test -d /{name}; then mkdir {name}; mount --rbind /{name} {name}; fi\n"),
            }
        }
        script += "mkdir -p -m 1777 tmp; : >ready; exec sleep infinity";
        let mut command = program::program("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]).arg(&root);
        let mut keeper = command.spawn().unwrap();
        wait_until(10, "the chroot", || {
            assert!(keeper.try_wait().unwrap().is_none(), "the chroot was not made");
            root.join("ready").exists()
        });
        Chroot { root, keeper }
    }

    /// What to write before a command to run it in there.
    fn prefix(&self) -> Vec<String> {
        let words = ["nsenter", "--mount", "--target", &self.keeper.id().to_string(), "chroot", self.root.to_str().unwrap()];
        words.map(str::to_string).to_vec()
    }

    fn command(&self) -> Command {
        let prefix = self.prefix();
        let mut command = program(&prefix[0]);
        command.args(&prefix[1..]);
        command
    }
}

impl Drop for Chroot {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
