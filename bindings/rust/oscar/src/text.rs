//! C strings.

use std::ffi::{CStr, CString};
use std::os::raw::c_char;

/// A static or thread-local text of the library.
///
/// # Safety
/// `text` is NULL or points to a terminated string that stays valid for the call.
pub(crate) unsafe fn owned(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A text for C, which ends at the first NUL.
pub(crate) fn terminated(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

/// A text in a fixed field of a struct; ends at the first NUL, or with the field.
pub(crate) fn of_field(field: &[c_char]) -> String {
    let bytes: Vec<u8> = field.iter().take_while(|&&c| c != 0).map(|&c| c as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
