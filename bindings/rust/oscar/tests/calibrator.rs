//! Calibrations that are made from a model's tensors, or imported.

mod support;
#[path = "support/torch_file.rs"]
mod torch_file;

use oscar::{
    Cache, CacheState, Calibration, CalibrationPart, CalibrationSource, Calibrator, CalibratorOptions, Config, Entry,
    ErrorKind, LayerConfig, RopePairing, RotationFiles, Tensor, ValueBasis, DEFAULT,
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
fn a_cache_calibrates_itself() {
    let config = small_config("2bit-plain");
    let options = CalibratorOptions::new().n_positions(2048).model("made up").note("for a test");
    let collecting = config.clone().self_calibrate(&[0.0; DIM / 2], 1, options).unwrap();
    let report = oscar::check(&collecting, 300).unwrap();
    assert!(report.bytes_sequences > report.bytes_sequences_frozen);

    let mut cache = Cache::new(&collecting).unwrap();
    assert_eq!(cache.stats().unwrap().bytes_fixed, report.bytes_fixed);
    assert_eq!(cache.freeze().unwrap_err().kind(), ErrorKind::State);
    let sequence = cache.open().unwrap();
    let rows = narrow(1, 300);
    feed(&mut cache, sequence, &rows, 60).unwrap();
    assert_eq!(cache.stats().unwrap().state, CacheState::COLLECTING);
    let calibration = cache.freeze().unwrap();
    assert_eq!(cache.stats().unwrap().state, CacheState::FROZEN);
    assert_eq!(cache.stats().unwrap().bytes_calibration, calibration.info().unwrap().bytes);
    assert_eq!(cache.freeze().unwrap_err().kind(), ErrorKind::State);

    let info = calibration.info().unwrap();
    assert_eq!(
        (info.source, info.model.as_str(), info.note.as_str()),
        (CalibrationSource::CACHE, "made up", "for a test")
    );
    assert_eq!((info.end_position, info.n_positions, info.knows_rope), (260, 2048, true)); // 40 tokens are less than half a block
    assert_eq!(info.n_data_free_heads, 0);
    let loaded = Calibration::load(&calibration.save().unwrap()).unwrap();
    assert_eq!(loaded.info().unwrap(), info);

    // The same bits in a cache that was given the calibration.
    let mut fresh = Cache::new(&config.clone().calibration(&loaded)).unwrap();
    let again = fresh.open().unwrap();
    feed(&mut fresh, again, &rows, 60).unwrap();
    for (cache, sequence) in [(&mut cache, sequence), (&mut fresh, again)] {
        cache.begin(&[Entry::new(sequence, 1)]).unwrap().abort().unwrap(); // packs what has aged by now
    }
    let keys = |cache: &Cache, sequence| {
        let mut k = vec![0.0_f32; 300 * DIM];
        let out = oscar::TensorMut::new(&mut k, [300, DIM]).unwrap();
        cache.read(sequence, 0, 0, 0..300, Some(out), None).unwrap();
        k
    };
    assert_eq!(keys(&cache, sequence), keys(&fresh, again));

    let part = loaded.slice(&[CalibrationPart { layer: 0, first_kv_head: 1, n_kv_heads: 1 }]).unwrap();
    assert_eq!(part.head(0, 0).unwrap(), loaded.head(0, 1).unwrap());
    assert!(part.head(0, 0).unwrap().is_shaped);
    assert_eq!(part.head(0, 1).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(loaded.slice(&[]).unwrap_err().kind(), ErrorKind::Invalid);

    // What is not served.
    let both = collecting.calibration(&loaded);
    assert_eq!(Cache::new(&both).unwrap_err().kind(), ErrorKind::Invalid);
    let ragged = small_config("2bit").self_calibrate(&[0.0; 5], 2, CalibratorOptions::new());
    assert_eq!(ragged.unwrap_err().kind(), ErrorKind::Invalid);
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
