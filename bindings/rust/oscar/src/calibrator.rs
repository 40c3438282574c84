//! Makes a calibration from what a model computes for a text.

use std::ffi::CString;
use std::fmt;
use std::marker::PhantomData;
use std::mem::size_of;
use std::ptr::{self, NonNull};

use crate::calibration::Calibration;
use crate::config::Config;
use crate::error::{check, Error, Result};
use crate::tensor::{Tensor, ABSENT};
use crate::{sys, text};

/// Which elements RoPE turns together, of the first `2 n_pairs` elements of a head; the others do not turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RopePairing(pub u32);

impl RopePairing {
    /// `x[i]` with `x[i + n_pairs]`: Hugging Face's rotate_half, NeoX.
    pub const HALF: RopePairing = RopePairing(sys::OSCAR_ROPE_HALF);
    /// `x[2 i]` with `x[2 i + 1]`: GPT-J; llama.cpp's order of Llama's heads.
    pub const INTERLEAVED: RopePairing = RopePairing(sys::OSCAR_ROPE_INTERLEAVED);
}

/// In which basis values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ValueBasis(pub u32);

impl ValueBasis {
    /// A transform for the values of every KV head.
    pub const BALANCED: ValueBasis = ValueBasis(sys::OSCAR_VALUE_BASIS_BALANCED);
    /// As without calibration: fewer bytes, a faster map, somewhat larger errors.
    pub const HADAMARD: ValueBasis = ValueBasis(sys::OSCAR_VALUE_BASIS_HADAMARD);
}

/// What a [`Calibrator`] is to know about the model, and to do.
#[derive(Debug, Clone)]
#[must_use]
pub struct CalibratorOptions<'a> {
    raw: sys::oscar_calibrator_args,
    model: Option<CString>,
    note: Option<CString>,
    tensors: PhantomData<&'a [f32]>,
}

// SAFETY: tensors and numbers; Tensor is Send and Sync.
unsafe impl Send for CalibratorOptions<'_> {}
// SAFETY: as above.
unsafe impl Sync for CalibratorOptions<'_> {}

impl<'a> CalibratorOptions<'a> {
    /// Unknown RoPE frequencies, all positions of the configuration, values in the balanced basis.
    pub fn new() -> CalibratorOptions<'a> {
        let raw = sys::oscar_calibrator_args {
            struct_size: size_of::<sys::oscar_calibrator_args>() as u32,
            rope_pairing: RopePairing::HALF.0,
            value_basis: ValueBasis::BALANCED.0,
            reserved: 0,
            n_positions: 0,
            rope_frequencies: ABSENT,
            model: ptr::null(),
            note: ptr::null(),
        };
        CalibratorOptions { raw, model: None, note: None, tensors: PhantomData }
    }

    /// `[n_pairs]` or `[n_layers, n_pairs]` F32 on the CPU: radians by which pair i turns from one position to the
    /// next, e.g. `theta^(-2 i / key_dim)`; scaled ones for YaRN or Llama 3; zeros for a layer without positions.
    /// Without them moments are taken as they are, and [`Calibrator::finish`] demands tokens of all positions to be
    /// served.
    pub fn rope_frequencies(mut self, frequencies: Tensor<'a>) -> CalibratorOptions<'a> {
        self.raw.rope_frequencies = frequencies.raw();
        self
    }

    /// Which elements RoPE turns together.
    pub fn rope_pairing(mut self, pairing: RopePairing) -> CalibratorOptions<'a> {
        self.raw.rope_pairing = pairing.0;
        self
    }

    /// Positions 0 to `n_positions - 1` will be served; 0: `max_tokens` of the configuration.
    pub fn n_positions(mut self, n_positions: u64) -> CalibratorOptions<'a> {
        self.raw.n_positions = n_positions;
        self
    }

    /// In which basis values are stored.
    pub fn value_basis(mut self, basis: ValueBasis) -> CalibratorOptions<'a> {
        self.raw.value_basis = basis.0;
        self
    }

    /// Whose tensors these are, for the file: at most 63 bytes; it ends at a NUL.
    pub fn model(mut self, model: &str) -> CalibratorOptions<'a> {
        self.model = Some(text::terminated(model));
        self
    }

    /// Anything else worth remembering, at most 127 bytes; it ends at a NUL.
    pub fn note(mut self, note: &str) -> CalibratorOptions<'a> {
        self.note = Some(text::terminated(note));
        self
    }

    /// Calls `f` with the options as the C ABI wants them.
    pub(crate) fn with_raw<R>(&self, f: impl FnOnce(&sys::oscar_calibrator_args) -> R) -> R {
        let text = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
        f(&sys::oscar_calibrator_args { model: text(&self.model), note: text(&self.note), ..self.raw })
    }
}

impl Default for CalibratorOptions<'_> {
    fn default() -> Self {
        CalibratorOptions::new()
    }
}

/// Gathers second moments of a model's queries, keys and values, and solves for the transforms that suit them.
///
/// Feed every layer, in any order and in any number of calls; then [`Calibrator::finish`]. Its memory does not depend
/// on how many tokens it has seen. A few thousand tokens of ordinary text are plenty, 256 are enough.
pub struct Calibrator {
    raw: NonNull<sys::oscar_calibrator>,
}

// SAFETY: a calibrator belongs to no thread. It is not Sync: the C ABI does not say that finish calls may run beside
// one another.
unsafe impl Send for Calibrator {}

impl Calibrator {
    /// Begins a calibration. Of the configuration geometry, `storage`, `kv_source`, `max_tokens` and `n_sink` count.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): the configuration is malformed, or the frequencies do not fit it.
    pub fn new(config: &Config, options: &CalibratorOptions<'_>) -> Result<Calibrator> {
        let mut raw = ptr::null_mut();
        // SAFETY: both structs say how large they are, and are borrowed for the call.
        check(options.with_raw(|options| {
            config.with_raw(|config| unsafe { sys::oscar_calibrator_create(config, options, &mut raw) })
        }))?;
        let raw = NonNull::new(raw)
            .ok_or_else(|| Error::internal("the library returned no calibrator and no error".to_owned()))?;
        Ok(Calibrator { raw })
    }

    /// Counts tokens of one sequence at consecutive positions, as one layer of the model has them. CPU tensors, F32,
    /// F16 or BF16, any strides with the last dimension dense.
    ///
    /// * `first_position`: of row 0; where it is not the end of the layer's last call, another sequence begins.
    /// * `q`: `[n, n_q_heads, key_dim]`, with positions (RoPE) already applied.
    /// * `k`: `[n, n_kv_heads, key_dim]`, likewise; None for a layer with `kv_source`.
    /// * `v`: `[n, n_kv_heads, value_dim]`; None for a layer with `kv_source`.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): shapes, or an element that is not finite; nothing was counted.
    pub fn feed(
        &mut self,
        layer: u32,
        first_position: u64,
        q: Tensor<'_>,
        k: Option<Tensor<'_>>,
        v: Option<Tensor<'_>>,
    ) -> Result<()> {
        let args = sys::oscar_calibrator_feed_args {
            struct_size: size_of::<sys::oscar_calibrator_feed_args>() as u32,
            layer,
            first_position,
            q: q.raw(),
            k: k.map_or(ABSENT, |tensor| tensor.raw()),
            v: v.map_or(ABSENT, |tensor| tensor.raw()),
        };
        // SAFETY: the calibrator is borrowed mutably, and the tensors for the call.
        check(unsafe { sys::oscar_calibrator_feed(self.raw.as_ptr(), &args) })
    }

    /// The calibration of what was fed so far; more may be fed afterwards.
    ///
    /// # Errors
    /// [`State`](crate::ErrorKind::State): a layer was fed nothing or too little (less than 128 or `key_dim` keys;
    /// without frequencies, less than all positions). [`Invalid`](crate::ErrorKind::Invalid): keys that do not vary,
    /// queries or values that are zero; the text names layer and head.
    pub fn finish(&self) -> Result<Calibration> {
        // SAFETY: the calibrator lives.
        Calibration::made(|out| unsafe { sys::oscar_calibrator_finish(self.raw.as_ptr(), out) })
    }
}

impl Drop for Calibrator {
    fn drop(&mut self) {
        // SAFETY: made by the library, destroyed once.
        unsafe { sys::oscar_calibrator_destroy(self.raw.as_ptr()) }
    }
}

impl fmt::Debug for Calibrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calibrator").finish_non_exhaustive()
    }
}
