//! Looks through RocksDB's log files (manifest, write-ahead logs) before RocksDB does: in three cases its reader is too trusting.
//!
//! - A record that claims to be of a recycled log stays in its buffer for ever (`log::Reader::ReadPhysicalRecord` of RocksDB 11.8).
//! - A record that claims to be longer than the file counts as a torn tail, and what follows is dropped. In the manifest that may be the
//!   table that the logs go on from; the logs are then replayed over older tables.
//! - A write-ahead log with a torn tail, or with a gap of zeros, is followed by the next one, over what is missing between them.
//!
//! The last two lose records in the middle, and the state would claim to be whole. What a crash leaves is let pass: a torn tail of the
//! newest log that holds anything. Checksums are RocksDB's own affair.
//!
//! # Source
//! RocksDB's `db/log_format.h`: blocks of 32 KiB; a record is crc (4 bytes), length (2), type (1) and its bytes.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;

/// What RocksDB would not notice, or not survive, in the log files of a folder.
pub(super) fn damage(folder: &Path) -> io::Result<Option<String>> {
    // What cannot be read as a name RocksDB reports.
    let current = fs::read(folder.join("CURRENT")).unwrap_or_default();
    let manifest = String::from_utf8_lossy(&current).trim_end().to_owned();
    let mut logs = Vec::new();
    for entry in folder.read_dir()? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let number = name.strip_suffix(".log").and_then(|number| number.parse::<u64>().ok());
        if name == manifest && name.starts_with("MANIFEST-") {
            match walked(&folder.join(&name))? {
                Ok(end) if end.is_torn => return Ok(Some(format!("{name} ends in the middle of a record"))),
                Ok(_) => {}
                Err(why) => return Ok(Some(format!("{name} {why}"))),
            }
        } else if let Some(number) = number {
            logs.push((number, name));
        }
    }
    logs.sort();
    let mut torn: Option<String> = None;
    for (_, name) in logs {
        let end = match walked(&folder.join(&name))? {
            Ok(end) => end,
            Err(why) => return Ok(Some(format!("{name} {why}"))),
        };
        if let Some(torn) = torn.filter(|_| end.has_records) {
            return Ok(Some(format!("{torn} ends in the middle of a record, and {name} goes on")));
        }
        torn = end.is_torn.then_some(name);
    }
    Ok(None)
}

/// How a log file ends.
#[derive(Debug, Default, PartialEq, Eq)]
struct End {
    /// Whether it holds a record.
    has_records: bool,
    /// Whether the last one is not whole, or something stands where one should.
    is_torn: bool,
}

/// `Err`: what is wrong with it.
fn walked(path: &Path) -> io::Result<Result<End, String>> {
    walk(&mut File::open(path)?)
}

fn walk(file: &mut impl Read) -> io::Result<Result<End, String>> {
    let mut block = Vec::with_capacity(BLOCK);
    let (mut has_records, mut is_in_record, mut gap_at, mut block_at) = (false, false, None, 0);
    let goes_on = |gap_at: usize| Ok(Err(format!("goes on behind a gap at byte {gap_at}")));
    loop {
        block.clear();
        file.take(BLOCK as u64).read_to_end(&mut block)?;
        if let Some(gap_at) = gap_at.filter(|_| is_written(&block)) {
            return goes_on(gap_at);
        }
        let mut at = 0;
        while gap_at.is_none() {
            match next(&block[at..]) {
                Next::Record { kind: 5..=8 | 11 | 131, .. } => {
                    return Ok(Err(format!("holds a record of a recycled log at byte {}", block_at + at)));
                }
                Next::Record { kind, bytes } => {
                    has_records = true;
                    // First and middle parts of a record; all others end one or stand alone.
                    is_in_record = matches!(kind, 2 | 3);
                    at += bytes;
                }
                Next::Zeros if is_written(&block[at..]) => return goes_on(block_at + at),
                Next::Zeros | Next::Cut => gap_at = Some(block_at + at),
                Next::End => break,
            }
        }
        if block.len() < BLOCK {
            return Ok(Ok(End { has_records, is_torn: is_in_record || gap_at.is_some() }));
        }
        block_at += BLOCK;
    }
}

fn is_written(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| *byte != 0)
}

/// What comes next in a block.
enum Next {
    /// A part of a record, with its header.
    Record { kind: u8, bytes: usize },
    /// Nothing: a record's header would not fit either.
    End,
    /// Space that was never written.
    Zeros,
    /// Less than a record.
    Cut,
}

fn next(rest: &[u8]) -> Next {
    match rest {
        [_, _, _, _, 0, 0, 0, ..] => Next::Zeros,
        [_, _, _, _, low, high, kind, ..] => {
            let bytes = HEADER + usize::from(u16::from_le_bytes([*low, *high]));
            if bytes <= rest.len() { Next::Record { kind: *kind, bytes } } else { Next::Cut }
        }
        trailer if is_written(trailer) => Next::Cut,
        _ => Next::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![1, 2, 3, 4];
        bytes.extend_from_slice(&(length as u16).to_le_bytes());
        bytes.push(kind);
        bytes.resize(HEADER + length, 9);
        bytes
    }

    fn ended(parts: &[Vec<u8>]) -> Result<End, String> {
        walk(&mut &parts.concat()[..]).expect("readable")
    }

    const WHOLE: End = End { has_records: true, is_torn: false };
    const TORN: End = End { has_records: true, is_torn: true };

    #[test]
    fn whole_logs_are_whole() {
        assert_eq!(ended(&[]), Ok(End::default()));
        assert_eq!(ended(&[record(2, BLOCK - HEADER), record(4, 20), record(1, 5)]), Ok(WHOLE));
        // A header does not fit into the last bytes of a block.
        assert_eq!(ended(&[record(1, BLOCK - HEADER - 3), vec![0; 3], record(1, 5)]), Ok(WHOLE));
    }

    #[test]
    fn tails_that_a_crash_leaves_are_torn() {
        let tails = [record(1, 500)[..300].to_vec(), record(1, 500)[..5].to_vec(), record(2, 20), vec![0; 100], vec![0; 3 * BLOCK]];
        for tail in tails {
            assert_eq!(ended(&[record(1, 5), tail]), Ok(TORN));
        }
    }

    #[test]
    fn a_recycled_record_is_found_in_any_block() {
        let found = ended(&[record(2, BLOCK - HEADER), record(4, 20), record(5, 5)]);

        assert_eq!(found, Err(format!("holds a record of a recycled log at byte {}", BLOCK + HEADER + 20)));
    }

    #[test]
    fn what_goes_on_behind_a_gap_is_no_tail() {
        let in_the_block = ended(&[record(1, 5), vec![0; 100], record(1, 5)]);
        let in_the_next = ended(&[record(1, 5), vec![0; BLOCK - HEADER - 5], record(1, 5)]);

        assert_eq!(in_the_block, Err("goes on behind a gap at byte 12".into()));
        assert_eq!(in_the_next, in_the_block);
    }

    fn folder(files: &[(&str, Vec<u8>)]) -> Option<String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).expect("written");
        }
        damage(folder.path()).expect("readable")
    }

    #[test]
    fn only_the_newest_log_that_holds_anything_may_be_torn() {
        let torn = || record(1, 500)[..300].to_vec();
        assert_eq!(folder(&[("000007.log", record(1, 5)), ("000012.log", torn()), ("000013.log", Vec::new())]), None);

        let found = folder(&[("000007.log", torn()), ("000012.log", record(1, 5))]);

        assert_eq!(found.as_deref(), Some("000007.log ends in the middle of a record, and 000012.log goes on"));
    }

    #[test]
    fn the_manifest_in_use_must_be_whole() {
        let (current, torn) = (("CURRENT", b"MANIFEST-000010\n".to_vec()), record(1, 500)[..300].to_vec());
        assert_eq!(folder(&[current.clone(), ("MANIFEST-000010", record(1, 5)), ("MANIFEST-000005", torn.clone())]), None);

        let found = folder(&[current, ("MANIFEST-000010", torn)]);

        assert_eq!(found.as_deref(), Some("MANIFEST-000010 ends in the middle of a record"));
    }
}
