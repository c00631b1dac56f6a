//! Where each tablespace goes, and every place that takes part in a recovery.
//!
//! A place takes part when the backup has a tablespace there, when replay up to the target creates one, or when the
//! cluster that stands has one: replay must not reach it, and it stands aside with the rest of the old cluster.

use std::path::{Path, PathBuf};

use super::backup::Choice;
use super::facts::{Host, Location, Space};
use super::place::{Holds, Place, Tablespace, is_in_place, version_directory};
use super::planned::{Reason, SpaceLine};
use crate::store::catalogue::CatalogueEntry;
use crate::store::source::Form;
use crate::wal::inquiry::Answer;

/// Every place outside PGDATA.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spaces {
    /// Tablespaces of the backup.
    pub tablespaces: Vec<Tablespace>,
    /// Places, tablespaces first, then pg_wal.
    pub places: Vec<Place>,
    /// Some tablespace lies in `pg_tblspc` itself.
    pub in_place: bool,
}

/// Where a tablespace of a backup goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goes {
    /// To this location.
    Outside(PathBuf),
    /// It stays a directory in `pg_tblspc`.
    Inside,
    /// Neither the cluster nor the backup tells.
    Untold,
}

/// Where the tablespaces of a backup go: to where the cluster that stands has them, else to where somebody says, else to
/// where they were when the backup was taken. The reason where what was said cannot be.
pub fn of_backup(host: &Host, entry: &CatalogueEntry) -> Result<Vec<(u32, Goes)>, String> {
    let known =
        |oid: &u32| entry.tablespaces.iter().any(|(other, _)| other == oid) || entry.tablespace_bytes.iter().any(|(other, _)| other == oid);
    if let Some((oid, _)) = host.said_locations.iter().find(|(oid, _)| entry.tablespaces_known && !known(oid)) {
        return Err(format!("it has no tablespace {oid}"));
    }
    let named = |oid: u32| entry.tablespaces.iter().any(|(other, _)| *other == oid);
    // What only the manifest knows has no link: it lies in pg_tblspc itself.
    let bare = entry.tablespace_bytes.iter().filter(|(oid, _)| !named(*oid)).map(|(oid, _)| (*oid, format!("pg_tblspc/{oid}")));
    let all = entry.tablespaces.iter().cloned().chain(bare);
    all.map(|(oid, text)| Ok((oid, place_of(host, entry, oid, Path::new(&text))?))).collect()
}

fn place_of(host: &Host, entry: &CatalogueEntry, oid: u32, text: &Path) -> Result<Goes, String> {
    let said = host.said_locations.iter().find(|(other, _)| *other == oid).map(|(_, place)| place);
    let live = host.cluster.tablespaces.iter().find(|(other, _)| *other == oid).map(|(_, place)| place);
    let told = backups_word(entry, oid, text);
    let known = live.map(PathBuf::as_path).or(match &told {
        Goes::Outside(place) => Some(place),
        Goes::Inside | Goes::Untold => None,
    });
    if let (Some(said), Some(known)) = (said, known.filter(|known| said.is_some_and(|said| said != known))) {
        return Err(format!("tablespace {oid} is at {}, and a recovery does not move it to {}", known.display(), said.display()));
    }
    Ok(match live.or(said) {
        Some(place) if is_in_place(oid, place) => Goes::Inside,
        Some(place) => Goes::Outside(place.clone()),
        None => told,
    })
}

/// What the backup itself tells. The links of a plain one lead to where `pg_basebackup` put the content; a directory in
/// `pg_tblspc` that a server sent was one there, but a copy may have followed a link.
fn backups_word(entry: &CatalogueEntry, oid: u32, text: &Path) -> Goes {
    match (&entry.source.form, is_in_place(oid, text)) {
        (Form::Tarball { from_server: false, .. } | Form::Plain { manifest: false, .. }, true) => Goes::Untold,
        (_, true) => Goes::Inside,
        (Form::Plain { .. }, false) => Goes::Untold,
        (Form::TarDirectory { .. } | Form::Tarball { .. }, false) => Goes::Outside(text.to_path_buf()),
    }
}

/// Why a backup cannot serve: a tablespace of it must be somewhere at the target, and nothing tells where. One that the WAL
/// up to the target drops need not be; of one that it makes it tells the location.
pub fn untold(host: &Host, entry: &CatalogueEntry, wal: &Answer) -> Option<String> {
    let settled = |oid: u32| wal.tablespaces_dropped.contains(&oid) || wal.tablespaces.iter().any(|(made, _)| *made == oid);
    let spaces = of_backup(host, entry).unwrap_or_default();
    spaces.iter().find(|(oid, goes)| *goes == Goes::Untold && !settled(*oid)).map(|(oid, _)| {
        format!("it has tablespace {oid}, which the cluster has no more, and does not tell where that was (--tablespace {oid}=DIR says it)")
    })
}

/// Texts of every location that a plan with `backups` may need to know about.
pub fn texts(host: &Host, created: &[(u32, String)]) -> Vec<PathBuf> {
    let of_backups = host.backups.iter().flat_map(|entry| of_backup(host, entry).unwrap_or_default());
    let of_backups = of_backups.filter_map(|(_, goes)| if let Goes::Outside(place) = goes { Some(place) } else { None });
    let live = host.cluster.tablespaces.iter().filter(|(oid, text)| !is_in_place(*oid, text)).map(|(_, text)| text.clone());
    let created = created.iter().filter(|(_, text)| !text.is_empty()).map(|(_, text)| PathBuf::from(text));
    of_backups.chain(live).chain(created).collect()
}

/// Decides, or says why not.
pub(super) fn decide(host: &Host, chosen: &Choice, wal: &Answer, reasons: &mut Vec<Reason>) -> Spaces {
    let created = &wal.tablespaces;
    let mut spaces = Spaces::default();
    if let Some(why) = untold(host, &chosen.entry, wal) {
        let hint = "Say where, in a directory of the owner that holds nothing else, or choose another backup: pitr backups.";
        reasons.push(Reason::fact("tablespace-location", format!("backup {} cannot serve: {why}", chosen.entry.name), hint));
    }
    for (oid, goes) in of_backup(host, &chosen.entry).unwrap_or_default() {
        let text = match goes {
            Goes::Outside(place) => Some(place),
            Goes::Inside => None,
            // Dropped again by replay, wherever it stands.
            Goes::Untold => created.iter().find(|(made, _)| *made == oid).map(|(_, text)| PathBuf::from(text)),
        };
        let text = text.filter(|text| !text.as_os_str().is_empty() && !is_in_place(oid, text));
        let real = text.as_ref().and_then(|text| take(host, text, true, &mut spaces, reasons));
        spaces.in_place |= text.is_none();
        spaces.tablespaces.push(Tablespace { oid, location: text, real });
    }
    for (oid, text) in created {
        match text.is_empty() || is_in_place(*oid, Path::new(text)) {
            true => spaces.in_place = true,
            false => {
                take(host, Path::new(text), true, &mut spaces, reasons);
            }
        }
    }
    for (oid, text) in &host.cluster.tablespaces {
        match is_in_place(*oid, text) {
            true => {
                spaces.in_place = true;
                let made = created.iter().any(|(other, _)| other == oid);
                if !made && !spaces.tablespaces.iter().any(|t| t.oid == *oid) {
                    reasons.push(left_out(*oid, chosen));
                }
            }
            false => {
                take(host, text, false, &mut spaces, reasons);
            }
        }
    }
    spaces.places.sort_by(|a, b| a.parent.cmp(&b.parent));
    if let Some(wal) = &host.wal_location {
        external_wal(host, wal, &mut spaces, reasons);
    }
    spaces
}

/// `pg_basebackup` of majors before 16 leaves such tablespaces out without a word, and its manifest too.
fn left_out(oid: u32, chosen: &Choice) -> Reason {
    Reason::judgement(
        "tablespace-in-place",
        format!("tablespace {oid} lies in pg_tblspc itself, and backup {} has nothing of it", chosen.entry.name),
        "Choose a backup that has it. If it was made after the target: --accept tablespace-in-place.",
    )
}

/// Adds the place of a location once; its real path. One that is not `needed` may be gone.
fn take(host: &Host, text: &Path, needed: bool, spaces: &mut Spaces, reasons: &mut Vec<Reason>) -> Option<PathBuf> {
    let unseen = Location { text: text.into(), real: text.into(), problem: Some("nobody looked at it".into()), ..Location::default() };
    let location = host.locations.iter().find(|l| l.text == text).unwrap_or(&unseen);
    if let Some(place) = spaces.places.iter_mut().find(|p| p.parent == location.real) {
        if !place.called.contains(&location.text) {
            place.called.push(location.text.clone());
        }
        return Some(location.real.clone());
    }
    if let Some(problem) = &location.problem {
        if !needed && problem.contains("No such file") {
            return None;
        }
        let reason = Reason::fact(
            "tablespace-location",
            format!("the tablespace location {} cannot be used: {problem}", text.display()),
            format!(
                "It must be a directory of {0} that holds nothing else. Where it is only missing: install -d -o {0} -m 0700 {1}",
                host.cluster.owner.name,
                super::target::shell_word(&text.display().to_string())
            ),
        );
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
        return None;
    }
    let file = &host.cluster.control_file;
    spaces.places.push(Place {
        holds: Holds::Tablespace,
        parent: location.real.clone(),
        name: version_directory(host.cluster.major, file.catalog_version),
        parent_is_owners: true,
        one_step: location.one_step,
        called: vec![location.text.clone()],
        reserve: reserve_of(&location.space),
    });
    Some(location.real.clone())
}

fn external_wal(host: &Host, wal: &Location, spaces: &mut Spaces, reasons: &mut Vec<Reason>) {
    let owner = &host.cluster.owner.name;
    let refuse = |why: &str| {
        let missing = format!(
            "Is it mounted? Where it is lost: install -d -o {owner} -m 0700 {}.",
            super::target::shell_word(&wal.real.display().to_string())
        );
        let hint = "Put pg_wal into a directory of its own whose parent is the owner's, or root's alone, on a local filesystem.";
        let hint = if why.ends_with("does not exist") { missing } else { hint.to_string() };
        Reason::fact("external-pg-wal", format!("pg_wal is a link to {}: {why}", wal.real.display()), hint)
    };
    if let Some(problem) = &wal.problem {
        return reasons.push(refuse(problem));
    }
    let nested = |p: &&Place| wal.real.starts_with(&p.parent) || p.parent.starts_with(&wal.real);
    if let Some(place) = spaces.places.iter().find(nested) {
        return reasons.push(refuse(&format!("the tablespace location {} and it lie in each other", place.parent.display())));
    }
    let (Some(parent), Some(name)) = (wal.real.parent(), wal.real.file_name().and_then(|n| n.to_str())) else {
        return reasons.push(refuse("it is not UTF-8"));
    };
    spaces.places.push(Place {
        holds: Holds::Wal,
        parent: parent.to_path_buf(),
        name: name.to_string(),
        parent_is_owners: wal.parent_uid == host.cluster.owner.uid,
        one_step: wal.one_step,
        called: if wal.text.is_absolute() { vec![wal.text.clone()] } else { vec![] },
        reserve: reserve_of(&wal.space),
    });
}

/// Kept free on a filesystem that is not PGDATA's: 5 % of it, at most 10 GiB.
fn reserve_of(space: &Space) -> u64 {
    const MOST: u64 = 10 << 30;
    (space.total / 20).min(MOST)
}

/// What each filesystem must take, PGDATA's first. `data` and `wal` are the bytes of the backup and of the WAL.
pub(super) fn rooms(host: &Host, chosen: &Choice, spaces: &Spaces, data: u64, wal: u64, reserve: u64) -> Vec<SpaceLine> {
    let of_spaces = |oid: u32| chosen.entry.tablespace_bytes.iter().find(|(known, _)| *known == oid).map(|(_, bytes)| *bytes);
    let mut wanted: Vec<(Space, u64, u64)> = vec![(host.space.clone(), data.saturating_add(wal), reserve)];
    let mut add = |space: &Space, bytes: u64, reserve: u64| match wanted.iter_mut().find(|(known, ..)| known.device == space.device) {
        Some((_, needed, kept)) => {
            *needed = needed.saturating_add(bytes);
            *kept = (*kept).max(reserve);
        }
        None => wanted.push((space.clone(), bytes, reserve)),
    };
    let mut elsewhere: u64 = 0;
    for tablespace in &spaces.tablespaces {
        let Some(location) = tablespace.real.as_ref().and_then(|real| host.locations.iter().find(|l| l.real == *real)) else { continue };
        let known = of_spaces(tablespace.oid);
        elsewhere = elsewhere.saturating_add(known.unwrap_or(0));
        // A compressed archive without a manifest does not tell: as much as stands there now.
        add(&location.space, known.unwrap_or(location.bytes), reserve_of(&location.space));
    }
    for location in spaces.places.iter().filter_map(|p| host.locations.iter().find(|l| l.real == p.parent)) {
        // Replay may write there too.
        add(&location.space, 0, reserve_of(&location.space));
    }
    if let Some(location) = &host.wal_location {
        add(&location.space, wal, reserve_of(&location.space));
    }
    if let Some((_, needed, _)) = wanted.first_mut() {
        *needed = needed.saturating_sub(elsewhere);
    }
    let line =
        |(space, needed, reserve): (Space, u64, u64)| SpaceLine { at: space.at.display().to_string(), needed, free: space.free, reserve };
    wanted.into_iter().map(line).collect()
}
