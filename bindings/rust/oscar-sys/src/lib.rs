//! The C ABI of [liboscar](oscar_version) as bindgen reads it: every function, struct and constant of `oscar/oscar.h`
//! under its own name, with the header's comments. The crate `oscar` is the safe layer above it.
//!
//! Enumerations are plain integers with constants: a value that this version does not know is a number, never undefined
//! behaviour. Structs begin with `struct_size`, which the caller sets to `size_of` of the struct.
//!
//! The library is found by the environment variable `OSCAR_LIB_DIR`, built from source with feature `vendored`, or found
//! by pkg-config; in this order.
#![allow(non_camel_case_types, rustdoc::all)]

mod bindings;

pub use bindings::*;
