//! Reads a write-ahead log the way SQLite will, to see whether it would silently drop confirmed transactions.
//!
//! SQLite replays frames until the first whose checksum does not fit and takes that for the end. After a crash
//! it is: at most the one transaction that was being written lies behind it. When two or more complete
//! transactions of the same log lie behind the bad frame, it was damaged later, and confirmed ones are lost.
//!
//! Source: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// Checksums over big-endian words; the other magic number says little-endian.
const MAGIC_BIG_ENDIAN: u32 = 0x377f_0683;
const MAGIC_LITTLE_ENDIAN: u32 = 0x377f_0682;

/// A frame that cannot be trusted, with transactions behind it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Break {
    /// Its index; the header counts as 0.
    pub(crate) frame: u64,
    /// Complete transactions that SQLite will not see, the broken one included.
    pub(crate) lost_commits: u64,
}

/// Looks for damage in the log at `path`. A log that is missing or empty is sound.
pub(crate) fn find_break(path: &Path) -> io::Result<Option<Break>> {
    match File::open(path) {
        Ok(file) => scan(&mut BufReader::with_capacity(256 * 1024, file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn scan(log: &mut impl Read) -> io::Result<Option<Break>> {
    let mut header = [0; HEADER_BYTES];
    if !fill(log, &mut header)? {
        return Ok(None);
    }
    let big_endian = match word(&header, 0) {
        MAGIC_BIG_ENDIAN => true,
        MAGIC_LITTLE_ENDIAN => false,
        _ => return Ok(Some(Break { frame: 0, lost_commits: 1 })),
    };
    let page_bytes = word(&header, 8) as usize;
    if !page_bytes.is_power_of_two() || !(512..=65_536).contains(&page_bytes) {
        return Ok(Some(Break { frame: 0, lost_commits: 1 }));
    }
    let mut sum = Checksum { a: 0, b: 0, big_endian };
    sum.add(&header[..24]);
    let mut broken = (!sum.is(&header[24..])).then_some(0);
    let salts: [u8; 8] = header[16..24].try_into().unwrap_or_default();

    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    let (mut index, mut commits_behind) = (0, 0);
    while fill(log, &mut frame)? {
        index += 1;
        let (head, page) = frame.split_at(FRAME_HEADER_BYTES);
        let same_log = head[8..16] == salts;
        if broken.is_none() {
            if !same_log {
                return Ok(None); // left over from an earlier round of the log: the regular end
            }
            sum.add(&head[..8]);
            sum.add(page);
            if sum.is(&head[16..]) {
                continue;
            }
            broken = Some(index);
        }
        commits_behind += u64::from(same_log && word(head, 4) != 0);
    }
    Ok(broken.filter(|_| commits_behind > 1).map(|frame| Break { frame, lost_commits: commits_behind }))
}

/// SQLite's running sum over pairs of words.
struct Checksum {
    a: u32,
    b: u32,
    big_endian: bool,
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        let order = if self.big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
        for pair in bytes.chunks_exact(8) {
            let (x, y) = pair.split_at(4);
            self.a = self.a.wrapping_add(order(x.try_into().unwrap_or_default())).wrapping_add(self.b);
            self.b = self.b.wrapping_add(order(y.try_into().unwrap_or_default())).wrapping_add(self.a);
        }
    }

    fn is(&self, stored: &[u8]) -> bool {
        (word(stored, 0), word(stored, 4)) == (self.a, self.b)
    }
}

/// The big-endian word at `at`; 0 when it is not there.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|w| w.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// Reads exactly `buf`; false at the end of the file, also in the middle of a frame.
fn fill(log: &mut impl Read, buf: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(buf) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}
