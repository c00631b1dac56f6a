//! SELinux labels where no SELinux is in force: what a filesystem kept of them from another host, or from before it was
//! switched off, stands in nobody's way.

use std::path::Path;

use rustix::fs::{XattrFlags, getxattr, setxattr};

use crate::support::stand::{Serves, Stand};
use crate::support::{Scratch, TestCluster};

const NAME: &str = "security.selinux";
const LABEL: &[u8] = b"system_u:object_r:postgresql_db_t:s0\0";

fn label(path: &Path) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 256];
    let length = getxattr(path, NAME, &mut buffer[..]).ok()?;
    buffer.truncate(length);
    Some(buffer)
}

#[test]
fn labels_of_a_host_without_selinux_are_taken_along_and_decide_nothing() {
    if Path::new("/sys/fs/selinux/enforce").exists() {
        // There the kernel labels what is made, and the rule is the other one.
        return;
    }
    let scratch = Scratch::new("labels");
    let stand = Stand::new(&scratch, TestCluster::builder(&scratch, "main"));
    stand.reset();
    let data = stand.cluster.data.clone();
    setxattr(&data, NAME, LABEL, XattrFlags::empty()).unwrap();
    stand.pitr.json(&stand.restore()[..4]);
    stand.assert_serves(Serves::New);
    assert_eq!(label(&data).as_deref(), Some(LABEL), "the recovered cluster's directory has the label, too");
    stand.pitr.json(&["undo", "--yes"]);
    stand.assert_serves(Serves::Old);
    assert_eq!(label(&data).as_deref(), Some(LABEL));
    stand.halt();
}
