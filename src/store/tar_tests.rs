use std::io::Cursor;

use super::*;

fn header(path: &str, flag: u8, size: u64) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.set_path(path).unwrap();
    header.set_size(size);
    header.set_mode(0o600);
    header.set_entry_type(tar::EntryType::new(flag));
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn with_content(path: &str, flag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(path, flag, content.len() as u64);
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 2 * BLOCK]].concat()
}

fn read_all(bytes: &[u8]) -> io::Result<Vec<(Member, Vec<u8>)>> {
    let mut members = Members::new(Cursor::new(bytes));
    let mut all = Vec::new();
    while let Some(member) = members.next_member()? {
        let mut content = Vec::new();
        members.read_to_end(&mut content)?;
        all.push((member, content));
    }
    Ok(all)
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let record = |(key, value): &(&str, &str)| {
        let body = format!(" {key}={value}\n");
        let length = (1..9).map(|digits| body.len() + digits).find(|n| n.to_string().len() + body.len() == *n).unwrap();
        format!("{length}{body}")
    };
    with_content("PaxHeaders/x", b'x', records.iter().map(record).collect::<String>().as_bytes())
}

#[test]
fn long_names_and_pax_records_apply_to_the_next_member_only() {
    let long = "d/".repeat(200) + "file";
    let bytes = archive(&[
        with_content("././@LongLink", b'L', format!("{long}\0").as_bytes()),
        with_content("short", b'0', b"one"),
        pax(&[("path", "new\nname"), ("mtime", "1.5"), ("size", "3")]),
        with_content("old", b'0', b"two"),
        with_content("plain", b'0', b"three"),
        header("directory/", b'0', 0),
    ]);
    let names: Vec<_> = read_all(&bytes).unwrap().into_iter().map(|(m, c)| (String::from_utf8(m.path).unwrap(), c)).collect();
    let expected = [(long, &b"one"[..]), ("new\nname".into(), b"two"), ("plain".into(), b"three"), ("directory/".into(), b"")];
    assert_eq!(names, expected.map(|(n, c)| (n, c.to_vec())));
}

#[test]
fn an_archive_cut_anywhere_is_truncated() {
    let bytes = archive(&[with_content("a", b'0', b"content"), header("d", b'5', 0), with_content("b", b'0', &[1; 600])]);
    assert_eq!(read_all(&bytes).unwrap().len(), 3);
    for length in 0..bytes.len() {
        let error = read_all(&bytes[..length]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut at {length}: {error}");
    }
}

#[test]
fn a_flipped_header_byte_is_seen() {
    let bytes = archive(&[with_content("a", b'0', b"content")]);
    for at in 0..BLOCK {
        for bit in [1, 0x40, 0x80] {
            let mut bytes = bytes.clone();
            bytes[at] ^= bit;
            // Only bytes that mean nothing in the checksum field itself (its terminator) may change unseen.
            assert!(read_all(&bytes).is_err() || (148..156).contains(&at), "byte {at}");
        }
    }
}

#[test]
fn ambiguous_archives_are_refused() {
    let plain = || with_content("a", b'0', b"x");
    for (why, bytes) in [
        ("sparse", archive(&[header("a", b'S', 0)])),
        ("pax sparse", archive(&[pax(&[("GNU.sparse.major", "1")]), plain()])),
        ("data after the end", [archive(&[plain()]), archive(&[plain()])].concat()),
        ("link with content", archive(&[with_content("a", b'2', b"x")])),
        (
            "global name",
            archive(&[
                {
                    let mut global = pax(&[("path", "x")]);
                    global.splice(..BLOCK, header("g", b'g', 10));
                    global
                },
                plain(),
            ]),
        ),
        ("pax record too long", archive(&[with_content("p", b'x', b"99 path=x\n"), plain()])),
        ("pax without equals", archive(&[with_content("p", b'x', b"7 path\n"), plain()])),
        ("name announced, none follows", archive(&[with_content("p", b'L', b"name\0")])),
        ("endless name", archive(&[header("p", b'L', 1 << 40)])),
        ("endless size", archive(&[pax(&[("size", "18446744073709551615")]), plain()])),
        ("not tar", vec![b'x'; 4096]),
    ] {
        assert!(read_all(&bytes).is_err(), "{why}");
    }
}
