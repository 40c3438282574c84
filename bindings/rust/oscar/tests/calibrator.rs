//! Calibrations that are made from a model's tensors, or imported.

mod support;
#[path = "support/torch_file.rs"]
mod torch_file;

use oscar::{
    Cache, Calibration, Calibrator, CalibratorOptions, Config, ErrorKind, LayerConfig, RopePairing, RotationFiles,
    Tensor, ValueBasis, DEFAULT,
};
use support::*;
use torch_file::rotation_file;

/// Keys and queries that live in few directions: where a calibration has something to say.
fn narrow(seed: u64, n: usize) -> Rows {
    let mut rows = Rows::new(seed, n);
    for (values, slope) in [(&mut rows.q, 0.9_f32), (&mut rows.k, 0.93)] {
        for head in values.chunks_exact_mut(DIM) {
            for (i, x) in head.iter_mut().enumerate() {
                *x *= 4.0 * slope.powi(i as i32);
            }
        }
    }
    rows
}

/// Relative error of attention over the later half of the tokens.
fn error_of(config: &Config, rows: &Rows) -> f64 {
    let mut cache = Cache::new(config).unwrap();
    let sequence = cache.open().unwrap();
    let out = feed(&mut cache, sequence, rows, 32).unwrap();
    let (mut wrong, mut right) = (0.0, 0.0);
    for i in rows.n / 2..rows.n {
        let (wanted, _) = attention(&rows.q[i * Q..], &rows.k, &rows.v, |t| t <= i, &Options::default());
        for (got, wanted) in out[i * Q..].iter().zip(&wanted) {
            wrong += (f64::from(*got) - wanted).powi(2);
            right += wanted.powi(2);
        }
    }
    (wrong / right).sqrt()
}

#[test]
fn a_calibrated_cache_is_closer_to_exact_attention() {
    let frequencies = [0.0_f32; DIM / 2]; // no positions
    let options = CalibratorOptions::new()
        .rope_frequencies(Tensor::new(&frequencies, [DIM / 2]).unwrap())
        .rope_pairing(RopePairing::INTERLEAVED)
        .n_positions(2048);
    // Keys of two bits and values of four: the error is the keys'.
    let config = small_config("2bit").n_refined(128).refined_key_bits(2).refined_value_bits(4);
    let mut calibrator = Calibrator::new(&config, &options).unwrap();
    let learned = narrow(1, 512);
    for first in (0..512).step_by(256) {
        let part = learned.slice(first, first + 256);
        calibrator.feed(0, first as u64, part.q(), Some(part.k()), Some(part.v())).unwrap();
    }
    let calibration = calibrator.finish().unwrap();
    let info = calibration.info().unwrap();
    assert!(info.is_shaped && !info.is_data_free);
    let seen = narrow(2, 600);
    let (free, calibrated) = (error_of(&config, &seen), error_of(&config.clone().calibration(&calibration), &seen));
    assert!(calibrated < 0.8 * free, "{calibrated} calibrated, {free} data-free");

    // The other basis of values is another calibration of the same tokens.
    let mut hadamard = Calibrator::new(&config, &options.value_basis(ValueBasis::HADAMARD)).unwrap();
    hadamard.feed(0, 0, learned.q(), Some(learned.k()), Some(learned.v())).unwrap();
    assert_ne!(hadamard.finish().unwrap().info().unwrap().fingerprint, info.fingerprint);
}

#[test]
fn what_a_calibrator_refuses() {
    let config = small_config("2bit");
    let mut calibrator = Calibrator::new(&config, &CalibratorOptions::default()).unwrap();
    assert_eq!(calibrator.finish().unwrap_err().kind(), ErrorKind::State);
    let rows = Rows::new(3, 300);
    assert_eq!(calibrator.feed(0, 0, rows.q(), None, None).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(calibrator.feed(1, 0, rows.q(), Some(rows.k()), Some(rows.v())).unwrap_err().kind(), ErrorKind::Invalid);
    // Without frequencies it has to have seen all positions.
    calibrator.feed(0, 0, rows.q(), Some(rows.k()), Some(rows.v())).unwrap();
    assert_eq!(calibrator.finish().unwrap_err().kind(), ErrorKind::State);
    let short = config.max_tokens(300);
    let mut calibrator = Calibrator::new(&short, &CalibratorOptions::new()).unwrap();
    calibrator.feed(0, 0, rows.q(), Some(rows.k()), Some(rows.v())).unwrap();
    calibrator.finish().unwrap();
    let odd = [1.0_f32; 5];
    let frequencies = CalibratorOptions::new().rope_frequencies(Tensor::new(&odd, [1, 1, 5]).unwrap());
    assert_eq!(Calibrator::new(&short, &frequencies).unwrap_err().kind(), ErrorKind::Invalid);
}

/// x[i] becomes x[i + 1].
fn shift() -> Vec<f32> {
    (0..DIM * DIM).map(|at| if (at / DIM + 1) % DIM == at % DIM { 1.0 } else { 0.0 }).collect()
}

#[test]
fn published_rotations_are_imported() {
    let config = small_config("2bit");
    let file = rotation_file(17, &shift(), DIM);
    let keys = Calibration::import_torch(&config, &RotationFiles::new().keys(&file)).unwrap();
    let both = Calibration::import_torch(&config, &RotationFiles::new().keys(&file).values(&file)).unwrap();
    assert!(!keys.info().unwrap().is_shaped && !keys.info().unwrap().is_data_free);
    assert_ne!(keys.info().unwrap().fingerprint, both.info().unwrap().fingerprint);

    // Layers are told by their ids.
    let mut two = small_config("2bit");
    two.n_layers = 0;
    let two = two.layers([LayerConfig::new(), LayerConfig::new()]);
    let files = RotationFiles::new().keys(&file);
    assert_eq!(Calibration::import_torch(&two, &files).unwrap_err().kind(), ErrorKind::Invalid);
    let second = Calibration::import_torch(&two, &files.layer_ids(&[DEFAULT, 17])).unwrap();
    assert_eq!(second.info().unwrap().n_layers, 2);
    assert_eq!(Calibration::import_torch(&two, &files.layer_ids(&[17])).unwrap_err().kind(), ErrorKind::Invalid);

    // Nothing given: nothing to import.
    assert_eq!(Calibration::import_torch(&config, &RotationFiles::new()).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn bytes_that_are_no_rotation_are_refused() {
    let config = small_config("2bit");
    let mut bent = shift();
    bent[0] = 0.5;
    for bytes in [b"not a file".to_vec(), Vec::new(), rotation_file(0, &bent, DIM)] {
        let error = Calibration::import_torch(&config, &RotationFiles::new().keys(&bytes)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let error = Calibration::import_torch(&config, &RotationFiles::new().values(&bytes)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}
