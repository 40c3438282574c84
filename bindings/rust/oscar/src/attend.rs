//! What a layer's attention reads and writes.

use std::marker::PhantomData;
use std::mem::size_of;

use crate::sys;
use crate::tensor::{Tensor, TensorMut, ABSENT};

/// Attention of one layer, `out = softmax(softcap(scale q k^T) + causal/window/tree mask) v`: over the sequence and the
/// step's own tokens. For [`Step::attend`](crate::Step::attend) and [`Step::layer`](crate::Step::layer).
///
/// Rows are those of the step: the new tokens of its entries, one entry after the other; n in all.
#[derive(Debug)]
#[must_use]
pub struct Attend<'a> {
    pub(crate) raw: sys::oscar_attend_args,
    tensors: PhantomData<&'a mut [u8]>,
}

// SAFETY: tensors and numbers; Tensor and TensorMut are Send and Sync.
unsafe impl Send for Attend<'_> {}
// SAFETY: as above.
unsafe impl Sync for Attend<'_> {}

impl<'a> Attend<'a> {
    /// * `q`: `[n, n_q_heads, key_dim]` F32, F16 or BF16, positions already applied.
    /// * `out`: `[n, n_q_heads, value_dim]` F32, F16 or BF16, written.
    #[inline]
    pub fn new(q: Tensor<'a>, out: TensorMut<'a>) -> Attend<'a> {
        let raw = sys::oscar_attend_args {
            struct_size: size_of::<sys::oscar_attend_args>() as u32,
            layer: 0,
            q: q.raw(),
            out: out.raw(),
            lse: ABSENT,
            sink_logits: ABSENT,
            mask: ABSENT,
            scale: 0.0,
            softcap: 0.0,
        };
        Attend { raw, tensors: PhantomData }
    }

    /// Also writes the natural log of the softmax denominator, sink included: `[n, n_q_heads]` F32.
    pub fn lse(mut self, lse: TensorMut<'a>) -> Attend<'a> {
        self.raw.lse = lse.raw();
        self
    }

    /// A learned logit for each head whose value is zero: `[n_q_heads]` F32.
    pub fn sink_logits(mut self, sink_logits: Tensor<'a>) -> Attend<'a> {
        self.raw.sink_logits = sink_logits.raw();
        self
    }

    /// A tree of drafts, `[n, max n_new]` U8: row i of an entry attends to the entry's new token j < i where
    /// `mask[row][j]` is not 0, and always to itself. Without one: the chain (causal).
    pub fn mask(mut self, mask: Tensor<'a>) -> Attend<'a> {
        self.raw.mask = mask.raw();
        self
    }

    /// Factor of the logits; 0 (the default): `1 / sqrt(key_dim)`.
    pub fn scale(mut self, scale: f32) -> Attend<'a> {
        self.raw.scale = scale;
        self
    }

    /// c > 0: logits become `c tanh(logit / c)`; 0 (the default): off.
    pub fn softcap(mut self, softcap: f32) -> Attend<'a> {
        self.raw.softcap = softcap;
        self
    }
}
