use std::io::Write;

use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::super::readahead::ReadAhead;
use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8], checksum: bool) -> Vec<u8> {
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(checksum).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn lz4_with(bytes: &[u8], info: FrameInfo) -> Vec<u8> {
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn lz4(bytes: &[u8], checksum: bool) -> Vec<u8> {
    lz4_with(bytes, FrameInfo::new().block_mode(BlockMode::Linked).content_checksum(checksum))
}

fn skippable(bytes: &[u8]) -> Vec<u8> {
    [&[0x5a, 0x2a, 0x4d, 0x18], &u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat()
}

fn decode(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    ReadAhead::new(decoder(Cursor::new(bytes))?.1)?.read_to_end(&mut out)?;
    Ok(out)
}

/// On this thread, for tests that decode thousands of streams.
fn decode_here(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    decoder(Cursor::new(bytes))?.1.read_to_end(&mut out)?;
    Ok(out)
}

fn covered(bytes: Vec<u8>) -> bool {
    let mut stream = open(Cursor::new(bytes)).unwrap();
    io::copy(&mut stream.content, &mut io::sink()).unwrap();
    stream.coverage.is_whole()
}

fn sample() -> Vec<u8> {
    (0..300_000_u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 20).to_le_bytes()).collect()
}

/// Every writer, with a checksum over the content.
const WRITERS: [fn(&[u8]) -> Vec<u8>; 4] = [
    gzip,
    |b| zstd(b, true),
    |b| lz4(b, true),
    |b| lz4_with(b, FrameInfo::new().block_checksums(true).block_size(BlockSize::Max64KB).content_size(Some(b.len() as u64))),
];

#[test]
fn several_members_or_frames_are_one_stream() {
    let sample = sample();
    let (first, second) = sample.split_at(400_000);
    for write in WRITERS {
        assert_eq!(decode([write(first), write(b""), write(second)].concat()).unwrap(), sample);
    }
    let mixed = lz4_with(second, FrameInfo::new().block_size(BlockSize::Max64KB));
    let large = lz4_with(first, FrameInfo::new().block_size(BlockSize::Max4MB));
    assert_eq!(decode([large, mixed].concat()).unwrap(), sample, "frames of different block sizes");
    for plain in [sample, Vec::new(), b"ab".to_vec()] {
        assert_eq!(decode(plain.clone()).unwrap(), plain);
    }
}

#[test]
fn skippable_frames_say_nothing() {
    for write in [WRITERS[1], WRITERS[2]] {
        let bytes = [skippable(b"x"), skippable(&[9; 3000]), write(b"one"), skippable(b""), write(b"two"), skippable(b"12345")].concat();
        assert_eq!(decode(bytes.clone()).unwrap(), b"onetwo");
        for length in bytes.len() - 12..bytes.len() {
            let whole = length == bytes.len() - 13;
            assert_eq!(decode(bytes[..length].to_vec()).is_ok(), whole, "cut at {length}");
        }
        assert!(decode([write(b"one"), b"garbage".to_vec()].concat()).is_err());
    }
    assert_eq!(decode(skippable(b"x")).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert!(decode([skippable(b"x"), b"no frame".to_vec()].concat()).is_err());
}

#[test]
fn a_stream_cut_anywhere_is_an_error_with_its_place() {
    for write in WRITERS {
        let (first, second) = (write(&sample()[..900]), write(&sample()[..300]));
        let whole = [first.clone(), second].concat();
        for length in (4..whole.len()).filter(|n| *n != first.len()) {
            let error = decode_here(whole[..length].to_vec()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut at {length}: {error}");
            let begin = if length > first.len() { first.len() } else { 0 };
            let placed = error.to_string().contains(&format!("frame that begins at byte {begin} of the file"));
            assert!(placed || whole.starts_with(&[0x1f, 0x8b]), "cut at {length}: {error}");
        }
    }
}

#[test]
fn a_flipped_byte_never_changes_the_content_unnoticed() {
    let plain = &sample()[..700];
    for write in WRITERS {
        let whole = write(plain);
        for at in 0..whole.len() {
            for flip in [0x41, 0x04, 0x80] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                // A broken magic makes it another (plain) stream; flags that say nothing about the content may change unseen.
                if let Ok(out) = decode_here(bytes) {
                    assert!(at < 4 || out == plain, "byte {at} of {:?}", Compression::of_bytes(&whole));
                }
            }
        }
    }
}

#[test]
fn damage_without_a_checksum_is_bounded_and_no_panic() {
    for whole in [zstd(&sample()[..30_000], false), lz4(&sample()[..30_000], false)] {
        for at in (4..whole.len()).step_by(17) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            let mut content = match open(Cursor::new(bytes)) {
                Ok(stream) => stream.content.take(1 << 20),
                Err(_) => continue,
            };
            let _ = io::copy(&mut content, &mut io::sink());
        }
    }
}

#[test]
fn a_frame_that_wants_gigabytes_is_refused_before_they_are_given() {
    let exponent = |e: u8| [&[0x28, 0xb5, 0x2f, 0xfd, 0, e << 3][..], &[1, 0, 0]].concat();
    let content = |size: u64| [&[0x28, 0xb5, 0x2f, 0xfd, 0b1110_0000][..], &size.to_le_bytes(), &[1, 0, 0]].concat();
    for bomb in [exponent(31), exponent(18), content(1 << 40), content(u64::MAX)] {
        for bytes in [bomb.clone(), [zstd(b"first", true), bomb].concat()] {
            let error = decode(bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains("window"), "{error}");
        }
    }
    // What zstd itself takes without being asked: 128 MiB.
    assert_eq!(decode(exponent(17)).unwrap(), b"");
}

#[test]
fn what_a_checksum_covers_is_told_for_every_frame() {
    let block = |checksum| lz4_with(b"x", FrameInfo::new().block_checksums(checksum));
    for (bytes, whole) in [
        (b"plain".to_vec(), false),
        (gzip(b"x"), true),
        (zstd(b"x", true), true),
        (zstd(b"x", false), false),
        (lz4(b"x", true), true),
        (lz4(b"x", false), false),
        (block(true), true),
        (block(false), false),
        ([zstd(b"x", true), zstd(b"y", true)].concat(), true),
        ([zstd(b"x", true), zstd(b"y", false)].concat(), false),
        ([lz4(b"x", false), lz4(b"y", true)].concat(), false),
    ] {
        assert_eq!(covered(bytes.clone()), whole, "{bytes:?}");
    }
    let mixed = [zstd(&sample(), true), zstd(b"y", false)].concat();
    assert!(begins_covered(Cursor::new(mixed)).unwrap(), "the first frame only");
}

#[test]
fn formats_that_cannot_be_read_are_named() {
    for (magic, format) in MAGIC {
        if !format.is_readable() {
            let error = decoder(Cursor::new(magic.to_vec())).err().unwrap();
            assert!(error.to_string().contains(&format.to_string()));
        }
    }
    assert_eq!(Compression::of_name("base.tar.gz"), (Compression::Gzip, "base.tar"));
    assert_eq!(Compression::of_name("base.tar"), (Compression::Plain, "base.tar"));
}

#[test]
fn a_reader_that_is_dropped_early_ends_its_thread() {
    let (_, endless) = decoder(io::repeat(7)).unwrap();
    let mut ahead = ReadAhead::new(endless).unwrap();
    ahead.read_exact(&mut [0; 1000]).unwrap();
    drop(ahead);
}
