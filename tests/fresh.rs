//! A fresh host of which nothing is left but backups, archive and empty directories for the tablespaces: an empty cluster
//! gives way, its configuration or the backup's is used, and it comes back.

use std::fs;

use crate::support::cluster::Builder;
use crate::support::story::{self, DATABASE};
use crate::support::{Pitr, Scratch, Story, majors, program};

majors::on_each_major! {
    a_fresh_host_with_tablespaces => |major| super::majors::play("fresh", major, super::a_fresh_host_with_tablespaces),
}

fn a_fresh_host_with_tablespaces(scratch: &Scratch, builder: Builder<'_>) {
    let cluster = builder.conf("work_mem = '7MB'").start();
    let story = Story::begin(&cluster);
    let space = scratch.dir("täble space", "postgres", "postgres", 0o700);
    cluster.sql("postgres", &format!("CREATE TABLESPACE one LOCATION '{}'", space.display()));
    cluster.sql(DATABASE, "CREATE TABLE in_one TABLESPACE one AS SELECT generate_series(1, 700) AS id");
    cluster.pg_basebackup("nightly", &["-Ft", "-z"]);
    let target = story.work(5);
    cluster.sql(DATABASE, "DELETE FROM in_one");
    cluster.archive_caught_up();
    let identifier = || cluster.sql("postgres", "SELECT system_identifier FROM pg_control_system()");
    let lost = identifier();
    cluster.crash();
    let configuration = fs::read_to_string(&cluster.conf_file).unwrap();
    for directory in [&cluster.data, &space] {
        fs::read_dir(directory).unwrap().flatten().for_each(|e| {
            let path = e.path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        });
    }
    let mut initdb = cluster.tool("initdb");
    program::ok(initdb.arg("-D").arg(&cluster.data).args(["--auth=trust", "--username=postgres", "--no-sync", "--wal-segsize=1"]));
    // What it archived itself would lie among the lost one's.
    fs::write(&cluster.conf_file, format!("{}\narchive_command = ''\n", configuration.replace("7MB", "5MB"))).unwrap();
    cluster.start();
    let fresh = identifier();
    assert_ne!(lost, fresh);
    let mut pitr = Pitr::for_cluster(scratch, &cluster);
    pitr.unset("backups");
    pitr.unset("wal_archive");
    let (backups, archive) = (cluster.backups.to_str().unwrap(), cluster.archive.as_deref().unwrap().to_str().unwrap());
    let restore = ["restore", "--yes", "--before-lsn", &target.lsn, "--backups", backups, "--wal", archive, "--as", "main"];
    for (more, work_mem) in [(&[][..], "5MB"), (&["--config-from", "backup"], "7MB")] {
        let restored = pitr.json(&[restore.as_slice(), more].concat());
        assert_eq!(restored["outcome"], "switched", "{restored}");
        assert_eq!((identifier(), cluster.sql("postgres", "SHOW work_mem").as_str()), (lost.clone(), work_mem));
        assert_eq!(story::facts(&cluster, DATABASE), target.facts);
        assert_eq!(cluster.sql(DATABASE, "SELECT count(*) FROM in_one"), "700");
        let place = cluster.sql("postgres", "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'one'");
        assert_eq!(place, space.to_str().unwrap());
        assert_eq!(pitr.json(&["undo", "--yes"])["outcome"], "undone");
        assert_eq!((identifier(), cluster.sql("postgres", "SHOW work_mem").as_str()), (fresh.clone(), "5MB"));
    }
    pitr.run(&["purge", "--all", "--yes"]).expect_code(0);
    assert_eq!(fs::read_dir(&space).unwrap().count(), 0, "the location is as empty as it was");
}
