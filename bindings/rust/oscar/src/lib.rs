//! liboscar: a language model's key/value cache at about two bits per element, and attention straight from its bits.
//!
//! A [`Cache`] is made from a [`Config`], and holds [`Sequence`]s of tokens. A forward pass is a [`Step`]: it takes the
//! new keys and values of each layer, and gives the attention of the new queries over everything that the sequence
//! holds. Nothing is evicted.
//!
//! ```
//! use oscar::{Attend, Cache, Config, Entry, Tensor, TensorMut};
//!
//! # fn main() -> oscar::Result<()> {
//! let config = Config::new("2bit")?.n_layers(1).n_q_heads(8).n_kv_heads(2).key_dim(64).capacity_bytes(16 << 20);
//! let mut cache = Cache::new(&config)?;
//! let sequence = cache.open()?;
//!
//! let n = 5; // new tokens
//! let (q, k, v) = (vec![0.1; n * 8 * 64], vec![0.2; n * 2 * 64], vec![0.3; n * 2 * 64]);
//! let mut out = vec![0.0_f32; n * 8 * 64];
//! let mut step = cache.begin(&[Entry::new(sequence, n as u32)])?;
//! step.layer(
//!     0,
//!     Tensor::new(&k, [n, 2, 64])?,
//!     Tensor::new(&v, [n, 2, 64])?,
//!     Attend::new(Tensor::new(&q, [n, 8, 64])?, TensorMut::new(&mut out, [n, 8, 64])?),
//! )?;
//! step.end()?;
//! assert_eq!(cache.length(sequence)?, 5);
//! assert!((out[0] - 0.3).abs() < 0.01);
//! # Ok(())
//! # }
//! ```
//!
//! # Rules that hold everywhere
//!
//! * A call that fails leaves the cache as it was, and its [`Error`] says what was got and what was wanted.
//! * Tensors are borrowed for the call, never copied and never converted: [`Tensor`] and [`TensorMut`].
//! * Calls on `&Cache` may run beside one another on several threads; every other call takes `&mut Cache`, and so has
//!   the cache to itself. The library starts no threads.
//! * A sequence is a number ([`Sequence`] is `Copy`): one that was closed is [`ErrorKind::NotFound`], never a crash.
//!
//! # Devices
//!
//! A cache lives on the CPU or, with [`Config::device`], on one CUDA device, and so do the tensors of its steps
//! ([`Tensor::from_raw_parts`]); calibration, [`Cache::read`], [`Cache::scores`] and [`merge`] take CPU tensors. On a
//! device a step puts its work on the [`Stream`] it was begun on and returns.
//!
//! # Features
//!
//! * `half`: tensors of `half::f16` and `half::bf16` (without it: [`Tensor::f16_bits`], [`Tensor::bf16_bits`]).
//! * `vendored`: builds liboscar from source and links it statically. Otherwise the library is found by the environment
//!   variable `OSCAR_LIB_DIR` or by pkg-config, when this crate is built.

#![warn(missing_docs, missing_debug_implementations, unsafe_op_in_unsafe_fn)]

mod attend;
mod cache;
mod calibration;
mod calibrator;
mod config;
mod error;
mod merge;
mod report;
mod sequence;
mod step;
mod stream;
mod tensor;
mod text;
mod transport;

pub use oscar_sys as sys;

pub use attend::Attend;
pub use cache::Cache;
pub use calibration::{
    Calibration, CalibrationHead, CalibrationInfo, CalibrationLayer, CalibrationPart, CalibrationSource, RotationFiles,
};
pub use calibrator::{Calibrator, CalibratorOptions, RopePairing, ValueBasis};
pub use config::{Config, Device, LayerConfig, Storage, Writer, DEFAULT};
pub use error::{Error, ErrorKind, Result};
pub use merge::merge;
pub use report::{abi_version, backends, check, version, Backend, CacheState, Report, Stats};
pub use sequence::{Entry, Sequence};
pub use step::{OpenStep, Step};
pub use stream::Stream;
pub use tensor::{Dtype, Element, Tensor, TensorMut};

/// The README's program, compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What the borrow checker refuses. A step cannot outlive its cache:
///
/// ```compile_fail,E0505
/// fn late(cache: oscar::Cache, mut entries: Vec<oscar::Entry>) -> oscar::Result<()> {
///     let mut cache = cache;
///     let step = cache.begin(&entries)?;
///     drop(cache);
///     step.end()
/// }
/// ```
///
/// nothing changes a cache beside an open step:
///
/// ```compile_fail,E0499
/// fn beside(cache: &mut oscar::Cache, entries: &[oscar::Entry]) -> oscar::Result<()> {
///     let step = cache.begin(entries)?;
///     cache.open()?;
///     step.end()
/// }
/// ```
///
/// an ended step takes no more calls:
///
/// ```compile_fail,E0382
/// fn ended(step: oscar::Step<'_>) -> oscar::Result<()> {
///     step.end()?;
///     step.abort()
/// }
/// ```
///
/// and an output cannot be read while a call may still write to it:
///
/// ```compile_fail,E0502
/// fn written(step: &mut oscar::Step<'_>, q: &[f32], out: &mut [f32]) -> oscar::Result<()> {
///     let attend = oscar::Attend::new(oscar::Tensor::new(q, [1, 8, 64])?, oscar::TensorMut::new(out, [1, 8, 64])?);
///     let first = out[0];
///     step.attend(0, attend)?;
///     assert_eq!(first, 0.0);
///     Ok(())
/// }
/// ```
#[cfg(doctest)]
struct Refused;
