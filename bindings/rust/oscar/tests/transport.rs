//! Sequences as bytes: streams and files.

mod support;

use std::error::Error as _;
use std::io::{self, Cursor, Read, Write};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::PathBuf;

use oscar::{Cache, Calibration, ErrorKind, Sequence};
use support::*;

fn filled(cache: &mut Cache, seed: u64, n: usize) -> Sequence {
    let sequence = cache.open().unwrap();
    feed(cache, sequence, &Rows::new(seed, n), 50).unwrap();
    sequence
}

fn exported(cache: &Cache, sequence: Sequence, n_tokens: Option<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let size = cache.export(sequence, n_tokens, &mut bytes).unwrap();
    assert_eq!(size, bytes.len() as u64);
    assert_eq!(size, cache.exported_bytes(sequence, n_tokens).unwrap());
    bytes
}

fn kind_of(error: &io::Error) -> ErrorKind {
    error.get_ref().and_then(|inside| inside.downcast_ref::<oscar::Error>()).unwrap().kind()
}

#[test]
fn a_sequence_goes_on_elsewhere_bit_for_bit() {
    let mut here = Cache::new(&small_config("2bit")).unwrap();
    let mut there = Cache::new(&small_config("2bit").capacity_bytes(8 << 20)).unwrap();
    let stays = filled(&mut here, 1, 400);
    let goes = there.import(&mut Cursor::new(exported(&here, stays, None))).unwrap();
    assert_eq!(there.length(goes).unwrap(), 400);
    let more = Rows::new(2, 150);
    assert_eq!(feed(&mut here, stays, &more, 50).unwrap(), feed(&mut there, goes, &more, 50).unwrap());
    assert_eq!(exported(&here, stays, None), exported(&there, goes, None));

    let fork = here.fork(stays, 150).unwrap();
    assert_eq!(exported(&here, stays, Some(150)), exported(&here, fork, None));
    for n_tokens in [0, 551] {
        let error = here.export(stays, Some(n_tokens), &mut Vec::new()).unwrap_err();
        assert_eq!(kind_of(&error), ErrorKind::Invalid, "{error}");
    }
}

#[test]
fn what_is_no_sequence_or_does_not_fit_is_refused_with_the_reason() {
    let mut cache = Cache::new(&small_config("2bit")).unwrap();
    let sequence = filled(&mut cache, 3, 200);
    let bytes = exported(&cache, sequence, None);
    let before = cache.stats().unwrap();
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    let error = cache.import(&mut Cursor::new(damaged)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(kind_of(&error), ErrorKind::Corrupt);
    let cut = cache.import(&mut Cursor::new(&bytes[..bytes.len() - 1])).unwrap_err();
    assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(cache.stats().unwrap(), before);

    let config = small_config("2bit");
    let identity = Calibration::identity(&config).unwrap();
    let mut other = Cache::new(&config.calibration(&identity)).unwrap();
    let error = other.import(&mut Cursor::new(&bytes)).unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Invalid);
    assert!(error.to_string().contains("fingerprint"), "{error}");
    assert!(error.source().is_none());
}

/// Fails, or panics, at its n-th use.
struct Breaking {
    left: usize,
    panics: bool,
    bytes: Cursor<Vec<u8>>,
}

impl Breaking {
    fn count(&mut self) -> io::Result<()> {
        if self.left > 0 {
            self.left -= 1;
            return Ok(());
        }
        assert!(!self.panics, "in the stream");
        Err(io::Error::new(io::ErrorKind::BrokenPipe, "no more"))
    }
}

impl Write for Breaking {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.count()?;
        self.bytes.write(piece)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Breaking {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        self.count()?;
        self.bytes.read(piece)
    }
}

#[test]
fn errors_and_panics_of_a_stream_come_through_and_change_nothing() {
    let mut cache = Cache::new(&small_config("2bit")).unwrap();
    let sequence = filled(&mut cache, 4, 300);
    let bytes = exported(&cache, sequence, None);
    let before = cache.stats().unwrap();
    for left in [0, 1, 5] {
        let breaking = |panics| Breaking { left, panics, bytes: Cursor::new(bytes.clone()) };
        assert_eq!(cache.export(sequence, None, &mut breaking(false)).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(cache.import(&mut breaking(false)).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(catch_unwind(AssertUnwindSafe(|| cache.export(sequence, None, &mut breaking(true)))).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| cache.import(&mut breaking(true)))).is_err());
        assert_eq!(cache.stats().unwrap(), before);
    }
}

#[test]
fn files_are_whole() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("transport");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("a.oscar");
    let mut cache = Cache::new(&small_config("2bit")).unwrap();
    let sequence = filled(&mut cache, 5, 300);
    let size = cache.save(sequence, None, &path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!((size, &bytes), (bytes.len() as u64, &exported(&cache, sequence, None)));
    let again = cache.load(&path).unwrap();
    assert_eq!(read_all(&cache, again).unwrap(), read_all(&cache, sequence).unwrap());

    cache.close(sequence).unwrap();
    assert_eq!(kind_of(&cache.save(sequence, None, &path).unwrap_err()), ErrorKind::NotFound);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing is left behind");

    let n = cache.stats().unwrap().n_sequences;
    std::fs::write(&path, [&bytes[..], b"x"].concat()).unwrap();
    assert_eq!(cache.load(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(cache.stats().unwrap().n_sequences, n);
    std::fs::remove_dir_all(&folder).unwrap();
}
