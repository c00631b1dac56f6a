//! What is done stands in the host's log: in journald's, by its own protocol. A log that is not there is no matter to every
//! other test of a recovery.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::stand::{Serves, Stand};
use crate::support::{Scratch, TestCluster};

type Record = BTreeMap<String, String>;

/// Stands for journald in a mount namespace: nothing of the host's own log is touched.
struct Journald {
    /// A command that runs another one where this is journald.
    words: Vec<String>,
    over: Arc<AtomicBool>,
    reader: JoinHandle<Vec<Record>>,
}

impl Journald {
    fn listen(directory: &Path) -> Journald {
        let socket = UnixDatagram::bind(directory.join("socket")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let reader = std::thread::spawn(move || {
            let (mut records, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
            loop {
                match socket.recv(&mut buffer) {
                    Ok(read) => records.push(fields(std::str::from_utf8(&buffer[..read]).unwrap())),
                    Err(_) if ends.load(Ordering::SeqCst) => return records,
                    Err(_) => {}
                }
            }
        });
        let script = "mkdir -p /run/systemd && mount -t tmpfs none /run/systemd && mkdir /run/systemd/journal && \
                      mount --bind \"$1\" /run/systemd/journal && shift && exec \"$@\"";
        let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", directory.to_str().unwrap()];
        Journald { words: words.map(str::to_string).to_vec(), over, reader }
    }

    fn records(self) -> Vec<Record> {
        self.over.store(true, Ordering::SeqCst);
        self.reader.join().unwrap()
    }
}

/// No value of these records has a line break, so each field is a line.
fn fields(text: &str) -> Record {
    let field = |line: &str| line.split_once('=').map(|(name, value)| (name.to_string(), value.to_string()));
    text.lines().map(|line| field(line).unwrap_or_else(|| panic!("no field: {line:?}"))).collect()
}

#[test]
fn each_act_is_a_record() {
    let scratch = Scratch::new("records");
    let mut stand = Stand::new(&scratch, TestCluster::builder(&scratch, "main"));
    stand.reset();
    let directory = scratch.dir("journald", "root", "root", 0o755);
    let journald = Journald::listen(&directory);
    stand.pitr.within(journald.words.clone());
    let restored = stand.pitr.json(&[&stand.restore()[..4], &["--reason", "a bad night"]].concat());
    stand.assert_serves(Serves::New);
    let undone = stand.pitr.json(&["undo", "--yes"]);
    assert_eq!(undone["outcome"], "undone", "{undone}");

    let records = journald.records();
    let run = restored["run"].as_str().unwrap();
    for record in &records {
        assert_eq!((record["PITR_RUN"].as_str(), record["PITR_CLUSTER"].as_str()), (run, "main"), "{record:?}");
        assert_eq!((record["SYSLOG_IDENTIFIER"].as_str(), record["MESSAGE_ID"].len()), ("pitr", 32), "{record:?}");
        assert!(record["MESSAGE"].starts_with(&format!("run {run}: ")), "{record:?}");
    }
    let of = |act: &str, purpose: &str| -> Vec<&Record> {
        records.iter().filter(|r| r["PITR_ACT"] == act && r.get("PITR_PURPOSE").is_some_and(|p| p == purpose)).collect()
    };
    for (purpose, outcome) in [("restore", "switched"), ("undo", "undone")] {
        let (begun, done) = (of("step", purpose), of("done", purpose));
        let steps = |list: &[&Record]| list.iter().map(|r| r["PITR_STEP"].clone()).collect::<Vec<_>>();
        assert_eq!(steps(&begun), steps(&done), "each step that begins is done");
        assert!(begun.len() > 2, "{purpose}: {begun:?}");
        assert_eq!(of("begin", purpose).len(), 1);
        let ends: Vec<_> = of("end", purpose).iter().map(|r| (r["PITR_OUTCOME"].as_str(), r["PRIORITY"].as_str())).collect();
        assert_eq!(ends, [(outcome, "5")]);
    }
    let begin = of("begin", "restore")[0];
    assert_eq!(begin["PITR_REASON"], "a bad night");
    assert!(begin["PITR_COMMAND"].contains("restore --yes --before-time"), "{begin:?}");
    assert!(of("step", "restore").iter().any(|r| r["PITR_STEP"] == "switch"));
    stand.halt();
}

/// A recovery that fails says why.
#[test]
fn a_failure_is_a_record() {
    let scratch = Scratch::new("records-failed");
    let mut stand = Stand::new(&scratch, TestCluster::builder(&scratch, "main"));
    stand.reset();
    let never = scratch.file("checks/never.sql", "-- check: never\n-- expect: false\nSELECT 1;\n", 0o644);
    stand.pitr.set("checks", vec![never.to_str().unwrap()]);
    let directory = scratch.dir("journald", "root", "root", 0o755);
    let journald = Journald::listen(&directory);
    stand.pitr.within(journald.words.clone());
    stand.pitr.json_code(6, &stand.restore()[..4]);
    stand.assert_serves(Serves::Old);

    let records = journald.records();
    let failed: Vec<_> = records.iter().filter(|r| r["PITR_ACT"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{records:?}");
    assert_eq!((failed[0]["PITR_STEP"].as_str(), failed[0]["PRIORITY"].as_str()), ("check", "3"));
    let end = records.last().unwrap();
    assert_eq!((end["PITR_PURPOSE"].as_str(), end["PITR_OUTCOME"].as_str()), ("stand_back", "kept"), "{end:?}");
    stand.halt();
}
