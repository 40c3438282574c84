//! A forward pass through the layers, as a transaction.

use std::mem::{size_of, ManuallyDrop};

use crate::attend::Attend;
use crate::cache::Cache;
use crate::error::{check, Result};
use crate::stream::Stream;
use crate::sys;
use crate::tensor::Tensor;

/// A step that is open, made by [`Cache::begin`]. Dropping it aborts it; [`Step::end`] commits it.
///
/// Rows of its tensors are the new tokens of its entries, one entry after the other; [`Step::n_rows`] = n in all. On a
/// device its calls put their work on the step's stream and return.
#[derive(Debug)]
#[must_use = "a step that is dropped is aborted"]
pub struct Step<'cache> {
    cache: &'cache mut Cache,
    open: OpenStep,
}

/// A step that [`Step::suspend`] left open in its cache; [`Cache::resume`] goes on with it. Forgotten, it stays open,
/// and holds its sequences, until its cache is dropped.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a suspended step stays open until it is resumed, and then ended or aborted"]
pub struct OpenStep {
    pub(crate) id: u64,
    pub(crate) owner: u64,
    pub(crate) n_rows: usize,
    pub(crate) stream: Stream,
}

impl<'cache> Step<'cache> {
    pub(crate) fn new(cache: &'cache mut Cache, open: OpenStep) -> Step<'cache> {
        Step { cache, open }
    }

    /// Its number in the C ABI.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.open.id
    }

    /// Rows of its tensors: the new tokens of all entries.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.open.n_rows
    }

    /// The cache, for calls that only look.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        self.cache
    }

    /// Stores the step's keys and values of one layer, rounded to BF16. Neither allocates nor blocks. Again for the
    /// same layer, before its attention, it overwrites. A layer with `kv_source` takes none.
    ///
    /// * `k`: `[n, n_kv_heads, key_dim]` F32, F16 or BF16, with positions (RoPE) already applied.
    /// * `v`: `[n, n_kv_heads, value_dim]`, likewise.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): shape, dtype, strides, device or layer.
    /// [`State`](crate::ErrorKind::State): the layer has been attended to.
    #[inline]
    pub fn append(&mut self, layer: u32, k: Tensor<'_>, v: Tensor<'_>) -> Result<()> {
        let args = sys::oscar_append_args {
            struct_size: size_of::<sys::oscar_append_args>() as u32,
            layer,
            k: k.raw(),
            v: v.raw(),
        };
        // SAFETY: the cache is borrowed mutably, and the tensors for the call.
        check(unsafe { sys::oscar_append(self.cache.as_ptr(), self.open.id, &args, self.open.stream.raw()) })
    }

    /// Attention of one layer. Neither allocates nor blocks.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): shape, dtype, strides, device or layer.
    /// [`State`](crate::ErrorKind::State): the layer has no keys in this step.
    #[inline]
    pub fn attend(&mut self, layer: u32, attend: Attend<'_>) -> Result<()> {
        let args = sys::oscar_attend_args { layer, ..attend.raw };
        // SAFETY: as above.
        check(unsafe { sys::oscar_attend(self.cache.as_ptr(), self.open.id, &args, self.open.stream.raw()) })
    }

    /// [`Step::append`] and [`Step::attend`] in one call. All arguments are checked before anything is written.
    ///
    /// # Errors
    /// As for both.
    #[inline]
    pub fn layer(&mut self, layer: u32, k: Tensor<'_>, v: Tensor<'_>, attend: Attend<'_>) -> Result<()> {
        let args = sys::oscar_layer_args {
            struct_size: size_of::<sys::oscar_layer_args>() as u32,
            layer,
            k: k.raw(),
            v: v.raw(),
            q: attend.raw.q,
            out: attend.raw.out,
            lse: attend.raw.lse,
            sink_logits: attend.raw.sink_logits,
            mask: attend.raw.mask,
            scale: attend.raw.scale,
            softcap: attend.raw.softcap,
        };
        // SAFETY: as above.
        check(unsafe { sys::oscar_layer(self.cache.as_ptr(), self.open.id, &args, self.open.stream.raw()) })
    }

    /// Commits: the new tokens now belong to their sequences. Where that fails, the step is aborted; [`Step::try_end`]
    /// leaves it open.
    ///
    /// # Errors
    /// [`State`](crate::ErrorKind::State): a layer has not been given its keys and values.
    pub fn end(mut self) -> Result<()> {
        self.try_end()?;
        let _over = ManuallyDrop::new(self);
        Ok(())
    }

    /// Commits; where that fails, the step stays open. After a success every call of it is
    /// [`NotFound`](crate::ErrorKind::NotFound), and dropping it does nothing.
    ///
    /// # Errors
    /// As for [`Step::end`].
    pub fn try_end(&mut self) -> Result<()> {
        // SAFETY: the cache is borrowed mutably.
        check(unsafe { sys::oscar_step_end(self.cache.as_ptr(), self.open.id) })
    }

    /// Drops the step: every sequence is as it was before it, except that aged tokens have been packed and, where the
    /// step had more than `max_rollback` sure tokens, the votes of accepted queries are counted for good.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound): it was ended by [`Step::try_end`].
    /// [`Device`](crate::ErrorKind::Device).
    pub fn abort(self) -> Result<()> {
        let step = ManuallyDrop::new(self);
        // SAFETY: the cache is borrowed mutably.
        check(unsafe { sys::oscar_step_abort(step.cache.as_ptr(), step.open.id) })
    }

    /// Leaves the step open and gives the cache back: to open another one beside it, or to look at the cache.
    pub fn suspend(self) -> OpenStep {
        let step = ManuallyDrop::new(self);
        step.open.copy()
    }
}

impl OpenStep {
    fn copy(&self) -> OpenStep {
        OpenStep { id: self.id, owner: self.owner, n_rows: self.n_rows, stream: self.stream }
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        // SAFETY: the cache is borrowed mutably. A step that is over is not found, which is fine.
        let _ = unsafe { sys::oscar_step_abort(self.cache.as_ptr(), self.open.id) };
    }
}
