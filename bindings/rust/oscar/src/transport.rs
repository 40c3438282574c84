//! Sequences as bytes: streams, and files that are whole or not there.

use std::any::Any;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem::size_of;
use std::os::raw::c_void;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::ptr;
use std::slice;

use crate::cache::Cache;
use crate::error::{check, Error, ErrorKind, Result};
use crate::sequence::Sequence;
use crate::sys;

/// One end of a stream while the library calls it: what went wrong there is kept, and told when the call returns.
struct End<'a, T: ?Sized> {
    stream: &'a mut T,
    failure: Option<io::Error>,
    panic: Option<Box<dyn Any + Send>>,
}

impl<'a, T: ?Sized> End<'a, T> {
    fn new(stream: &'a mut T) -> End<'a, T> {
        End { stream, failure: None, panic: None }
    }

    fn run(&mut self, call: impl FnOnce(&mut T) -> io::Result<()>) -> sys::oscar_status {
        let stream = &mut *self.stream;
        match catch_unwind(AssertUnwindSafe(|| call(stream))) {
            Ok(Ok(())) => sys::OSCAR_OK,
            Ok(Err(error)) => {
                self.failure = Some(error);
                sys::OSCAR_E_STATE
            }
            Err(panic) => {
                self.panic = Some(panic);
                sys::OSCAR_E_STATE
            }
        }
    }

    fn finish(self, status: sys::oscar_status) -> io::Result<()> {
        let checked = check(status);
        if let Some(panic) = self.panic {
            resume_unwind(panic);
        }
        match self.failure {
            Some(error) => Err(error),
            None => Ok(checked?),
        }
    }
}

unsafe extern "C" fn write<W: Write + ?Sized>(user: *mut c_void, bytes: *const c_void, size: u64) -> sys::oscar_status {
    // SAFETY: `user` is the End of the call that is running, and the bytes are the library's for as long.
    let (end, piece) =
        unsafe { (&mut *user.cast::<End<'_, &mut W>>(), slice::from_raw_parts(bytes.cast::<u8>(), size as usize)) };
    end.run(|stream| stream.write_all(piece))
}

unsafe extern "C" fn read<R: Read + ?Sized>(user: *mut c_void, bytes: *mut c_void, size: u64) -> sys::oscar_status {
    // SAFETY: as above; the library has written to the memory before.
    let (end, piece) =
        unsafe { (&mut *user.cast::<End<'_, &mut R>>(), slice::from_raw_parts_mut(bytes.cast::<u8>(), size as usize)) };
    end.run(|stream| stream.read_exact(piece))
}

impl From<Error> for io::Error {
    /// [`ErrorKind::Corrupt`] is `InvalidData`, everything else `Other`; the error itself is inside.
    fn from(error: Error) -> io::Error {
        let kind = match error.kind() {
            ErrorKind::Corrupt => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

impl Cache {
    /// Writes the first `n_tokens` of a sequence (`None`: all) to a stream, piece by piece, as [`Cache::import`] reads
    /// them. The bytes say of which geometry, profile and calibration they are; they are as secret as the text. Gives
    /// their number.
    ///
    /// # Errors
    /// Those of the stream. Or, inside of an [`io::Error`], an [`Error`]: [`NotFound`](ErrorKind::NotFound): the sequence
    /// is closed. [`State`](ErrorKind::State): the cache is collecting, or a sliding window has dropped tokens that a
    /// sequence of `n_tokens` would see. [`Invalid`](ErrorKind::Invalid): `n_tokens` is not 1 to the length.
    /// [`Unsupported`](ErrorKind::Unsupported): a cache on a device.
    pub fn export<W: Write + ?Sized>(
        &self,
        sequence: Sequence,
        n_tokens: Option<u64>,
        mut stream: &mut W,
    ) -> io::Result<u64> {
        let mut end = End::new(&mut stream);
        let user: *mut End<'_, &mut W> = &mut end;
        let mut size = 0;
        let status = self.export_raw(sequence, n_tokens, user.cast(), Some(write::<W>), &mut size)?;
        end.finish(status)?;
        Ok(size)
    }

    /// How many bytes [`Cache::export`] would write.
    ///
    /// # Errors
    /// As for [`Cache::export`].
    pub fn exported_bytes(&self, sequence: Sequence, n_tokens: Option<u64>) -> Result<u64> {
        let mut size = 0;
        check(self.export_raw(sequence, n_tokens, ptr::null_mut(), None, &mut size)?)?;
        Ok(size)
    }

    fn export_raw(
        &self,
        sequence: Sequence,
        n_tokens: Option<u64>,
        user: *mut c_void,
        write: Option<unsafe extern "C" fn(*mut c_void, *const c_void, u64) -> sys::oscar_status>,
        size: &mut u64,
    ) -> Result<sys::oscar_status> {
        if n_tokens == Some(0) {
            return Err(Error::invalid("n_tokens is 0, wanted 1 or more, or None for all".to_owned()));
        }
        let args = sys::oscar_export_args {
            struct_size: size_of::<sys::oscar_export_args>() as u32,
            reserved: 0,
            n_tokens: n_tokens.unwrap_or(0),
            user,
            write,
        };
        let id = self.id_of(sequence)?;
        // SAFETY: the cache lives, and `user` is what `write` takes.
        Ok(unsafe { sys::oscar_seq_export(self.as_ptr(), id, &args, size) })
    }

    /// Opens a sequence from what [`Cache::export`] wrote, which then goes on as that one would have. This cache may have
    /// another capacity and other limits; layers, windows and calibration must be the same. Reads the sequence's bytes,
    /// and none behind them.
    ///
    /// # Errors
    /// Those of the stream. Or, inside of an [`io::Error`], an [`Error`]: [`Corrupt`](ErrorKind::Corrupt): no sequence, of
    /// another version, or damaged. [`Invalid`](ErrorKind::Invalid): of another geometry, profile or calibration; the
    /// text says which. [`NoSpace`](ErrorKind::NoSpace). [`State`](ErrorKind::State): the cache is collecting.
    /// [`Unsupported`](ErrorKind::Unsupported): it is on a device. In each case nothing has changed.
    pub fn import<R: Read + ?Sized>(&mut self, mut stream: &mut R) -> io::Result<Sequence> {
        let mut end = End::new(&mut stream);
        let user: *mut End<'_, &mut R> = &mut end;
        let args = sys::oscar_import_args {
            struct_size: size_of::<sys::oscar_import_args>() as u32,
            reserved: 0,
            user: user.cast(),
            read: Some(read::<R>),
        };
        let mut id = 0;
        // SAFETY: the cache lives, and `user` is what `read` takes.
        let status = unsafe { sys::oscar_seq_import(self.as_ptr(), &args, &mut id) };
        end.finish(status)?;
        Ok(self.sequence(id))
    }

    /// Writes a file for [`Cache::load`], whole or not at all: whenever the process is killed, `path` is the old file or
    /// the new one. (It may leave a file of another name behind, which ends in ".part".) Gives its size.
    ///
    /// # Errors
    /// As for [`Cache::export`], and those of the file system.
    pub fn save(&self, sequence: Sequence, n_tokens: Option<u64>, path: impl AsRef<Path>) -> io::Result<u64> {
        let path = path.as_ref();
        let (mut file, part) = create_part(path)?;
        let saved = self.export(sequence, n_tokens, &mut file).and_then(|size| {
            file.sync_all()?;
            fs::rename(&part, path)?;
            Ok(size)
        });
        match saved {
            Ok(size) => File::open(folder_of(path))?.sync_all().map(|()| size),
            Err(error) => {
                // The first error is the one to tell.
                let _ = fs::remove_file(&part);
                Err(error)
            }
        }
    }

    /// Opens a sequence from a file of [`Cache::save`].
    ///
    /// # Errors
    /// As for [`Cache::import`]; `InvalidData` where the file has bytes behind the sequence; those of the file system.
    pub fn load(&mut self, path: impl AsRef<Path>) -> io::Result<Sequence> {
        let mut file = File::open(path)?;
        let sequence = self.import(&mut file)?;
        if file.read(&mut [0])? > 0 {
            self.close(sequence)?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file has bytes behind the sequence"));
        }
        Ok(sequence)
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A new file beside `path`, for its owner alone.
fn create_part(path: &Path) -> io::Result<(File, PathBuf)> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    for number in 0_u32.. {
        let mut part = name.to_owned();
        part.push(format!(".{}-{}.part", std::process::id(), number));
        let part = folder_of(path).join(part);
        match options.open(&part) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (file, part)),
        }
    }
    unreachable!("4 billion files of one process")
}
