//! Attention through the binding equals a softmax in double precision over what `read` returns.

mod support;

use oscar::{merge, Attend, Cache, Entry, ErrorKind, Sequence, Tensor, TensorMut};
use support::*;

/// Sums of 64 products and of a few hundred values in FP32.
const TOLERANCE: f64 = 2e-5;

fn causal(q: &[f32], k: &[f32], v: &[f32], last: usize) -> Vec<f64> {
    attention(q, k, v, |t| t <= last, &Options::default()).0
}

#[test]
fn exact_storage_is_softmax_attention_over_bf16() {
    let rows = Rows::new(1, 200);
    let mut cache = Cache::new(&small_config("exact")).unwrap();
    let sequence = cache.open().unwrap();
    let out = feed(&mut cache, sequence, &rows, 64).unwrap();
    let (k, v) = read_all(&cache, sequence).unwrap();
    assert_eq!((&k, &v), (&bf16(&rows.k), &bf16(&rows.v)));
    for i in 0..rows.n {
        assert_close(&out[i * Q..][..Q], &causal(&rows.q[i * Q..], &k, &v, i), TOLERANCE);
    }
}

#[test]
fn packed_storage_is_softmax_attention_over_what_read_returns() {
    for profile in ["2bit", "2bit-plain", "k3v2", "3bit", "4bit", "8bit"] {
        let rows = Rows::new(2, 600);
        let mut cache = Cache::new(&small_config(profile)).unwrap();
        let sequence = cache.open().unwrap();
        feed(&mut cache, sequence, &rows.slice(0, 599), 50).unwrap();
        // The last step packs nothing more after it: what is read then is what its query saw.
        let out = feed(&mut cache, sequence, &rows.slice(599, 600), 1).unwrap();
        let stats = cache.stats().unwrap();
        assert!(stats.n_packed_tokens >= 128 && stats.n_blocks > 0, "{profile}: {stats:?}");
        let (k, v) = read_all(&cache, sequence).unwrap();
        assert_ne!(k, bf16(&rows.k), "{profile}: packed keys are not the exact ones");
        // Logits of packed tokens are computed in the codes' basis, from queries that were turned into it.
        assert_close(&out, &causal(&rows.q[599 * Q..], &k, &v, 599), 2e-4);
    }
}

#[test]
fn append_then_attend_equals_layer() {
    let rows = Rows::new(3, 9);
    let mut cache = Cache::new(&small_config("2bit")).unwrap();
    let (one, other) = (cache.open().unwrap(), cache.open().unwrap());
    let mut apart = vec![0.0; 9 * Q];
    let mut step = cache.begin(&[Entry::new(one, 9)]).unwrap();
    assert_eq!(step.n_rows(), 9);
    step.append(0, rows.k(), rows.v()).unwrap();
    step.attend(0, Attend::new(rows.q(), rows.out(&mut apart))).unwrap();
    step.end().unwrap();
    let together = feed(&mut cache, other, &rows, 9).unwrap();
    assert_eq!(apart, together);
}

#[test]
fn options_of_attention() {
    let rows = Rows::new(4, 7);
    let sinks = [-1.0, -0.25, 0.5, 1.0];
    let mut cache = Cache::new(&small_config("exact")).unwrap();
    let sequence = cache.open().unwrap();
    let (mut out, mut lse) = (vec![0.0; 7 * Q], vec![0.0; 7 * N_Q_HEADS]);
    let mut step = cache.begin(&[Entry::new(sequence, 7)]).unwrap();
    let attend = Attend::new(rows.q(), rows.out(&mut out))
        .lse(TensorMut::new(&mut lse, [7, N_Q_HEADS]).unwrap())
        .sink_logits(Tensor::new(&sinks, [N_Q_HEADS]).unwrap())
        .scale(0.3)
        .softcap(2.0);
    step.layer(0, rows.k(), rows.v(), attend).unwrap();
    step.end().unwrap();
    let (k, v) = read_all(&cache, sequence).unwrap();
    let options = Options { scale: Some(f64::from(0.3_f32)), softcap: 2.0, sink_logits: sinks.to_vec() };
    for i in 0..7 {
        let (wanted, wanted_lse) = attention(&rows.q[i * Q..], &k, &v, |t| t <= i, &options);
        assert_close(&out[i * Q..][..Q], &wanted, TOLERANCE);
        assert_close(&lse[i * N_Q_HEADS..][..N_Q_HEADS], &wanted_lse, TOLERANCE);
    }
}

#[test]
fn a_mask_is_a_tree_of_drafts() {
    let rows = Rows::new(5, 14);
    // After ten tokens a root with two children, and a child of the second one.
    let parents: [&[usize]; 4] = [&[], &[0], &[0], &[0, 2]];
    let mut mask = [0_u8; 16];
    for (i, seen) in parents.iter().enumerate() {
        seen.iter().for_each(|j| mask[4 * i + j] = 1);
    }
    let mut cache = Cache::new(&small_config("exact")).unwrap();
    let sequence = cache.open().unwrap();
    feed(&mut cache, sequence, &rows.slice(0, 10), 10).unwrap();
    let tree = rows.slice(10, 14);
    let mut out = vec![0.0; 4 * Q];
    let mut step = cache.begin(&[Entry::new(sequence, 4).n_draft(4)]).unwrap();
    let attend = Attend::new(tree.q(), tree.out(&mut out)).mask(Tensor::new(&mask, [4, 4]).unwrap());
    step.layer(0, tree.k(), tree.v(), attend).unwrap();
    step.end().unwrap();
    let (k, v) = (bf16(&rows.k), bf16(&rows.v));
    for (i, seen) in parents.iter().enumerate() {
        let visible = |t: usize| t < 10 || t == 10 + i || seen.contains(&(t.wrapping_sub(10)));
        let (wanted, _) = attention(&tree.q[i * Q..], &k, &v, visible, &Options::default());
        assert_close(&out[i * Q..][..Q], &wanted, TOLERANCE);
    }
}

#[test]
fn a_ragged_batch_with_padding() {
    let rows = Rows::new(6, 9);
    let mut cache = Cache::new(&small_config("exact")).unwrap();
    let (one, other) = (cache.open().unwrap(), cache.open().unwrap());
    let (mut out, mut lse) = (vec![1.0; 9 * Q], vec![1.0; 9 * N_Q_HEADS]);
    let mut step = cache.begin(&[Entry::new(one, 5), Entry::padding(1), Entry::new(other, 3)]).unwrap();
    assert_eq!(step.n_rows(), 9);
    let attend = Attend::new(rows.q(), rows.out(&mut out)).lse(TensorMut::new(&mut lse, [9, N_Q_HEADS]).unwrap());
    step.layer(0, rows.k(), rows.v(), attend).unwrap();
    step.end().unwrap();
    assert_eq!((cache.length(one).unwrap(), cache.length(other).unwrap()), (5, 3));
    for (first, n) in [(0, 5), (6, 3)] {
        let part = rows.slice(first, first + n);
        let (k, v) = (bf16(&part.k), bf16(&part.v));
        for i in 0..n {
            assert_close(&out[(first + i) * Q..][..Q], &causal(&part.q[i * Q..], &k, &v, i), TOLERANCE);
        }
    }
    assert!(out[5 * Q..6 * Q].iter().all(|&x| x == 0.0));
    assert!(lse[5 * N_Q_HEADS..6 * N_Q_HEADS].iter().all(|&x| x == f32::NEG_INFINITY));
}

#[test]
fn a_sliding_window() {
    let rows = Rows::new(7, 90);
    let mut cache = Cache::new(&small_config("exact").window(20)).unwrap();
    let sequence = cache.open().unwrap();
    let out = feed(&mut cache, sequence, &rows, 7).unwrap();
    let (k, v) = (bf16(&rows.k), bf16(&rows.v));
    for i in 0..rows.n {
        let (wanted, _) = attention(&rows.q[i * Q..], &k, &v, |t| t <= i && t + 20 > i, &Options::default());
        assert_close(&out[i * Q..][..Q], &wanted, TOLERANCE);
    }
    // What the window has dropped cannot be read any more.
    let mut k = vec![0.0; DIM];
    let gone = cache.read(sequence, 0, 0, 0..1, Some(TensorMut::new(&mut k, [1, DIM]).unwrap()), None);
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::State);
}

#[test]
fn sixteen_bit_tensors_give_the_same_as_the_numbers_they_hold() {
    let rows = Rows::new(8, 6);
    let bits = |values: &[f32]| values.iter().map(|&x| bf16_bits(x)).collect::<Vec<u16>>();
    let (q, k, v) = (bits(&rows.q), bits(&rows.k), bits(&rows.v));
    let mut cache = Cache::new(&small_config("exact")).unwrap();
    let (one, other) = (cache.open().unwrap(), cache.open().unwrap());
    let mut out = vec![0_u16; 6 * Q];
    let mut step = cache.begin(&[Entry::new(one, 6)]).unwrap();
    step.layer(
        0,
        Tensor::bf16_bits(&k, [6, N_KV_HEADS, DIM]).unwrap(),
        Tensor::bf16_bits(&v, [6, N_KV_HEADS, DIM]).unwrap(),
        Attend::new(
            Tensor::bf16_bits(&q, [6, N_Q_HEADS, DIM]).unwrap(),
            TensorMut::bf16_bits(&mut out, [6, N_Q_HEADS, DIM]).unwrap(),
        ),
    )
    .unwrap();
    step.end().unwrap();
    let rounded = Rows { n: 6, q: bf16(&rows.q), k: bf16(&rows.k), v: bf16(&rows.v) };
    let wanted = feed(&mut cache, other, &rounded, 6).unwrap();
    assert_eq!(out, bits(&wanted));
}

#[test]
fn f16_is_not_bf16() {
    // 1.0 is 0x3c00 as F16 and 0x3f80 as BF16.
    let (k, v, q) = (vec![0x3c00_u16; KV], vec![0x3c00_u16; KV], vec![0x3f80_u16; Q]);
    let mut out = vec![0_u16; Q];
    let mut cache = Cache::new(&small_config("exact")).unwrap();
    let sequence = cache.open().unwrap();
    let mut step = cache.begin(&[Entry::new(sequence, 1)]).unwrap();
    step.layer(
        0,
        Tensor::f16_bits(&k, [1, N_KV_HEADS, DIM]).unwrap(),
        Tensor::f16_bits(&v, [1, N_KV_HEADS, DIM]).unwrap(),
        Attend::new(
            Tensor::bf16_bits(&q, [1, N_Q_HEADS, DIM]).unwrap(),
            TensorMut::f16_bits(&mut out, [1, N_Q_HEADS, DIM]).unwrap(),
        ),
    )
    .unwrap();
    step.end().unwrap();
    assert!(out.iter().all(|&bits| bits == 0x3c00));
    let (k, _) = read_all(&cache, sequence).unwrap();
    assert!(k.iter().all(|&x| x == 1.0));
}

#[cfg(feature = "half")]
#[test]
fn tensors_of_the_half_crate() {
    use half::{bf16, f16};
    let rows = Rows::new(12, 5);
    let k: Vec<bf16> = rows.k.iter().map(|&x| bf16::from_f32(x)).collect();
    let v: Vec<bf16> = rows.v.iter().map(|&x| bf16::from_f32(x)).collect();
    let q: Vec<f16> = rows.q.iter().map(|&x| f16::from_f32(x)).collect();
    let mut out = vec![f16::ZERO; 5 * Q];
    let mut cache = Cache::new(&small_config("exact")).unwrap();
    let (one, other) = (cache.open().unwrap(), cache.open().unwrap());
    let mut step = cache.begin(&[Entry::new(one, 5)]).unwrap();
    step.layer(
        0,
        Tensor::new(&k, [5, N_KV_HEADS, DIM]).unwrap(),
        Tensor::new(&v, [5, N_KV_HEADS, DIM]).unwrap(),
        Attend::new(
            Tensor::new(&q, [5, N_Q_HEADS, DIM]).unwrap(),
            TensorMut::new(&mut out, [5, N_Q_HEADS, DIM]).unwrap(),
        ),
    )
    .unwrap();
    step.end().unwrap();
    let q: Vec<f32> = q.iter().map(|x| x.to_f32()).collect();
    let wanted = feed(&mut cache, other, &Rows { q, ..rows }, 5).unwrap();
    assert_eq!(out, wanted.iter().map(|&x| f16::from_f32(x)).collect::<Vec<f16>>());
}

#[test]
fn strided_inputs_are_read_where_they_lie() {
    // q, k and v as a fused projection leaves them: one row after the other.
    let (rows, width) = (Rows::new(9, 8), Q + 2 * KV);
    let mut fused = Vec::new();
    for i in 0..8 {
        fused.extend_from_slice(&rows.q[i * Q..][..Q]);
        fused.extend_from_slice(&rows.k[i * KV..][..KV]);
        fused.extend_from_slice(&rows.v[i * KV..][..KV]);
    }
    let mut cache = Cache::new(&small_config("exact")).unwrap();
    let (one, other) = (cache.open().unwrap(), cache.open().unwrap());
    let mut out = vec![0.0; 8 * Q];
    let part = |first: usize, heads: usize| Tensor::strided(&fused[first..], [8, heads, DIM], [width, DIM, 1]).unwrap();
    let mut step = cache.begin(&[Entry::new(one, 8)]).unwrap();
    let attend = Attend::new(part(0, N_Q_HEADS), rows.out(&mut out));
    step.layer(0, part(Q, N_KV_HEADS), part(Q + KV, N_KV_HEADS), attend).unwrap();
    step.end().unwrap();
    assert_eq!(out, feed(&mut cache, other, &rows, 8).unwrap());
}

#[test]
fn scores_are_attention_mass() {
    let rows = Rows::new(10, 40);
    let mut cache = Cache::new(&small_config("2bit")).unwrap();
    let sequence = cache.open().unwrap();
    feed(&mut cache, sequence, &rows, 10).unwrap();
    let mut scores = vec![-1.0; 36];
    // Votes of the newest max_rollback tokens wait, and the four sinks have none.
    cache.scores(sequence, 0, 1, 4..40, TensorMut::new(&mut scores, [36]).unwrap()).unwrap();
    assert!(scores.iter().all(|&score| score >= 0.0) && scores.iter().any(|&score| score > 0.0));
    let mass: f32 = scores.iter().sum();
    assert!(mass < 2.0 * 40.0, "two query heads of 40 tokens give at most 80, not {mass}");
    let exact = Cache::new(&small_config("exact")).and_then(|mut cache| {
        let sequence = cache.open()?;
        cache.scores(sequence, 0, 0, 0..0, TensorMut::new(&mut [0.0_f32; 0], [0])?)
    });
    assert_eq!(exact.unwrap_err().kind(), ErrorKind::State);
}

#[test]
fn merge_joins_disjoint_parts() {
    let rows = Rows::new(11, 30);
    let (k, v) = (bf16(&rows.k), bf16(&rows.v));
    let q = &rows.q[29 * Q..];
    let parts = [
        attention(q, &k, &v, |t| t < 15, &Options::default()),
        attention(q, &k, &v, |t| t >= 15, &Options::default()),
        (vec![0.0; Q], vec![f64::NEG_INFINITY; N_Q_HEADS]),
    ];
    let outs: Vec<f32> = parts.iter().flat_map(|(out, _)| out).map(|&x| x as f32).collect();
    let lses: Vec<f32> = parts.iter().flat_map(|(_, lse)| lse).map(|&x| x as f32).collect();
    let (mut out, mut lse) = (vec![0.0_f32; Q], vec![0.0_f32; N_Q_HEADS]);
    let outs = Tensor::new(&outs, [3, N_Q_HEADS, DIM]).unwrap();
    let lses = Tensor::new(&lses, [3, N_Q_HEADS]).unwrap();
    merge(
        outs,
        lses,
        TensorMut::new(&mut out, [N_Q_HEADS, DIM]).unwrap(),
        Some(TensorMut::new(&mut lse, [N_Q_HEADS]).unwrap()),
    )
    .unwrap();
    let (wanted, wanted_lse) = attention(q, &k, &v, |_| true, &Options::default());
    assert_close(&out, &wanted, TOLERANCE);
    assert_close(&lse, &wanted_lse, TOLERANCE);
    // The log-sum-exp is optional.
    let mut alone = vec![0.0_f32; Q];
    merge(outs, lses, TensorMut::new(&mut alone, [N_Q_HEADS, DIM]).unwrap(), None).unwrap();
    assert_eq!(alone, out);
    let error = merge(outs, lses, TensorMut::new(&mut alone, [Q]).unwrap(), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn a_step_of_padding_alone() {
    let rows = Rows::new(13, 2);
    let mut cache = Cache::new(&small_config("2bit")).unwrap();
    let mut out = vec![1.0; 2 * Q];
    let mut step = cache.begin(&[Entry::new(Sequence::PADDING, 2)]).unwrap();
    step.layer(0, rows.k(), rows.v(), Attend::new(rows.q(), rows.out(&mut out))).unwrap();
    step.end().unwrap();
    assert!(out.iter().all(|&x| x == 0.0));
    assert_eq!(cache.stats().unwrap().n_tokens, 0);
}
