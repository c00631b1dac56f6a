//! A program on a terminal of its own: what it shows, and what is typed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{Winsize, tcsetwinsize};

use super::program::{code_of, program};
use super::wait_until;

/// Ctrl-C, as the keyboard sends it.
pub const CTRL_C: &str = "\u{3}";

/// A program in the foreground of a pseudo-terminal (pty(7)) of 100 columns. Dropped, the terminal hangs up.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
    over: Arc<AtomicBool>,
}

impl Terminal {
    /// Starts `command`, with its environment, in a session that the terminal controls.
    pub fn start(command: &Command) -> Terminal {
        // Closed on exec, or the program itself would have the other side open, and no hang-up would ever come.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("a pseudo-terminal");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname_r(&master).expect("ptsname");
        let slave = OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(name).expect("the terminal");
        tcsetwinsize(&slave, Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).expect("set its size");
        let keyboard = File::from(master.as_fd().try_clone_to_owned().expect("a copy of the terminal"));
        drop(master);
        let mut session = program("setsid");
        session.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        session.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let copy = || Stdio::from(slave.try_clone().expect("a copy of the terminal"));
        let child = session.stdin(copy()).stdout(copy()).stderr(copy()).spawn().expect("start setsid");
        let screen = Arc::new(Mutex::new(String::new()));
        let over = Arc::new(AtomicBool::new(false));
        let (shown, ends, output) = (Arc::clone(&screen), Arc::clone(&over), keyboard.try_clone().expect("a copy of the terminal"));
        let reader = std::thread::spawn(move || read(output, &shown, &ends));
        Terminal { child, keyboard, screen, reader, over }
    }

    /// The process id of the program.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Types these keys.
    pub fn keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("type");
    }

    /// Everything that was shown so far.
    pub fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    /// Waits until `text` is shown, `times` times in all.
    #[track_caller]
    pub fn shows(&self, text: &str, times: usize) {
        wait_until(60, &format!("'{text}' on the screen"), || self.screen().matches(text).count() >= times);
    }

    /// The connection is lost: the kernel hangs up when nobody has the other side open any more. Waits for the end of the
    /// program in front.
    pub fn hang_up(self) {
        let Terminal { mut child, keyboard, screen: _, reader, over } = self;
        over.store(true, Ordering::SeqCst);
        reader.join().expect("the reader");
        drop(keyboard);
        child.wait().expect("wait");
    }

    /// Whether the program has ended.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_some()
    }

    /// Waits for its end; its exit code.
    #[track_caller]
    pub fn code(&mut self) -> i32 {
        wait_until(120, "the end of the program", || self.ended());
        code_of(self.child.wait().expect("wait"))
    }
}

/// Keeps what is shown, until it is over or nobody has the terminal open.
fn read(mut output: File, shown: &Mutex<String>, over: &AtomicBool) {
    let pause = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    let mut buffer = [0; 4096];
    while !over.load(Ordering::SeqCst) {
        if !poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&pause)).is_ok_and(|ready| ready > 0) {
            continue;
        }
        let Ok(read @ 1..) = output.read(&mut buffer) else { return };
        shown.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}
