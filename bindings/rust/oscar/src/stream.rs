//! Queues of a device.

use std::os::raw::c_void;
use std::ptr;

use crate::sys;

/// A CUDA stream of the caller's, borrowed. On the CPU, and for a device's default stream, [`Stream::DEFAULT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stream(sys::oscar_stream);

// SAFETY: a handle; a CUDA stream may be used from any thread.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    /// The CPU's, and the default stream of a device.
    pub const DEFAULT: Stream = Stream(ptr::null_mut());

    /// From a `cudaStream_t` (`CUstream`).
    ///
    /// # Safety
    /// `stream` is NULL or a stream of the device of every cache that it is used with, and it stays so until the cache
    /// is dropped or has begun a step on another stream: the cache's other calls go on using the stream of its latest
    /// step.
    #[must_use]
    pub unsafe fn from_raw(stream: *mut c_void) -> Stream {
        Stream(stream.cast())
    }

    /// As a `cudaStream_t`.
    #[must_use]
    pub fn as_raw(self) -> *mut c_void {
        self.0.cast()
    }

    pub(crate) fn raw(self) -> sys::oscar_stream {
        self.0
    }
}

impl Default for Stream {
    fn default() -> Stream {
        Stream::DEFAULT
    }
}
