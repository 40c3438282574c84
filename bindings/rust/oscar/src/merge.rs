//! Joining attention over disjoint sets of tokens.

use std::ptr;

use crate::error::{check, Result};
use crate::sys;
use crate::tensor::{Tensor, TensorMut, ABSENT};

/// `lse = log sum_p exp(lse_p)`, `out = sum_p exp(lse_p - lse) out_p`: attention over disjoint sets of tokens (context
/// parallelism). All tensors are F32, dense, on the CPU.
///
/// * `outs`: `[n_parts, ..., d]`, up to 4 dimensions.
/// * `lses`: `[n_parts, ...]`.
/// * `out`: `outs` without its first dimension, written.
/// * `lse`: `lses` without its first dimension, written; `[1]` where `outs` is `[n_parts, d]`.
///
/// A row whose parts are all empty (lse -infinity) gives 0 and -infinity. Parts with lse +infinity outweigh all others
/// and share equally. A NaN among the lses makes its row NaN, and no other.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid): shapes, dtypes or strides.
pub fn merge(outs: Tensor<'_>, lses: Tensor<'_>, out: TensorMut<'_>, lse: Option<TensorMut<'_>>) -> Result<()> {
    let lse = lse.map_or(ABSENT, |lse| lse.raw());
    // SAFETY: the tensors are borrowed for the call.
    check(unsafe { sys::oscar_merge(&outs.raw(), &lses.raw(), &out.raw(), &lse, ptr::null_mut()) })
}
