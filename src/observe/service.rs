//! Who starts and stops a cluster: a systemd unit that is proved to be its own, Debian's tools, or `pg_ctl`.
//!
//! A unit is believed only if its main process is the postmaster: a server that cron or an ssh session started runs in
//! their control group, and stopping that unit would stop cron (pitfalls C2). Where nothing runs, the unit that the
//! configuration names is believed, or Debian's for one of its clusters.

use crate::config::Control as Wanted;
use crate::error::Result;
use crate::observe::discover::Found;
use crate::plan::facts::{Control, Service};
use crate::sys::dir::Dir;
use crate::sys::service;

/// How a server was, or would be, started without a service manager.
#[derive(Debug, Clone)]
pub struct Start {
    /// Its arguments.
    pub options: Vec<String>,
    /// The file of its messages.
    pub log: Option<std::path::PathBuf>,
    /// Its environment, `KEY=VALUE` bytes.
    pub environment: Vec<Vec<u8>>,
}

/// Decides how `found` is controlled, and what stands in the way.
pub fn control(found: &Found, start: Start) -> Result<(Control, Service)> {
    let mut about = Service { start_disabled: start_disabled(found), ..Service::default() };
    match unit(found)? {
        Ok(Some(unit)) => {
            about.stopped_along = service::stopped_along(&unit)?;
            // Debian's configuration names the rest itself.
            let options = if found.debian.is_some() { vec![] } else { start.options };
            return Ok((Control::Systemd { unit, options, environment: start.environment }, about));
        }
        Ok(None) => {}
        Err(problem) => about.problem = Some(problem),
    }
    let control = match &found.debian {
        Some((version, name)) => Control::PgCtlCluster { version: version.clone(), name: name.clone() },
        None => Control::PgCtl { options: start.options, log: start.log, environment: start.environment },
    };
    Ok((control, about))
}

/// The unit that is in charge, none, or why the one that was asked for is not.
fn unit(found: &Found) -> Result<std::result::Result<Option<String>, String>> {
    let asked = found.config.service.is_some() || found.config.control == Some(Wanted::Systemd);
    if matches!(found.config.control, Some(Wanted::PgCtl | Wanted::PgCtlcluster)) {
        return Ok(Ok(None));
    }
    if !service::runs() {
        return Ok(if asked { Err("no systemd runs here".into()) } else { Ok(None) });
    }
    let of_debian = found.debian.as_ref().map(|(version, name)| format!("postgresql@{version}-{name}.service"));
    let running = found.process.as_ref().map(|process| process.identity.pid);
    let of_process = running.and_then(service_of);
    let Some(name) =
        found.config.service.clone().or(if running.is_some() { of_process } else { None }).or(of_debian).or(found.unit.clone())
    else {
        return Ok(if asked { Err("no unit of this cluster is known: name it by `service`".into()) } else { Ok(None) });
    };
    let seen = service::unit(&name)?;
    let why = match running {
        _ if !seen.loaded => format!("{name} is not a unit that can be started again"),
        Some(pid) if seen.main_pid != Some(pid) => {
            let main = seen.main_pid.map_or("none".into(), |main| main.to_string());
            format!("{name} does not run this server: its main process is {main}, the postmaster {pid}")
        }
        _ => return Ok(Ok(Some(seen.id))),
    };
    Ok(if asked { Err(why) } else { Ok(None) })
}

/// The systemd service in whose control group a process runs.
pub fn service_of(pid: i32) -> Option<String> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let name = groups.lines().filter_map(|line| line.rsplit('/').next()).find(|name| name.ends_with(".service"))?;
    Some(name.to_string())
}

/// Debian's `start.conf` says `disabled`: `pg_ctlcluster` would refuse the start, after the exchange.
fn start_disabled(found: &Found) -> bool {
    let Some((version, name)) = &found.debian else { return false };
    let text = Dir::open(format!("/etc/postgresql/{version}/{name}")).and_then(|dir| dir.read_file_if_exists("start.conf", 64 << 10));
    let text = text.ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).any(|word| word == "disabled")
}
