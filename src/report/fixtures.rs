//! Values that the tests of this folder print.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use crate::host::Owner;
use crate::pg::history::History;
use crate::pg::{Lsn, SegmentName, SegmentSize, Timeline};
use crate::plan::facts::{Configuration, Control};
use crate::plan::planned::{BackupLine, ClusterLine, Planned, SpaceLine, TargetLine, WalLine};
use crate::plan::recovery::{Chain, ClusterFacts, Consequence, Recovery, Site, Target};
use crate::plan::step::Step;
use crate::plan::target::TargetRequest;
use crate::store::catalogue::{CatalogueEntry, Label};
use crate::store::codec::Compression;
use crate::store::source::{Form, Source};

/// A tarball of 695 MiB that nothing speaks against.
pub fn entry() -> CatalogueEntry {
    let file = "/var/backups/postgres/base-20261121.tar.gz";
    CatalogueEntry {
        name: "base-20261121.tar.gz".into(),
        path: file.into(),
        source: Source { name: "base-20261121.tar.gz".into(), form: Form::Tarball { file: file.into(), from_server: false } },
        compression: Compression::Gzip,
        checksummed: true,
        label: Label::Unknown,
        has_manifest: false,
        system_identifier: None,
        major: Some(15),
        wal_ranges: Vec::new(),
        control: None,
        stop_time_bound: Some(crate::host::Stamp { seconds: 1_795_294_994, nanos: 0 }),
        compressed_bytes: 695 << 20,
        unpacked_bytes: None,
        tablespaces: Vec::new(),
        tablespace_bytes: vec![],
        tablespaces_known: true,
        wal: None,
        problems: Vec::new(),
    }
}

/// A recovery of that backup, of three steps.
pub fn recovery() -> Recovery {
    Recovery {
        cluster: ClusterFacts {
            name: "15-main".into(),
            data_directory: "/var/lib/postgresql/15/main".into(),
            inode: 7,
            owner: Owner { name: "postgres".into(), uid: 101, gid: 104, groups: vec![104], home: "/var/lib/postgresql".into() },
            major: 15,
            programs: "/usr/lib/postgresql/15/bin".into(),
            control: Control::PgCtlCluster { version: "15".into(), name: "main".into() },
            system_identifier: 7_300_000_000_000_000_000,
            timeline: crate::pg::Timeline(1),
            segment_size: SegmentSize::new(16 << 20).unwrap(),
            serving: true,
            remains: crate::plan::facts::Remains::Whole,
            group_access: false,
            mounted: false,
            one_step: true,
            configuration: Configuration {
                config_file: "/etc/postgresql/15/main/postgresql.conf".into(),
                in_data_directory: false,
                settings: BTreeMap::new(),
            },
            parent_is_owners: true,
        },
        target: Target {
            request: TargetRequest::BeforeXid(208_245),
            timeline: Timeline(1),
            history: History::root(Timeline(1)),
            lsn: None,
            end: None,
            inclusive: false,
            moving: false,
        },
        backup: entry(),
        backup_end: None,
        chain: Chain {
            first: SegmentName { timeline: Timeline(1), number: 0xDE },
            last: SegmentName { timeline: Timeline(1), number: 0x1FC },
            segments: 143,
            outside_archive: 2,
            open: false,
        },
        other_wal: Vec::new(),
        config_from_backup: false,
        dump: None,
        migration: None,
        floors: BTreeMap::new(),
        site: Site {
            archives: vec!["/var/backups/postgres/wal".into()],
            checks: Vec::new(),
            database: "mazevault".into(),
            user: "postgres".into(),
            check_user: None,
            quiesce: Vec::new(),
            hooks: crate::config::Hooks::default(),
            trusted: crate::plan::recovery::Trusted::default(),
        },
        preloaded: crate::plan::preloaded::Preloaded::default(),
        accepted: vec!["no-manifest".into()],
        reserve: 1 << 30,
        places: vec![],
        tablespaces: vec![],
        live_tablespaces: vec![],
        in_place: false,
        steps: vec![Step::Stop, Step::Extract, Step::Switch],
        digest: "5f1d0c".into(),
        names: crate::plan::loss::Names::default(),
        consequences: Vec::new(),
        damaged_wal: Vec::new(),
    }
}

/// A plan that can be carried out.
pub fn planned() -> Planned {
    Planned {
        host: "db-prod-03".into(),
        cluster: ClusterLine {
            name: "15-main".into(),
            data_directory: "/var/lib/postgresql/15/main".into(),
            version: "postgres (PostgreSQL) 15.18".into(),
            state: "serving".into(),
            bytes: 3_650_722_201,
        },
        target: TargetLine {
            text: "before transaction 208245".into(),
            argument: "--before-xid 208245".into(),
            timeline: Some(Timeline(1)),
            lsn: None,
            inclusive: false,
            keeps: None,
            discards: None,
            note: None,
        },
        backup: Some(BackupLine {
            name: "base-20261121.tar.gz".into(),
            path: "/var/backups/postgres/base-20261121.tar.gz".into(),
            start_lsn: Some(Lsn(0xDE00_0028)),
            end_lsn: None,
            time: Some("2026-11-21T21:03:14Z".parse().unwrap()),
            bytes: 695 << 20,
            unpacked: Some(3_650_722_201),
            manifest: false,
        }),
        passed_over: vec![("base-20261122.tar.gz".into(), "it ended after the target".into())],
        wal: Some(WalLine {
            timeline: Timeline(1),
            segments: 143,
            first: "0000000100000000000000DE".into(),
            last: "0000000100000001000000FC".into(),
            only_in_pg_wal: 2,
            gaps: Vec::new(),
        }),
        loss: None,
        consequences: vec![Consequence { id: "unlogged".into(), text: "unlogged tables will be empty".into() }],
        alternatives: vec!["a copy can be restored by hand".into()],
        space: SpaceLine { at: "/var/lib/postgresql".into(), needed: 3_758_096_384, free: 63 << 30, reserve: 1 << 30 },
        other_space: vec![],
        estimate: None,
        refusals: Vec::new(),
        recovery: Some(recovery()),
    }
}

/// Keeps what is written to it.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    /// All of it.
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Line by line.
    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_string).collect()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
