//! Calibrations: the transforms in which a cache stores keys and values.

use std::fmt;
use std::marker::PhantomData;
use std::mem::size_of;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::config::Config;
use crate::error::{check, Error, Result};
use crate::tensor::{Tensor, ABSENT};
use crate::{sys, text};

/// Immutable transforms of all layers. Cloning shares them; caches and threads may share them too. A cache keeps what
/// it needs of its own: its calibration may be dropped before it.
#[derive(Clone)]
pub struct Calibration {
    handle: Arc<Handle>,
}

struct Handle(NonNull<sys::oscar_calibration>);

// SAFETY: the C ABI promises that calibrations are immutable and may be shared by threads.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: made by the library, destroyed once.
        unsafe { sys::oscar_calibration_destroy(self.0.as_ptr()) }
    }
}

/// Transforms of one layer, for [`Calibration::from_layers`]. All tensors are F32 on the CPU, and are copied.
///
/// An absent transform is the data-free one: the orthonormal Hadamard matrix of that size. Transforms need to be
/// invertible, not orthogonal.
#[derive(Debug, Clone)]
#[must_use]
pub struct CalibrationLayer<'a> {
    raw: sys::oscar_calibration_layer,
    tensors: PhantomData<&'a [f32]>,
}

impl<'a> CalibrationLayer<'a> {
    /// A data-free layer of this geometry.
    pub fn new(n_kv_heads: u32, key_dim: u32, value_dim: u32) -> CalibrationLayer<'a> {
        let raw = sys::oscar_calibration_layer {
            struct_size: size_of::<sys::oscar_calibration_layer>() as u32,
            n_kv_heads,
            key_dim,
            value_dim,
            key_transform: ABSENT,
            query_moment: ABSENT,
            value_transform: ABSENT,
        };
        CalibrationLayer { raw, tensors: PhantomData }
    }

    /// F, `[n_kv_heads, key_dim, key_dim]`: keys are stored as `k F` (row vectors), queries as `q F^-T`.
    pub fn key_transform(mut self, transform: Tensor<'a>) -> CalibrationLayer<'a> {
        self.raw.key_transform = transform.raw();
        self
    }

    /// `E[q^T q]` over a KV head's query heads, `[n_kv_heads, key_dim, key_dim]`, symmetric and positive definite.
    /// Without it there is no shaped rounding.
    pub fn query_moment(mut self, moment: Tensor<'a>) -> CalibrationLayer<'a> {
        self.raw.query_moment = moment.raw();
        self
    }

    /// F_v, `[n_kv_heads, value_dim, value_dim]`: values are stored as `v F_v`, outputs undone by `F_v^-1`.
    pub fn value_transform(mut self, transform: Tensor<'a>) -> CalibrationLayer<'a> {
        self.raw.value_transform = transform.raw();
        self
    }
}

// SAFETY: tensors and numbers; Tensor is Send and Sync.
unsafe impl Send for CalibrationLayer<'_> {}
// SAFETY: as above.
unsafe impl Sync for CalibrationLayer<'_> {}

/// Files of rotations as `torch.save` writes them and the authors of OSCAR (arXiv 2605.17757) publish them, for
/// [`Calibration::import_torch`]. A file that is not given leaves its side data-free.
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct RotationFiles<'a> {
    keys: Option<&'a [u8]>,
    values: Option<&'a [u8]>,
    layer_ids: Option<&'a [u32]>,
}

impl<'a> RotationFiles<'a> {
    /// No files.
    pub fn new() -> RotationFiles<'a> {
        RotationFiles::default()
    }

    /// The bytes of the file of key rotations.
    pub fn keys(mut self, bytes: &'a [u8]) -> RotationFiles<'a> {
        self.keys = Some(bytes);
        self
    }

    /// The bytes of the file of value rotations.
    pub fn values(mut self, bytes: &'a [u8]) -> RotationFiles<'a> {
        self.values = Some(bytes);
        self
    }

    /// Of every layer its id in the files; [`DEFAULT`](crate::DEFAULT): a data-free layer. Without them the files have
    /// the same layers, `n_layers` of them, and rising ids are layers 0, 1, ...
    pub fn layer_ids(mut self, ids: &'a [u32]) -> RotationFiles<'a> {
        self.layer_ids = Some(ids);
        self
    }

    fn raw(&self) -> sys::oscar_calibration_import_args {
        let bytes =
            |file: Option<&[u8]>| file.map_or((ptr::null(), 0), |file| (file.as_ptr().cast(), file.len() as u64));
        let ((key_bytes, key_size), (value_bytes, value_size)) = (bytes(self.keys), bytes(self.values));
        sys::oscar_calibration_import_args {
            struct_size: size_of::<sys::oscar_calibration_import_args>() as u32,
            n_layer_ids: self.layer_ids.map_or(0, |ids| ids.len() as u32),
            key_bytes,
            key_size,
            value_bytes,
            value_size,
            layer_ids: self.layer_ids.map_or(ptr::null(), <[u32]>::as_ptr),
        }
    }
}

/// What made a calibration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CalibrationSource(pub u32);

impl CalibrationSource {
    /// [`Calibration::from_layers`].
    pub const MATRICES: CalibrationSource = CalibrationSource(sys::OSCAR_CALIBRATION_MATRICES);
    /// [`Calibration::data_free`].
    pub const DATA_FREE: CalibrationSource = CalibrationSource(sys::OSCAR_CALIBRATION_DATA_FREE);
    /// [`Calibration::identity`].
    pub const IDENTITY: CalibrationSource = CalibrationSource(sys::OSCAR_CALIBRATION_IDENTITY);
    /// [`Calibration::import_torch`].
    pub const IMPORTED: CalibrationSource = CalibrationSource(sys::OSCAR_CALIBRATION_IMPORTED);
    /// [`Calibrator::finish`](crate::Calibrator::finish).
    pub const CALIBRATOR: CalibrationSource = CalibrationSource(sys::OSCAR_CALIBRATION_CALIBRATOR);
    /// [`Cache::freeze`](crate::Cache::freeze).
    pub const CACHE: CalibrationSource = CalibrationSource(sys::OSCAR_CALIBRATION_CACHE);
}

/// Consecutive KV heads of one layer, for [`Calibration::slice`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CalibrationPart {
    /// The layer.
    pub layer: u32,
    /// The first of the KV heads.
    pub first_kv_head: u32,
    /// How many there are.
    pub n_kv_heads: u32,
}

/// What one KV head of a calibration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CalibrationHead {
    /// Hadamard transforms and plain rounding.
    pub is_data_free: bool,
    /// It has a query moment.
    pub is_shaped: bool,
    /// Its value transform is a matrix.
    pub has_own_values: bool,
    /// Of its transforms, wherever the head stands: for comparing ranks and files.
    pub fingerprint: u64,
}

/// What a calibration is. From `source` on: as its file remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CalibrationInfo {
    /// Layers.
    pub n_layers: u32,
    /// Memory of the object.
    pub bytes: u64,
    /// Of its transforms: equal ones, equal fingerprints.
    pub fingerprint: u64,
    /// Made by [`Calibration::data_free`], or equal to it.
    pub is_data_free: bool,
    /// Every KV head has a query moment.
    pub is_shaped: bool,
    /// KV heads of all layers.
    pub n_heads: u32,
    /// Of these, with Hadamard transforms and plain rounding.
    pub n_data_free_heads: u32,
    /// What made it.
    pub source: CalibrationSource,
    /// Moments are averaged over the positions to be served.
    pub knows_rope: bool,
    /// Whose keys counted, in the layer with the fewest.
    pub n_tokens: u64,
    /// Positions 0 to `n_positions - 1` are to be served.
    pub n_positions: u64,
    /// Tokens came from the positions before this one.
    pub end_position: u64,
    /// Of the profile it was made for, in the first layer that packs.
    pub n_refined: u32,
    /// Likewise.
    pub refined_key_bits: u32,
    /// Likewise.
    pub refined_value_bits: u32,
    /// What the transforms minimise.
    pub objective: String,
    /// Whose tensors it was made from, in the caller's words.
    pub model: String,
    /// The caller's other words.
    pub note: String,
}

impl Calibration {
    /// Hadamard transforms and plain rounding for a configuration's geometry.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): a malformed configuration.
    pub fn data_free(config: &Config) -> Result<Calibration> {
        // SAFETY: the configuration says how large it is.
        Calibration::made(|out| config.with_raw(|config| unsafe { sys::oscar_calibration_default(config, out) }))
    }

    /// Codes in the keys' own basis: for study and for tests.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): a malformed configuration.
    pub fn identity(config: &Config) -> Result<Calibration> {
        // SAFETY: the configuration says how large it is.
        Calibration::made(|out| config.with_raw(|config| unsafe { sys::oscar_calibration_identity(config, out) }))
    }

    /// From explicit matrices, one entry for every layer.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): shapes, non-finite elements, a singular or too ill-conditioned
    /// transform, a moment that is not positive definite; the text names layer and head.
    pub fn from_layers(layers: &[CalibrationLayer<'_>]) -> Result<Calibration> {
        let raw: Vec<sys::oscar_calibration_layer> = layers.iter().map(|layer| layer.raw).collect();
        // SAFETY: the tensors are borrowed for the call.
        Calibration::made(|out| unsafe { sys::oscar_calibration_create(raw.as_ptr(), raw.len() as u32, out) })
    }

    /// Reads what [`Calibration::save`] wrote.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt): anything else.
    pub fn load(bytes: &[u8]) -> Result<Calibration> {
        // SAFETY: a slice and its length.
        Calibration::made(|out| unsafe { sys::oscar_calibration_load(bytes.as_ptr().cast(), bytes.len() as u64, out) })
    }

    /// From published rotations, for a configuration's layers and heads. There are no query moments, so rounding is
    /// plain. Nothing in a file is executed.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt): bytes that `torch.save` does not write, or whose content is no rotation
    /// (not finite, not orthogonal); the text says what and where. [`Unsupported`](crate::ErrorKind::Unsupported):
    /// compressed or zip64 archives, pickles that name anything but tensors, other formats.
    /// [`Invalid`](crate::ErrorKind::Invalid): files that do not fit the configuration.
    pub fn import_torch(config: &Config, files: &RotationFiles<'_>) -> Result<Calibration> {
        let args = files.raw();
        // SAFETY: both structs say how large they are; slices and their lengths, borrowed for the call.
        Calibration::made(|out| {
            config.with_raw(|config| unsafe { sys::oscar_calibration_import_torch(config, &args, out) })
        })
    }

    /// Serializes.
    ///
    /// # Errors
    /// [`NoMemory`](crate::ErrorKind::NoMemory).
    pub fn save(&self) -> Result<Vec<u8>> {
        let mut size = 0;
        // SAFETY: without memory only the size is written.
        check(unsafe { sys::oscar_calibration_save(self.as_ptr(), ptr::null_mut(), 0, &mut size) })?;
        let mut bytes = vec![0; size as usize];
        // SAFETY: memory of that size.
        check(unsafe { sys::oscar_calibration_save(self.as_ptr(), bytes.as_mut_ptr().cast(), size, &mut size) })?;
        bytes.truncate(size as usize);
        Ok(bytes)
    }

    /// Size, kind, fingerprint and origin.
    ///
    /// # Errors
    /// None of its own: those of a broken library.
    pub fn info(&self) -> Result<CalibrationInfo> {
        let mut raw = sys::oscar_calibration_info {
            struct_size: size_of::<sys::oscar_calibration_info>() as u32,
            ..sys::oscar_calibration_info::default()
        };
        // SAFETY: the struct says how large it is.
        check(unsafe { sys::oscar_calibration_info_get(self.as_ptr(), &mut raw) })?;
        Ok(CalibrationInfo {
            n_layers: raw.n_layers,
            bytes: raw.bytes,
            fingerprint: raw.fingerprint,
            is_data_free: raw.is_data_free != 0,
            is_shaped: raw.is_shaped != 0,
            n_heads: raw.n_heads,
            n_data_free_heads: raw.n_data_free_heads,
            source: CalibrationSource(raw.source),
            knows_rope: raw.knows_rope != 0,
            n_tokens: raw.n_tokens,
            n_positions: raw.n_positions,
            end_position: raw.end_position,
            n_refined: raw.n_refined,
            refined_key_bits: raw.refined_key_bits,
            refined_value_bits: raw.refined_value_bits,
            objective: text::of_field(&raw.objective),
            model: text::of_field(&raw.model),
            note: text::of_field(&raw.note),
        })
    }

    /// What one KV head is.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): there is no such head.
    pub fn head(&self, layer: u32, kv_head: u32) -> Result<CalibrationHead> {
        let mut raw = sys::oscar_calibration_head_info {
            struct_size: size_of::<sys::oscar_calibration_head_info>() as u32,
            ..sys::oscar_calibration_head_info::default()
        };
        // SAFETY: the struct says how large it is.
        check(unsafe { sys::oscar_calibration_head_get(self.as_ptr(), layer, kv_head, &mut raw) })?;
        Ok(CalibrationHead {
            is_data_free: raw.is_data_free != 0,
            is_shaped: raw.is_shaped != 0,
            has_own_values: raw.has_own_values != 0,
            fingerprint: raw.fingerprint,
        })
    }

    /// The calibration of some layers and KV heads, e.g. of one rank under tensor or pipeline parallelism: its layer i
    /// is `parts[i]`.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): a part that is not there, or none.
    pub fn slice(&self, parts: &[CalibrationPart]) -> Result<Calibration> {
        let raw: Vec<sys::oscar_calibration_part> = parts
            .iter()
            .map(|part| sys::oscar_calibration_part {
                layer: part.layer,
                first_kv_head: part.first_kv_head,
                n_kv_heads: part.n_kv_heads,
            })
            .collect();
        // SAFETY: a list and its length.
        Calibration::made(|out| unsafe {
            sys::oscar_calibration_slice(self.as_ptr(), raw.as_ptr(), raw.len() as u32, out)
        })
    }

    /// The object of the C ABI, for calls of `oscar::sys`; it stays this calibration's.
    #[must_use]
    pub fn as_ptr(&self) -> *const sys::oscar_calibration {
        self.handle.0.as_ptr()
    }

    pub(crate) fn made(
        make: impl FnOnce(&mut *mut sys::oscar_calibration) -> sys::oscar_status,
    ) -> Result<Calibration> {
        let mut raw = ptr::null_mut();
        check(make(&mut raw))?;
        let raw = NonNull::new(raw)
            .ok_or_else(|| Error::internal("the library returned no calibration and no error".to_owned()))?;
        Ok(Calibration { handle: Arc::new(Handle(raw)) })
    }
}

impl fmt::Debug for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.info() {
            Ok(info) => write!(f, "Calibration({:016x})", info.fingerprint),
            Err(error) => write!(f, "Calibration({error})"),
        }
    }
}
