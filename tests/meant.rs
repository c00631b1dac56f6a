//! Which cluster is meant where a host has several: nothing is done to one that was not named.

use crate::support::{Pitr, Scratch, Story, TestCluster};

/// Two clusters that no configuration names, whose directories have the same name: one is told by its data directory, and a
/// verb that could mean both does nothing.
#[test]
fn two_clusters_of_one_name_are_told_by_their_data_directories() {
    let scratch = Scratch::new("meant");
    let clusters = ["one", "two"].map(|name| TestCluster::builder(&scratch, name).start());
    for cluster in &clusters {
        let story = Story::begin(cluster);
        cluster.basebackup_tar("base", true);
        story.work(3);
        cluster.archive_caught_up();
    }
    let pitr = Pitr::for_cluster(&scratch, &clusters[0]);
    pitr.write(&format!("state_directory = \"{}\"\n", pitr.state.display()));
    let [one, two] = clusters.each_ref().map(|cluster| cluster.data.to_str().unwrap());
    let [backups, other_backups] = clusters.each_ref().map(|cluster| cluster.backups.to_str().unwrap());
    let name = clusters[0].data.file_name().unwrap().to_str().unwrap();
    assert_eq!(clusters[1].data.file_name().unwrap(), name);

    let vague = pitr.run(&["plan", "--cluster", name, "--to-latest", "--backups", backups]).expect_code(2);
    assert!(vague.stderr.contains(one) && vague.stderr.contains(two), "{}", vague.stderr);
    let status = pitr.json(&["status", "--cluster", one, "--backups", backups]);
    let shown = status["clusters"].as_array().unwrap();
    assert_eq!((shown.len(), shown[0]["data_directory"].as_str()), (1, Some(one)));
    assert_eq!(shown[0]["windows"].as_array().unwrap().len(), 1, "{status:#}");
    let unknown = pitr.json(&["status", "--cluster", one]);
    assert!(unknown["clusters"][0]["problems"][0].as_str().unwrap().contains("--backups DIR"), "{unknown:#}");
    let listed = pitr.json(&["backups", "--cluster", two, "--backups", other_backups]);
    assert_eq!(listed["backups"].as_array().unwrap().len(), 1, "{listed:#}");
    // Another cluster's backup is no backup of this one.
    assert_eq!(pitr.json(&["status", "--cluster", two, "--backups", backups])["clusters"][0]["windows"].as_array().unwrap().len(), 0);

    let restore = |data: &str, backups: &str| pitr.json(&["restore", "--cluster", data, "--yes", "--to-latest", "--backups", backups]);
    let (first, second) = (restore(one, backups), restore(two, other_backups));
    let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let recovered = [one, two].map(inode);
    let both = pitr.run(&["undo", "--yes"]).expect_code(2);
    for run in [&first, &second] {
        assert!(both.stderr.contains(run["run"].as_str().unwrap()), "{}", both.stderr);
    }
    assert_eq!([one, two].map(inode), recovered);
    assert_eq!(pitr.json(&["runs", "--cluster", one])["runs"].as_array().unwrap().len(), 1);
    assert_eq!(pitr.json(&["report", "--cluster", one])["run"], first["run"], "not the newest of all");
    pitr.run(&["undo", "--yes", "--cluster", one]).expect_code(0);
    assert!(inode(one) != recovered[0] && inode(two) == recovered[1]);
    // What is left can be meant.
    pitr.run(&["undo", "--yes"]).expect_code(0);
    assert_ne!(inode(two), recovered[1]);
}
