//! Every status is an error of its kind, with the library's own text.

mod support;

use std::os::raw::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use oscar::{sys, Attend, Cache, Calibration, Config, Device, Dtype, Entry, Error, ErrorKind, Tensor, TensorMut};
use support::*;

#[track_caller]
fn assert_error<T: std::fmt::Debug>(got: Result<T, Error>, kind: ErrorKind, text: &str) {
    let error = got.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.text().contains(text), "{error}");
    assert_eq!(error.to_string(), error.text());
}

/// Also the gate for a header whose numbers change: names and kinds come from different places.
#[test]
fn every_status_of_the_library_has_a_kind_of_its_name() {
    let names = [
        ("OSCAR_E_INVALID", ErrorKind::Invalid),
        ("OSCAR_E_NO_MEMORY", ErrorKind::NoMemory),
        ("OSCAR_E_NO_SPACE", ErrorKind::NoSpace),
        ("OSCAR_E_NOT_FOUND", ErrorKind::NotFound),
        ("OSCAR_E_STATE", ErrorKind::State),
        ("OSCAR_E_UNSUPPORTED", ErrorKind::Unsupported),
        ("OSCAR_E_CORRUPT", ErrorKind::Corrupt),
        ("OSCAR_E_BACKEND", ErrorKind::Backend),
        ("OSCAR_E_INTERNAL", ErrorKind::Internal),
        ("OSCAR_E_DEVICE", ErrorKind::Device),
    ];
    let name = |status| unsafe { std::ffi::CStr::from_ptr(sys::oscar_status_name(status)) }.to_str().unwrap();
    for (i, (wanted, kind)) in names.iter().enumerate() {
        let status = -(i as i32) - 1;
        assert_eq!((name(status), ErrorKind::from_status(status)), (*wanted, *kind));
    }
    let after = -(names.len() as i32) - 1;
    assert_eq!((name(after), ErrorKind::from_status(after)), ("OSCAR_E_UNKNOWN", ErrorKind::Unknown));
}

#[test]
fn invalid() {
    assert_error(Config::new("nonsense"), ErrorKind::Invalid, "nonsense");
    assert_error(Config::new("2\0bit"), ErrorKind::Invalid, "NUL");
    assert_error(Cache::new(&small_config("2bit").n_layers(0)), ErrorKind::Invalid, "n_layers");
    let mut cache = Cache::new(&small_config("exact")).unwrap();
    let sequence = cache.open().unwrap();
    let error = cache.truncate(sequence, 1).unwrap_err();
    assert_eq!((error.status(), error.status_name()), (sys::OSCAR_E_INVALID, "OSCAR_E_INVALID".to_owned()));
    let backwards = std::ops::Range { start: 3, end: 2 };
    assert_error(cache.read(sequence, 0, 0, backwards, None, None), ErrorKind::Invalid, "3..2");
}

#[test]
fn wrong_tensors() {
    let rows = Rows::new(1, 2);
    let mut cache = Cache::new(&small_config("exact")).unwrap();
    let sequence = cache.open().unwrap();
    let mut out = vec![0.0; 2 * Q];
    let mut step = cache.begin(&[Entry::new(sequence, 2)]).unwrap();
    let wide = Tensor::new(&rows.k, [2, 1, KV]).unwrap();
    assert_error(step.append(0, wide, rows.v()), ErrorKind::Invalid, "k");
    assert_error(step.append(7, rows.k(), rows.v()), ErrorKind::Invalid, "layer");
    let bytes = vec![0_u8; 2 * KV];
    let of_bytes = Tensor::new(&bytes, [2, N_KV_HEADS, DIM]).unwrap();
    assert_error(step.append(0, rows.k(), of_bytes), ErrorKind::Invalid, "v");
    let elsewhere = unsafe {
        let data = rows.k.as_ptr().cast();
        Tensor::from_raw_parts(data, Device::cuda(0), Dtype::F32, [2, N_KV_HEADS, DIM], None)
    };
    assert_error(step.append(0, elsewhere.unwrap(), rows.v()), ErrorKind::Invalid, "device");
    let early = step.attend(0, Attend::new(rows.q(), rows.out(&mut out)));
    assert_error(early, ErrorKind::State, "layer");
    step.append(0, rows.k(), rows.v()).unwrap();
    // Two rows of the output in one place.
    let overlapping = TensorMut::strided(&mut out, [2, N_Q_HEADS, DIM], [DIM, DIM, 1]).unwrap();
    assert_error(step.attend(0, Attend::new(rows.q(), overlapping)), ErrorKind::Invalid, "out");
    step.attend(0, Attend::new(rows.q(), rows.out(&mut out))).unwrap();
}

#[test]
fn views_do_not_reach_beyond_their_slice() {
    let mut data = [0.0_f32; 12];
    assert_eq!(Tensor::new(&data, [3, 4]).unwrap().shape(), [3, 4]);
    assert_error(Tensor::new(&data, [3, 5]), ErrorKind::Invalid, "12 elements");
    assert_error(Tensor::new(&data, [usize::MAX, 2]), ErrorKind::Invalid, "");
    assert_error(Tensor::new(&data, [12, 1, 1, 1, 1]), ErrorKind::Invalid, "5 dimensions");
    assert_error(Tensor::new(&data, []), ErrorKind::Invalid, "0 dimensions");
    assert!(Tensor::strided(&data, [3, 2], [5, 1]).is_ok());
    assert_error(Tensor::strided(&data, [3, 3], [5, 1]), ErrorKind::Invalid, "reaches further");
    assert_error(Tensor::strided(&data, [2, 2], [usize::MAX, 1]), ErrorKind::Invalid, "reaches further");
    assert_error(Tensor::strided(&data, [1, 1], [0, 0]), ErrorKind::Invalid, "strides");
    let mut out = TensorMut::strided(&mut data, [3, 2], [5, 1]).unwrap();
    assert_eq!(out.reborrow().shape(), [3, 2]);
    assert_eq!(out.shape(), [3, 2]);
    assert_error(TensorMut::strided(&mut data, [3, 3], [5, 1]), ErrorKind::Invalid, "reaches further");
    assert_error(TensorMut::bf16_bits(&mut [0; 3], [4]), ErrorKind::Invalid, "3 elements");
}

static REFUSES: AtomicBool = AtomicBool::new(false);
static HELD: AtomicU64 = AtomicU64::new(0);

fn layout(size: u64, alignment: u64) -> std::alloc::Layout {
    std::alloc::Layout::from_size_align(size.max(1) as usize, alignment as usize).unwrap()
}

unsafe extern "C" fn allocate(_: *mut c_void, size: u64, alignment: u64) -> *mut c_void {
    if REFUSES.load(Ordering::SeqCst) {
        return std::ptr::null_mut();
    }
    HELD.fetch_add(size, Ordering::SeqCst);
    std::alloc::alloc(layout(size, alignment)).cast()
}

unsafe extern "C" fn release(_: *mut c_void, memory: *mut c_void, size: u64, alignment: u64) {
    HELD.fetch_sub(size, Ordering::SeqCst);
    std::alloc::dealloc(memory.cast(), layout(size, alignment));
}

#[test]
fn no_memory_and_an_allocator_of_ones_own() {
    let own = sys::oscar_allocator { user: std::ptr::null_mut(), allocate: Some(allocate), release: Some(release) };
    let config = unsafe { small_config("2bit").allocator(own) };
    let cache = Cache::new(&config).unwrap();
    assert!(HELD.load(Ordering::SeqCst) >= config.capacity_bytes);
    drop(cache);
    assert_eq!(HELD.load(Ordering::SeqCst), 0);
    REFUSES.store(true, Ordering::SeqCst);
    assert_error(Cache::new(&config), ErrorKind::NoMemory, "oscar_cache_create");
}

#[test]
fn no_space() {
    let mut cache = Cache::new(&small_config("exact").max_sequences(1)).unwrap();
    let sequence = cache.open().unwrap();
    let before = contents(&cache);
    assert_error(cache.open(), ErrorKind::NoSpace, "");
    assert_eq!(contents(&cache), before);
    assert_eq!(cache.capacity().unwrap(), 0, "no sequence can be opened");
    assert_error(cache.begin(&[Entry::new(sequence, 1_000_000)]), ErrorKind::Invalid, "");
    assert_eq!(contents(&cache), before);
}

#[test]
fn a_step_that_does_not_fit_changes_nothing() {
    let mut cache = Cache::new(&small_config("exact").capacity_bytes(2 << 20)).unwrap();
    let room = cache.capacity().unwrap();
    assert!(room >= 2048, "{room}");
    let rows = Rows::new(2, 400);
    let sequences: Vec<_> = (0..4).map(|_| cache.open().unwrap()).collect();
    for &sequence in sequences.iter().cycle() {
        let before = contents(&cache);
        if let Err(error) = feed(&mut cache, sequence, &rows, 400) {
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
            assert_eq!(contents(&cache), before);
            break;
        }
    }
    // Closing one makes room.
    cache.close(sequences[3]).unwrap();
    feed(&mut cache, sequences[0], &rows.slice(0, 100), 100).unwrap();
}

#[test]
fn not_found() {
    let mut cache = Cache::new(&small_config("exact")).unwrap();
    let nobody = cache.sequence(12345 << 32 | 1);
    assert_error(cache.begin(&[Entry::new(nobody, 1)]), ErrorKind::NotFound, "");
}

#[test]
fn state() {
    let mut cache = Cache::new(&small_config("exact")).unwrap();
    let sequence = cache.open().unwrap();
    let open = cache.begin(&[Entry::new(sequence, 1)]).unwrap().suspend();
    assert_error(cache.close(sequence), ErrorKind::State, "step");
    cache.resume(open).unwrap().abort().unwrap();
    cache.close(sequence).unwrap();
}

#[test]
fn unsupported() {
    let config = small_config("exact").key_dim(72);
    assert_error(Cache::new(&config), ErrorKind::Unsupported, "72");
    let report = oscar::check(&config, 100).unwrap();
    assert!(!report.served && report.reason.contains("72"));
}

#[test]
fn corrupt() {
    for bytes in [&b""[..], b"not a calibration", &[0; 100]] {
        assert_error(Calibration::load(bytes), ErrorKind::Corrupt, "");
    }
}
