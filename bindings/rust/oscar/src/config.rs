//! What a cache is made for: geometry and policy.

use std::ffi::CString;
use std::mem::size_of;
use std::ptr;

use crate::calibration::Calibration;
use crate::calibrator::CalibratorOptions;
use crate::error::{check, Error, Result};
use crate::sys;
use crate::tensor::Tensor;

/// In a field of a [`LayerConfig`]: the cache's value. In [`Config::value_dim`]: `key_dim`.
pub const DEFAULT: u32 = sys::OSCAR_DEFAULT;

/// How tokens are kept once they leave the recent window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Storage(pub u32);

impl Storage {
    /// Packed, in blocks of 128 tokens.
    pub const BLOCKS: Storage = Storage(sys::OSCAR_STORAGE_BLOCKS);
    /// BF16 for ever: a baseline, and a layer that must not be quantized.
    pub const EXACT: Storage = Storage(sys::OSCAR_STORAGE_EXACT);
    /// In a [`LayerConfig`]: the cache's.
    pub const DEFAULT: Storage = Storage(DEFAULT);
}

/// How values are rounded to codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Writer(pub u32);

impl Writer {
    /// Shaped where the calibration has query moments, else plain.
    pub const AUTO: Writer = Writer(sys::OSCAR_WRITER_AUTO);
    /// Every element to its nearest level.
    pub const PLAIN: Writer = Writer(sys::OSCAR_WRITER_PLAIN);
    /// Rounding errors steered to where queries do not look; needs query moments.
    pub const SHAPED: Writer = Writer(sys::OSCAR_WRITER_SHAPED);
}

/// Where keys and values lie and attention runs. The numbers are those of DLPack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// The kind of device: `oscar::sys::OSCAR_DEVICE_*`.
    pub kind: u32,
    /// Which one of its kind.
    pub id: i32,
}

impl Device {
    /// The CPU.
    pub const CPU: Device = Device { kind: sys::OSCAR_DEVICE_CPU, id: 0 };

    /// CUDA device number `ordinal`.
    #[must_use]
    pub const fn cuda(ordinal: i32) -> Device {
        Device { kind: sys::OSCAR_DEVICE_CUDA, id: ordinal }
    }
}

/// What a field is to Rust, and to C.
trait Field {
    type Raw;
    fn of_raw(raw: Self::Raw) -> Self;
    fn raw(self) -> Self::Raw;
}

macro_rules! plain_field {
    ($($type:ty),*) => { $(
        impl Field for $type {
            type Raw = $type;
            fn of_raw(raw: $type) -> $type { raw }
            fn raw(self) -> $type { self }
        }
    )* };
}

macro_rules! wrapped_field {
    ($($type:ident),*) => { $(
        impl Field for $type {
            type Raw = u32;
            fn of_raw(raw: u32) -> $type { $type(raw) }
            fn raw(self) -> u32 { self.0 }
        }
    )* };
}

plain_field!(u32, u64);
wrapped_field!(Storage, Writer);

impl Field for bool {
    type Raw = u32;
    fn of_raw(raw: u32) -> bool {
        raw != 0
    }
    fn raw(self) -> u32 {
        self.into()
    }
}

/// A struct of public fields, with a method of the same name that sets each, and both ways between it and the C struct.
macro_rules! fields {
    (
        $(#[$struct_doc:meta])* $struct:ident, $raw:ident;
        $($(#[$doc:meta])* $name:ident: $type:ty,)*
        { $($(#[$other_doc:meta])* $visible:vis $other:ident: $other_type:ty = $initial:expr,)* }
    ) => {
        $(#[$struct_doc])*
        #[derive(Debug, Clone)]
        #[must_use]
        pub struct $struct {
            $($(#[$doc])* pub $name: $type,)*
            $($(#[$other_doc])* $visible $other: $other_type,)*
        }

        impl $struct {
            $($(#[$doc])* pub fn $name(mut self, $name: $type) -> $struct {
                self.$name = $name;
                self
            })*

            fn of_raw(raw: &sys::$raw) -> $struct {
                $struct {
                    $($name: Field::of_raw(raw.$name),)*
                    $($other: $initial,)*
                }
            }

            fn copy_to(&self, raw: &mut sys::$raw) {
                $(raw.$name = Field::raw(self.$name);)*
            }
        }
    };
}

fields! {
    /// Geometry and policy of one layer, where they differ from the cache's: [`DEFAULT`] takes the cache's value. The
    /// fields mean what they mean in [`Config`]; each has a method of its name that sets it.
    LayerConfig, oscar_layer_config;
    /// Query heads.
    n_q_heads: u32,
    /// Key/value heads.
    n_kv_heads: u32,
    /// head_dim of queries and keys.
    key_dim: u32,
    /// head_dim of values.
    value_dim: u32,
    /// Sliding window in tokens, the query's own included; 0: attends to everything.
    window: u32,
    /// How tokens are kept once they leave the recent window.
    storage: Storage,
    /// Tokens of every 128, per KV head, kept at the refined widths.
    n_refined: u32,
    /// Bits of refined keys.
    refined_key_bits: u32,
    /// Bits of refined values.
    refined_value_bits: u32,
    /// An earlier layer whose keys and values this one attends to; [`DEFAULT`]: its own.
    kv_source: u32,
    {}
}

impl LayerConfig {
    /// A layer that takes everything from the cache.
    pub fn new() -> LayerConfig {
        LayerConfig::of_raw(&raw_layer())
    }
}

impl Default for LayerConfig {
    fn default() -> LayerConfig {
        LayerConfig::new()
    }
}

fn raw_layer() -> sys::oscar_layer_config {
    let mut raw = sys::oscar_layer_config::default();
    // SAFETY: writes a struct of this size. It fails only for a size that it does not know, which then stays 0: every
    // call that is given the entry says so.
    let _ = unsafe { sys::oscar_layer_config_init(&mut raw, size_of::<sys::oscar_layer_config>() as u32) };
    raw
}

fields! {
    /// Geometry and policy of a cache: made by [`Config::new`] with the defaults of a profile, then changed.
    ///
    /// Every field has a method of its name that sets it and gives the configuration back:
    ///
    /// ```
    /// # fn main() -> oscar::Result<()> {
    /// let config = oscar::Config::new("2bit")?.n_layers(32).n_q_heads(32).n_kv_heads(8).key_dim(128);
    /// assert_eq!((config.n_layers, config.n_refined), (32, 4));
    /// # Ok(())
    /// # }
    /// ```
    Config, oscar_cache_config;
    /// Layers of the model.
    n_layers: u32,
    /// Query heads of a layer, a multiple of `n_kv_heads`, at most 32 per KV head.
    n_q_heads: u32,
    /// Key/value heads of a layer.
    n_kv_heads: u32,
    /// head_dim of queries and keys: 64, 80, 96, 128, 192 or 256.
    key_dim: u32,
    /// head_dim of values; [`DEFAULT`] or 0: `key_dim`.
    value_dim: u32,
    /// Sliding window in tokens, the query's own included; 0: attends to everything.
    window: u32,
    /// How tokens are kept once they leave the recent window.
    storage: Storage,
    /// Tokens of every 128, per KV head, kept at the refined widths: 0 to 128.
    n_refined: u32,
    /// Bits of refined keys: 2, 3, 4 or, on the CPU, 8.
    refined_key_bits: u32,
    /// Bits of refined values: 2, 3, 4 or, on the CPU, 8.
    refined_value_bits: u32,
    /// How values are rounded to codes.
    writer: Writer,
    /// First tokens of a sequence that stay exact for ever (full-attention layers).
    n_sink: u32,
    /// Newest tokens that are exact.
    n_recent: u32,
    /// Newest tokens whose votes wait until they can no longer be taken back; at most `n_recent`.
    max_rollback: u32,
    /// Sequences open at a time.
    max_sequences: u32,
    /// Steps open at a time.
    max_open_steps: u32,
    /// New tokens of one step, all sequences together.
    max_step_tokens: u32,
    /// Whether a row's bits must not depend on the rest of the batch (always so on the CPU).
    batch_invariant: bool,
    /// Longest sequence, in tokens.
    max_tokens: u64,
    /// Memory of all sequences together, in bytes (exact rows, blocks, scores).
    capacity_bytes: u64,
    /// Threads that work for the cache within a call, the caller's among them; 0 and 1: the caller's alone. Results do
    /// not depend on it. CPU only.
    n_threads: u32,
    {
        /// What differs by layer: one entry for each, or none at all.
        pub layers: Vec<LayerConfig> = Vec::new(),
        /// Transforms of the layers; None: data-free.
        pub calibration: Option<Calibration> = None,
        /// Where keys and values lie and attention runs.
        pub device: Device = Device::CPU,
        self_calibration: Option<SelfCalibration> = None,
        allocator: sys::oscar_allocator = sys::oscar_allocator::default(),
        device_allocator: sys::oscar_allocator = sys::oscar_allocator::default(),
    }
}

/// How a cache is to calibrate itself: a calibrator's options, and the frequencies that they point to.
#[derive(Debug, Clone)]
struct SelfCalibration {
    options: CalibratorOptions<'static>,
    frequencies: Vec<f32>,
    n_rows: usize,
}

impl SelfCalibration {
    /// None: those of the options count.
    fn tensor(&self) -> Result<Option<Tensor<'_>>> {
        let n = self.frequencies.len();
        Ok(match self.n_rows {
            _ if n == 0 => None,
            1 => Some(Tensor::new(&self.frequencies, [n])?),
            rows => Some(Tensor::new(&self.frequencies, [rows, n / rows.max(1)])?),
        })
    }
}

// SAFETY: numbers, a Calibration, and allocators whose giver vouches for threads.
unsafe impl Send for Config {}
// SAFETY: as above.
unsafe impl Sync for Config {}

impl Config {
    /// The defaults of a profile: `"2bit"` (4 of 128 tokens refined to 4 bits), `"2bit-plain"` (none refined),
    /// `"k3v2"`, `"3bit"`, `"4bit"`, `"8bit"` (CPU only) or `"exact"` (BF16). The geometry (`n_layers`, `n_q_heads`,
    /// `n_kv_heads`, `key_dim`) is 0: set it.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): an unknown profile; the text lists them.
    pub fn new(profile: &str) -> Result<Config> {
        let mut raw = sys::oscar_cache_config::default();
        let name =
            CString::new(profile).map_err(|_| Error::invalid(format!("the profile {profile:?} has a NUL in it")))?;
        // SAFETY: writes a struct of this size.
        check(unsafe {
            sys::oscar_cache_config_init(&mut raw, size_of::<sys::oscar_cache_config>() as u32, name.as_ptr())
        })?;
        let config = Config::of_raw(&raw);
        Ok(if raw.device_type == 0 {
            config
        } else {
            config.device(Device { kind: raw.device_type, id: raw.device_id })
        })
    }

    /// What differs by layer: one entry for each layer. Sets `n_layers` where that is still 0.
    pub fn layers(mut self, layers: impl Into<Vec<LayerConfig>>) -> Config {
        self.layers = layers.into();
        if self.n_layers == 0 {
            self.n_layers = self.layers.len() as u32;
        }
        self
    }

    /// Transforms of the layers; they are shared, not copied.
    pub fn calibration(mut self, calibration: &Calibration) -> Config {
        self.calibration = Some(calibration.clone());
        self
    }

    /// Makes a cache that keeps every token exact and gathers statistics until [`Cache::freeze`](crate::Cache::freeze),
    /// with what a [`Calibrator`](crate::Calibrator) must be told. CPU only, and without [`Config::calibration`].
    ///
    /// * `frequencies`: of RoPE, `[n_pairs]`, or those of layer after layer, `[n_layers, n_pairs]`, as in
    ///   [`CalibratorOptions::rope_frequencies`]; they are copied. Empty: those of the options, if any.
    /// * `n_rows`: 1 for `[n_pairs]`, or the number of layers.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): the frequencies are no whole rows.
    pub fn self_calibrate(
        mut self,
        frequencies: &[f32],
        n_rows: usize,
        options: CalibratorOptions<'static>,
    ) -> Result<Config> {
        let given = SelfCalibration { options, frequencies: frequencies.to_vec(), n_rows };
        given.tensor()?;
        self.self_calibration = Some(given);
        Ok(self)
    }

    /// Where keys and values lie and attention runs.
    pub fn device(mut self, device: Device) -> Config {
        self.device = device;
        self
    }

    /// Where host memory comes from. Called when a cache is created and when it is dropped.
    ///
    /// # Safety
    /// `allocate` returns NULL or memory of that size and alignment, which `release` gets back; both may be called from
    /// any thread, with `user`, until every cache of this configuration is dropped.
    pub unsafe fn allocator(mut self, allocator: sys::oscar_allocator) -> Config {
        self.allocator = allocator;
        self
    }

    /// Where a device's memory comes from. Called when a cache is created and when it is dropped.
    ///
    /// # Safety
    /// As for [`Config::allocator`], with memory of the configuration's device.
    pub unsafe fn device_allocator(mut self, allocator: sys::oscar_allocator) -> Config {
        self.device_allocator = allocator;
        self
    }

    /// Calls `f` with the configuration as the C ABI wants it.
    pub(crate) fn with_raw<R>(&self, f: impl FnOnce(&sys::oscar_cache_config) -> R) -> R {
        let layers: Vec<sys::oscar_layer_config> = self.layers.iter().map(LayerConfig::to_raw).collect();
        let mut raw = sys::oscar_cache_config {
            struct_size: size_of::<sys::oscar_cache_config>() as u32,
            n_layer_configs: layers.len() as u32,
            layers: if layers.is_empty() { ptr::null() } else { layers.as_ptr() },
            calibration: self.calibration.as_ref().map_or(ptr::null(), Calibration::as_ptr),
            allocator: self.allocator,
            device_type: self.device.kind,
            device_id: self.device.id,
            device_allocator: self.device_allocator,
            ..sys::oscar_cache_config::default()
        };
        self.copy_to(&mut raw);
        let given = match &self.self_calibration {
            Some(given) => given,
            None => return f(&raw),
        };
        let mut options: CalibratorOptions<'_> = given.options.clone();
        // An error was reported when they were given.
        if let Ok(Some(frequencies)) = given.tensor() {
            options = options.rope_frequencies(frequencies);
        }
        options.with_raw(|args| {
            raw.self_calibrate = args;
            f(&raw)
        })
    }
}

impl LayerConfig {
    fn to_raw(&self) -> sys::oscar_layer_config {
        let mut raw = raw_layer();
        self.copy_to(&mut raw);
        raw
    }
}
