//! What a plan finds out before anything is stopped.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::story::DATABASE;
use crate::support::{Pitr, Scratch, Story, TestCluster};

fn refusal<'a>(document: &'a Value, id: &str) -> &'a Value {
    let found = document["refusals"].as_array().and_then(|list| list.iter().find(|reason| reason["id"] == id));
    found.unwrap_or_else(|| panic!("no refusal {id}: {document}"))
}

/// PGDATA's parent is root's and the owner may only walk through it: said by the plan, with what to do.
#[test]
fn a_parent_directory_that_the_owner_cannot_list_is_refused() {
    let scratch = Scratch::new("parent");
    let cluster = TestCluster::builder(&scratch, "main").root_owned_parent().start();
    cluster.cron_tarball("base-20261121.tar.gz", None);
    Story::begin(&cluster).work(1);
    let mut pitr = Pitr::for_cluster(&scratch, &cluster);
    pitr.set("database", DATABASE);
    let pid = cluster.postmaster_pid();
    for mode in [0o711, 0o777] {
        fs::set_permissions(cluster.parent(), fs::Permissions::from_mode(mode)).unwrap();
        for words in [&["plan", "--to-latest"][..], &["restore", "--yes", "--to-latest"]] {
            let document = pitr.json_code(3, words);
            let reason = refusal(&document, "parent-directory");
            assert!(reason["hint"].as_str().unwrap().contains("chmod 755"), "{mode:o}: {document}");
        }
    }
    fs::set_permissions(cluster.parent(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(pitr.json(&["plan", "--to-latest"])["refusals"], serde_json::json!([]));
    assert_eq!(cluster.postmaster_pid(), pid);
}
