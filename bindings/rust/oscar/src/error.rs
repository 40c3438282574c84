//! Statuses of the C ABI as errors.

use std::fmt;

use crate::{sys, text};

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure: one for every status of the C ABI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument is wrong; the text names it, what was got and what was wanted.
    Invalid,
    /// The machine, or the allocator, has no memory for what was asked.
    NoMemory,
    /// The cache's capacity is used up: close sequences or create a larger cache.
    NoSpace,
    /// A sequence or step that does not exist, or no longer.
    NotFound,
    /// The call is not allowed now, e.g. closing a sequence that an open step uses.
    State,
    /// Understood, and not served; the text says why.
    Unsupported,
    /// Bytes that are not what they claim to be.
    Corrupt,
    /// The backend asked for is unknown or cannot run here.
    Backend,
    /// A bug in liboscar: please report it.
    Internal,
    /// The device reported an error; its cache can then only be dropped.
    Device,
    /// A status of a newer library: see [`Error::status`].
    Unknown,
}

impl ErrorKind {
    /// The kind of a status of the C ABI; [`ErrorKind::Unknown`] for a number that this version does not know.
    #[must_use]
    pub fn from_status(status: i32) -> ErrorKind {
        match status {
            sys::OSCAR_E_INVALID => ErrorKind::Invalid,
            sys::OSCAR_E_NO_MEMORY => ErrorKind::NoMemory,
            sys::OSCAR_E_NO_SPACE => ErrorKind::NoSpace,
            sys::OSCAR_E_NOT_FOUND => ErrorKind::NotFound,
            sys::OSCAR_E_STATE => ErrorKind::State,
            sys::OSCAR_E_UNSUPPORTED => ErrorKind::Unsupported,
            sys::OSCAR_E_CORRUPT => ErrorKind::Corrupt,
            sys::OSCAR_E_BACKEND => ErrorKind::Backend,
            sys::OSCAR_E_INTERNAL => ErrorKind::Internal,
            sys::OSCAR_E_DEVICE => ErrorKind::Device,
            _ => ErrorKind::Unknown,
        }
    }
}

/// A failed call: its kind, and the text in which the library says what was got and what was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    status: i32,
    text: String,
}

impl Error {
    /// What kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::from_status(self.status)
    }

    /// The status of the C ABI, a negative number.
    #[must_use]
    pub fn status(&self) -> i32 {
        self.status
    }

    /// The status's name in the C ABI, e.g. `OSCAR_E_NO_SPACE`; `OSCAR_E_UNKNOWN` for one that the library does not
    /// know.
    #[must_use]
    pub fn status_name(&self) -> String {
        // SAFETY: any number will do; the text is static.
        unsafe { text::owned(sys::oscar_status_name(self.status)) }
    }

    /// What was got and what was wanted.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn invalid(text: String) -> Error {
        Error { status: sys::OSCAR_E_INVALID, text }
    }

    pub(crate) fn internal(text: String) -> Error {
        Error { status: sys::OSCAR_E_INTERNAL, text }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() {
            f.write_str(&self.status_name())
        } else {
            f.write_str(&self.text)
        }
    }
}

impl std::error::Error for Error {}

/// Turns a status into a result. Called right after the failed call, on its thread: its text is still there.
#[inline]
pub(crate) fn check(status: sys::oscar_status) -> Result<()> {
    if status == sys::OSCAR_OK {
        Ok(())
    } else {
        Err(last(status))
    }
}

#[cold]
fn last(status: sys::oscar_status) -> Error {
    // SAFETY: never NULL, and valid until this thread's next failing call.
    Error { status, text: unsafe { text::owned(sys::oscar_last_error()) } }
}
