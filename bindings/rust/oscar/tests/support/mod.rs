//! What the tests compare with: attention in double precision, over numbers of a seeded generator.
#![allow(dead_code)] // every test program uses its own part

use oscar::{Attend, Cache, Config, Entry, Result, Sequence, Tensor, TensorMut};

pub const N_Q_HEADS: usize = 4;
pub const N_KV_HEADS: usize = 2;
pub const DIM: usize = 64;
pub const Q: usize = N_Q_HEADS * DIM;
pub const KV: usize = N_KV_HEADS * DIM;

/// A small cache that packs early.
pub fn small_config(profile: &str) -> Config {
    Config::new(profile)
        .unwrap()
        .n_layers(1)
        .n_q_heads(N_Q_HEADS as u32)
        .n_kv_heads(N_KV_HEADS as u32)
        .key_dim(DIM as u32)
        .n_sink(4)
        .n_recent(32)
        .max_rollback(8)
        .max_sequences(4)
        .max_step_tokens(512)
        .max_tokens(2048)
        .capacity_bytes(32 << 20)
}

/// Approximately normal numbers: sums of twelve uniform ones of SplitMix64.
pub fn normal(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut uniform = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..n).map(|_| ((0..12).map(|_| uniform()).sum::<f64>() - 6.0) as f32).collect()
}

/// The bits of a number rounded to BF16, to nearest even; no NaN among them.
pub fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

pub fn of_bf16_bits(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

pub fn bf16(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&x| of_bf16_bits(bf16_bits(x))).collect()
}

/// Queries, keys and values of n tokens.
pub struct Rows {
    pub n: usize,
    pub q: Vec<f32>,
    pub k: Vec<f32>,
    pub v: Vec<f32>,
}

impl Rows {
    pub fn new(seed: u64, n: usize) -> Rows {
        Rows { n, q: normal(3 * seed, n * Q), k: normal(3 * seed + 1, n * KV), v: normal(3 * seed + 2, n * KV) }
    }

    pub fn slice(&self, first: usize, end: usize) -> Rows {
        Rows {
            n: end - first,
            q: self.q[first * Q..end * Q].to_vec(),
            k: self.k[first * KV..end * KV].to_vec(),
            v: self.v[first * KV..end * KV].to_vec(),
        }
    }

    pub fn k(&self) -> Tensor<'_> {
        Tensor::new(&self.k, [self.n, N_KV_HEADS, DIM]).unwrap()
    }

    pub fn v(&self) -> Tensor<'_> {
        Tensor::new(&self.v, [self.n, N_KV_HEADS, DIM]).unwrap()
    }

    pub fn q(&self) -> Tensor<'_> {
        Tensor::new(&self.q, [self.n, N_Q_HEADS, DIM]).unwrap()
    }

    pub fn out<'a>(&self, out: &'a mut [f32]) -> TensorMut<'a> {
        TensorMut::new(out, [self.n, N_Q_HEADS, DIM]).unwrap()
    }
}

/// Gives a sequence all rows in steps of at most `chunk`; what attention said.
pub fn feed(cache: &mut Cache, sequence: Sequence, rows: &Rows, chunk: usize) -> Result<Vec<f32>> {
    let mut outs = Vec::new();
    for first in (0..rows.n).step_by(chunk) {
        let part = rows.slice(first, rows.n.min(first + chunk));
        let mut out = vec![0.0; part.n * Q];
        let mut step = cache.begin(&[Entry::new(sequence, part.n as u32)])?;
        step.layer(0, part.k(), part.v(), Attend::new(part.q(), part.out(&mut out)))?;
        step.end()?;
        outs.extend(out);
    }
    Ok(outs)
}

/// Keys and values of a whole sequence as attention sees them: `[n, N_KV_HEADS, DIM]` each.
pub fn read_all(cache: &Cache, sequence: Sequence) -> Result<(Vec<f32>, Vec<f32>)> {
    let n = cache.length(sequence)? as usize;
    let (mut k, mut v) = (vec![0.0; n * KV], vec![0.0; n * KV]);
    for head in 0..N_KV_HEADS {
        let (end, shape, strides) = (n * KV, [n, DIM], [KV, 1]);
        cache.read(
            sequence,
            0,
            head as u32,
            0..n as u64,
            Some(TensorMut::strided(&mut k[head * DIM..end], shape, strides)?),
            Some(TensorMut::strided(&mut v[head * DIM..end], shape, strides)?),
        )?;
    }
    Ok((k, v))
}

/// What changes the softmax.
#[derive(Default)]
pub struct Options {
    pub scale: Option<f64>,
    pub softcap: f64,
    pub sink_logits: Vec<f32>,
}

/// One row of attention in double precision. `q [N_Q_HEADS, DIM]`; `k`, `v` `[n, N_KV_HEADS, DIM]`; `visible(t)` says
/// whether the query sees token t. Gives `out [N_Q_HEADS, DIM]` and the log-sum-exp of each head.
pub fn attention(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    visible: impl Fn(usize) -> bool,
    options: &Options,
) -> (Vec<f64>, Vec<f64>) {
    let (mut out, mut lse) = (vec![0.0; Q], vec![0.0; N_Q_HEADS]);
    let scale = options.scale.unwrap_or(1.0 / (DIM as f64).sqrt());
    for head in 0..N_Q_HEADS {
        let kv_head = head / (N_Q_HEADS / N_KV_HEADS);
        let q = &q[head * DIM..][..DIM];
        let rows: Vec<usize> = (0..k.len() / KV).filter(|&t| visible(t)).map(|t| t * KV + kv_head * DIM).collect();
        let logits: Vec<f64> = rows
            .iter()
            .map(|&row| {
                let dot: f64 = q.iter().zip(&k[row..]).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                let logit = scale * dot;
                if options.softcap > 0.0 {
                    options.softcap * (logit / options.softcap).tanh()
                } else {
                    logit
                }
            })
            .collect();
        let sink = options.sink_logits.get(head).map(|&logit| f64::from(logit));
        let top = logits.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = logits.iter().copied().chain(sink).map(|logit| (logit - top).exp()).sum();
        for (&row, logit) in rows.iter().zip(&logits) {
            let weight = (logit - top).exp() / total;
            for (to, &from) in out[head * DIM..][..DIM].iter_mut().zip(&v[row..]) {
                *to += weight * f64::from(from);
            }
        }
        lse[head] = top + total.ln();
    }
    (out, lse)
}

/// The largest difference must be at most `tolerance`, and the numbers must say something.
#[track_caller]
pub fn assert_close(got: &[f32], wanted: &[f64], tolerance: f64) {
    assert_eq!(got.len(), wanted.len());
    assert!(wanted.iter().any(|&x| x.abs() > 100.0 * tolerance), "nothing to compare");
    for (i, (&got, &wanted)) in got.iter().zip(wanted).enumerate() {
        assert!((f64::from(got) - wanted).abs() <= tolerance, "element {i}: got {got}, wanted {wanted}");
    }
}

/// Memory of the cache in every sense but the fixed one: equal before and after a call that did nothing.
pub fn contents(cache: &Cache) -> oscar::Stats {
    cache.stats().unwrap()
}
