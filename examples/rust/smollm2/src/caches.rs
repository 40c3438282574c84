//! Two caches for the same model: candle's own tensors, exact, and liboscar's, at 2 bits.

use anyhow::{bail, Context, Result};
use candle_core::{CpuStorage, Device, Storage, Tensor as CandleTensor, D};
use candle_nn::ops::softmax_last_dim;
use oscar::{Attend, Cache, Config, Entry, Sequence, Tensor, TensorMut};

use crate::model::Model;

/// Reads tokens, one step after the other, and gives the logits of each: [n, vocabulary].
pub trait Reader {
    fn read(&mut self, model: &Model, tokens: &[u32]) -> Result<CandleTensor>;
}

/// Keys and values as candle keeps them: float32, one growing tensor a layer.
#[derive(Default)]
pub struct Exact {
    layers: Vec<(CandleTensor, CandleTensor)>, // [n_kv_heads, n_tokens, head_dim]
    n_tokens: usize,
}

impl Reader for Exact {
    fn read(&mut self, model: &Model, tokens: &[u32]) -> Result<CandleTensor> {
        let first = self.n_tokens;
        self.n_tokens += tokens.len();
        model.forward(tokens, first, |layer, q, k, v| {
            let (mut k, mut v) = (k.transpose(0, 1)?.contiguous()?, v.transpose(0, 1)?.contiguous()?);
            if let Some((old_k, old_v)) = self.layers.get(layer) {
                (k, v) = (CandleTensor::cat(&[old_k, &k], 1)?, CandleTensor::cat(&[old_v, &v], 1)?);
                self.layers[layer] = (k.clone(), v.clone());
            } else {
                self.layers.push((k.clone(), v.clone()));
            }
            attention(q, &k, &v, first)
        })
    }
}

/// softmax(q k^T / sqrt(d)) v, causal. q: [n, n_q_heads, d]; k, v: [n_kv_heads, n_tokens, d].
fn attention(q: &CandleTensor, k: &CandleTensor, v: &CandleTensor, first: usize) -> Result<CandleTensor> {
    let (n, n_q_heads, dim) = q.dims3()?;
    let (n_kv_heads, n_tokens, _) = k.dims3()?;
    // Query heads of a KV head stand behind one another as more rows: [n_kv_heads, group * n, d].
    let group = n_q_heads / n_kv_heads;
    let rows = q.transpose(0, 1)?.contiguous()?.reshape((n_kv_heads, group * n, dim))?;
    let logits = (rows.matmul(&k.transpose(1, 2)?.contiguous()?)? / (dim as f64).sqrt())?;
    let hidden: Vec<f32> = (0..group * n)
        .flat_map(|row| (0..n_tokens).map(move |t| if t <= first + row % n { 0.0 } else { f32::NEG_INFINITY }))
        .collect();
    let mask = CandleTensor::from_vec(hidden, (1, group * n, n_tokens), &Device::Cpu)?;
    let weights = softmax_last_dim(&logits.broadcast_add(&mask)?)?;
    Ok(weights.matmul(v)?.reshape((n_q_heads, n, dim))?.transpose(0, 1)?.contiguous()?)
}

/// Keys and values in liboscar.
pub struct Packed {
    cache: Cache,
    sequence: Sequence,
}

impl Packed {
    pub fn new(model: &Model, max_tokens: usize) -> Result<Packed> {
        let config = Config::new("2bit")?
            .n_layers(model.n_layers as u32)
            .n_q_heads(model.n_q_heads as u32)
            .n_kv_heads(model.n_kv_heads as u32)
            .key_dim(model.head_dim as u32)
            .n_sink(4)
            .n_recent(32) // few exact tokens, so that the packed ones have to do the work
            .max_rollback(1)
            .max_tokens(max_tokens as u64)
            .max_step_tokens(max_tokens as u32)
            .max_sequences(1)
            .capacity_bytes(64 << 20);
        let mut cache = Cache::new(&config)?;
        let sequence = cache.open()?;
        Ok(Packed { cache, sequence })
    }

    /// Tokens, those of them that are packed, and bits per element of all that is kept.
    pub fn usage(&self) -> Result<(u64, u64, f64)> {
        let stats = self.cache.stats()?;
        Ok((stats.n_tokens, stats.n_packed_tokens, stats.bits_per_element))
    }
}

impl Reader for Packed {
    fn read(&mut self, model: &Model, tokens: &[u32]) -> Result<CandleTensor> {
        let first = self.cache.length(self.sequence)? as usize;
        let mut step = self.cache.begin(&[Entry::new(self.sequence, tokens.len() as u32)])?;
        let logits = model.forward(tokens, first, |layer, q, k, v| {
            let mut out = vec![0.0_f32; q.elem_count()];
            borrowed(q, |q| {
                borrowed(k, |k| {
                    borrowed(v, |v| {
                        let out = TensorMut::new(&mut out, q.shape)?;
                        step.layer(layer as u32, k.tensor()?, v.tensor()?, Attend::new(q.tensor()?, out))?;
                        Ok(())
                    })
                })
            })?;
            Ok(CandleTensor::from_vec(out, q.shape(), &Device::Cpu)?)
        })?;
        step.end()?;
        Ok(logits)
    }
}

/// The memory of a candle tensor.
struct Borrowed<'a> {
    numbers: &'a [f32],
    shape: [usize; 3],
}

impl<'a> Borrowed<'a> {
    fn tensor(&self) -> oscar::Result<Tensor<'a>> {
        Tensor::new(self.numbers, self.shape)
    }
}

/// Nothing is copied: liboscar reads what candle has computed.
fn borrowed<T>(tensor: &CandleTensor, use_it: impl FnOnce(Borrowed<'_>) -> Result<T>) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(all)) = &*storage else { bail!("wanted float32 on the CPU") };
    let (begin, end) = layout.contiguous_offsets().context("wanted a dense tensor")?;
    let (tokens, heads, dim) = tensor.dims3()?;
    use_it(Borrowed { numbers: &all[begin..end], shape: [tokens, heads, dim] })
}

/// Row `row` of logits, as log-probabilities.
pub fn log_probabilities(logits: &CandleTensor, row: usize) -> Result<Vec<f32>> {
    Ok(candle_nn::ops::log_softmax(&logits.get(row)?, D::Minus1)?.to_vec1()?)
}
