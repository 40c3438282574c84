//! Configurations, what they cost, and calibrations.

mod support;

use std::ffi::CString;
use std::mem::size_of;

use oscar::{
    check, sys, Cache, Calibration, CalibrationLayer, Config, Device, Entry, ErrorKind, LayerConfig, Storage, Tensor,
    Writer, DEFAULT,
};
use support::*;

#[test]
fn a_profile_has_the_defaults_of_the_library() {
    for profile in ["2bit", "2bit-plain", "k3v2", "3bit", "4bit", "8bit", "exact"] {
        let mut raw = sys::oscar_cache_config::default();
        let name = CString::new(profile).unwrap();
        let size = size_of::<sys::oscar_cache_config>() as u32;
        assert_eq!(unsafe { sys::oscar_cache_config_init(&mut raw, size, name.as_ptr()) }, sys::OSCAR_OK);
        let config = Config::new(profile).unwrap();
        let got = [
            config.n_layers,
            config.n_q_heads,
            config.n_kv_heads,
            config.key_dim,
            config.value_dim,
            config.window,
            config.storage.0,
            config.n_refined,
            config.refined_key_bits,
            config.refined_value_bits,
            config.writer.0,
            config.n_sink,
            config.n_recent,
            config.max_rollback,
            config.max_sequences,
            config.max_open_steps,
            config.max_step_tokens,
            u32::from(config.batch_invariant),
            config.n_threads,
        ];
        let wanted = [
            raw.n_layers,
            raw.n_q_heads,
            raw.n_kv_heads,
            raw.key_dim,
            raw.value_dim,
            raw.window,
            raw.storage,
            raw.n_refined,
            raw.refined_key_bits,
            raw.refined_value_bits,
            raw.writer,
            raw.n_sink,
            raw.n_recent,
            raw.max_rollback,
            raw.max_sequences,
            raw.max_open_steps,
            raw.max_step_tokens,
            raw.batch_invariant,
            raw.n_threads,
        ];
        assert_eq!(got, wanted);
        assert_eq!((config.max_tokens, config.capacity_bytes), (raw.max_tokens, raw.capacity_bytes));
        assert_eq!(config.device, Device::CPU);
        assert!(config.layers.is_empty() && config.calibration.is_none());
    }
    assert_eq!(Config::new("exact").unwrap().storage, Storage::EXACT);
    assert_eq!(Config::new("2bit").unwrap().writer, Writer::AUTO);
}

#[test]
fn check_predicts_the_bytes_of_a_cache() {
    let config = small_config("2bit");
    let report = check(&config, 500).unwrap();
    assert!(report.served && report.context == 500, "{report:?}");
    assert!(report.bytes_sequences < report.bytes_bf16 && report.block_bits_per_element < 4.0);
    let mut cache = Cache::new(&config).unwrap();
    let sequence = cache.open().unwrap();
    feed(&mut cache, sequence, &Rows::new(1, 500), 20).unwrap();
    let step = cache.begin(&[Entry::new(sequence, 1)]).unwrap();
    let stats = step.cache().stats().unwrap();
    assert_eq!((stats.bytes_sequences, stats.bytes_fixed), (report.bytes_sequences, report.bytes_fixed));
}

#[test]
fn layers_may_differ() {
    let default = LayerConfig::new();
    assert_eq!((default.n_q_heads, default.kv_source, default.storage), (DEFAULT, DEFAULT, Storage::DEFAULT));
    let mut config = small_config("2bit");
    config.n_layers = 0;
    let config = config.layers([
        LayerConfig::new().storage(Storage::EXACT),
        LayerConfig::new(),
        LayerConfig::new().kv_source(1),
    ]);
    assert_eq!(config.n_layers, 3);
    let mut cache = Cache::new(&config).unwrap();
    let sequence = cache.open().unwrap();
    let rows = Rows::new(2, 3);
    let mut step = cache.begin(&[Entry::new(sequence, 3)]).unwrap();
    step.append(0, rows.k(), rows.v()).unwrap();
    step.append(1, rows.k(), rows.v()).unwrap();
    let shared = step.append(2, rows.k(), rows.v()).unwrap_err();
    assert!(shared.text().contains("kv_source") || shared.text().contains("layer"), "{shared}");
    step.end().unwrap();
    let wrong = Cache::new(&small_config("2bit").layers(vec![LayerConfig::new(), LayerConfig::new()]));
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn calibrations_are_made_saved_and_loaded() {
    let config = small_config("2bit");
    let (free, identity) = (Calibration::data_free(&config).unwrap(), Calibration::identity(&config).unwrap());
    let info = free.info().unwrap();
    assert!(info.is_data_free && !info.is_shaped && info.n_layers == 1 && info.bytes > 0);
    assert_ne!(info.fingerprint, identity.info().unwrap().fingerprint);
    let bytes = identity.save().unwrap();
    let loaded = Calibration::load(&bytes).unwrap();
    assert_eq!(loaded.info().unwrap(), identity.info().unwrap());
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    assert_eq!(Calibration::load(&damaged).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(Calibration::load(&bytes[..bytes.len() - 1]).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// N_KV_HEADS times a diagonal matrix.
fn diagonal(dim: usize, of: impl Fn(usize) -> f32) -> Vec<f32> {
    (0..N_KV_HEADS * dim * dim).map(|i| if i / dim % dim == i % dim { of(i % dim) } else { 0.0 }).collect()
}

#[test]
fn explicit_matrices_change_what_is_stored() {
    let (key, value) = (diagonal(DIM, |i| 1.0 + i as f32 / 64.0), diagonal(DIM, |_| 2.0));
    let moment = diagonal(DIM, |i| 1.0 + i as f32);
    let cube = [N_KV_HEADS, DIM, DIM];
    let layer = CalibrationLayer::new(N_KV_HEADS as u32, DIM as u32, DIM as u32)
        .key_transform(Tensor::new(&key, cube).unwrap())
        .value_transform(Tensor::new(&value, cube).unwrap());
    let plain = Calibration::from_layers(std::slice::from_ref(&layer)).unwrap();
    let shaped = Calibration::from_layers(&[layer.query_moment(Tensor::new(&moment, cube).unwrap())]).unwrap();
    assert!(!plain.info().unwrap().is_shaped && shaped.info().unwrap().is_shaped);

    let rows = Rows::new(3, 300);
    let mut read = Vec::new();
    for calibration in [None, Some(&plain), Some(&shaped)] {
        let config =
            calibration.iter().fold(small_config("2bit"), |config, calibration| config.calibration(calibration));
        let mut cache = Cache::new(&config).unwrap();
        drop(config); // a cache keeps what it needs
        let sequence = cache.open().unwrap();
        feed(&mut cache, sequence, &rows, 50).unwrap();
        read.push(read_all(&cache, sequence).unwrap().0);
    }
    assert!(read[0] != read[1] && read[1] != read[2] && read[0] != read[2]);

    let singular = diagonal(DIM, |i| if i == 5 { 0.0 } else { 1.0 });
    let layer = CalibrationLayer::new(N_KV_HEADS as u32, DIM as u32, DIM as u32)
        .key_transform(Tensor::new(&singular, cube).unwrap());
    let error = Calibration::from_layers(&[layer]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.text().contains("layer"), "{error}");
}

#[test]
fn a_cuda_device_is_asked_for_by_number() {
    let config = small_config("2bit").device(Device::cuda(77));
    let report = check(&config, 100).unwrap();
    assert!(!report.served && !report.reason.is_empty(), "no machine has 78 devices: {report:?}");
    assert!(Cache::new(&config).is_err());
}

#[test]
fn the_library_is_the_one_of_the_bindings() {
    assert_eq!(oscar::abi_version(), sys::OSCAR_ABI_VERSION);
    let wanted = format!("{}.{}.", sys::OSCAR_VERSION_MAJOR, sys::OSCAR_VERSION_MINOR);
    assert!(oscar::version().starts_with(&wanted), "{}", oscar::version());
    assert!(oscar::version().starts_with(env!("CARGO_PKG_VERSION").rsplit_once('.').unwrap().0));
}
