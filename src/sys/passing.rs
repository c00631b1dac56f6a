//! Lines of text over a Unix socket, each with at most two open files: how root hands a descriptor to a child that could
//! not open the file itself (`SCM_RIGHTS`, unix(7)). What is received is closed on exec.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, send, sendmsg,
};

/// Longest line; a listing of a million names is shorter.
const LONGEST: usize = 256 << 20;

/// Two ends of a private connection.
pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
    UnixStream::pair()
}

/// Sends `line`, which holds no line break, and the file with it.
pub fn send_line(socket: impl AsFd, line: &str, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    send_with(socket, line, file.as_slice())
}

/// Sends `line`, which holds no line break, and at most two files with it.
pub fn send_with(socket: impl AsFd, line: &str, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = [line.as_bytes(), b"\n"].concat();
    let mut rest = bytes.as_slice();
    if !files.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::Error::other("no room for a descriptor"));
        }
        let sent = again(|| sendmsg(&socket, &[IoSlice::new(rest)], &mut ancillary, SendFlags::NOSIGNAL))?;
        rest = rest.get(sent..).unwrap_or_default();
    }
    while !rest.is_empty() {
        let sent = again(|| send(&socket, rest, SendFlags::NOSIGNAL))?;
        rest = rest.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Receives a line and the file that came with it; `None` when the other end is closed. Only for a peer that sends one
/// line and waits for the answer: what follows the line break is lost.
pub fn receive_line(socket: impl AsFd) -> io::Result<Option<(String, Option<OwnedFd>)>> {
    Ok(receive_with(socket)?.map(|(line, files)| (line, files.into_iter().next_back())))
}

/// The same with every file that came, in order.
pub fn receive_with(socket: impl AsFd) -> io::Result<Option<(String, Vec<OwnedFd>)>> {
    let (mut line, mut files) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 64 << 10];
    while line.last() != Some(&b'\n') {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = again(|| recvmsg(&socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC))?.bytes;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                files.extend(passed);
            }
        }
        if received == 0 {
            let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "the other end closed in the middle of a line");
            return if line.is_empty() { Ok(None) } else { Err(cut()) };
        }
        line.extend_from_slice(buffer.get(..received).unwrap_or_default());
        if line.len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without end"));
        }
    }
    line.pop();
    let line = String::from_utf8(line).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    Ok(Some((line, files)))
}

fn again<T>(mut act: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match act() {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn a_line_and_a_file_arrive_together() {
        let (a, b) = pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        file.rewind().unwrap();
        let long = "x".repeat(1 << 20);
        let expected = long.clone();
        let sender = std::thread::spawn(move || {
            send_line(&a, &long, Some(file.as_fd())).unwrap();
            a
        });
        let (line, passed) = receive_line(&b).unwrap().unwrap();
        assert_eq!(line, expected);
        let mut content = String::new();
        std::fs::File::from(passed.unwrap()).read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
        let a = sender.join().unwrap();
        send_line(&a, "alone", None).unwrap();
        assert!(matches!(receive_line(&b), Ok(Some((line, None))) if line == "alone"));
        let (one, two) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        send_with(&a, "two", &[one.as_fd(), two.as_fd()]).unwrap();
        let (_, files) = receive_with(&b).unwrap().unwrap();
        let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino;
        let received: Vec<u64> = files.iter().map(|file| inode(file.as_fd())).collect();
        assert_eq!(received, [inode(one.as_fd()), inode(two.as_fd())], "in their order");
        assert!(files.iter().all(|f| rustix::io::fcntl_getfd(f).unwrap().contains(rustix::io::FdFlags::CLOEXEC)));
        (&a).write_all(b"cut").unwrap();
        drop(a);
        assert!(receive_line(&b).is_err());
        assert!(receive_line(&b).unwrap().is_none());
    }
}
