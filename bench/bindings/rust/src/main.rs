//! What calls cost from Rust, beside in_c.c: the same calls and the same numbers. Tensors are made for every call, as a
//! program does whose slices move.
//!
//!   in_rust       one JSON object a line: the least time of a call in ns

use std::time::Instant;

use oscar::{Attend, Cache, Config, Entry, Result, Sequence, Tensor, TensorMut};

const CALLS: u32 = 256;
const BATCHES: u32 = 1000;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const DIM: usize = 64;

struct Loops {
    cache: Cache,
    sequence: Sequence,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    out: Vec<f32>,
}

impl Loops {
    fn new() -> Result<Loops> {
        let config = Config::new("2bit")?
            .n_layers(CALLS)
            .n_q_heads(HEADS as u32)
            .n_kv_heads(KV_HEADS as u32)
            .key_dim(DIM as u32)
            .max_tokens(4096)
            .max_step_tokens(16)
            .capacity_bytes(256 << 20);
        let mut cache = Cache::new(&config)?;
        let sequence = cache.open()?;
        let k: Vec<f32> = (0..KV_HEADS * DIM).map(|i| (i * 29 % 50) as f32 / 32.0 - 1.0).collect();
        Ok(Loops {
            cache,
            sequence,
            q: (0..HEADS * DIM).map(|i| (i * 37 % 64) as f32 / 32.0 - 1.0).collect(),
            v: k.clone(),
            k,
            out: vec![0.0; HEADS * DIM],
        })
    }

    fn length(&mut self) -> Result<u128> {
        let start = Instant::now();
        for _ in 0..CALLS {
            self.cache.length(self.sequence)?;
        }
        Ok(start.elapsed().as_nanos())
    }

    fn step(&mut self) -> Result<u128> {
        let start = Instant::now();
        for _ in 0..CALLS {
            self.cache.begin(&[Entry::padding(1)])?.abort()?;
        }
        Ok(start.elapsed().as_nanos())
    }

    fn append(&mut self) -> Result<u128> {
        let mut step = self.cache.begin(&[Entry::padding(1)])?;
        let start = Instant::now();
        for _ in 0..CALLS {
            step.append(0, Tensor::new(&self.k, [1, KV_HEADS, DIM])?, Tensor::new(&self.v, [1, KV_HEADS, DIM])?)?;
        }
        let took = start.elapsed().as_nanos();
        step.abort()?;
        Ok(took)
    }

    fn attend(&mut self) -> Result<u128> {
        let mut step = self.cache.begin(&[Entry::padding(1)])?;
        step.append(0, Tensor::new(&self.k, [1, KV_HEADS, DIM])?, Tensor::new(&self.v, [1, KV_HEADS, DIM])?)?;
        let start = Instant::now();
        for _ in 0..CALLS {
            let out = TensorMut::new(&mut self.out, [1, HEADS, DIM])?;
            step.attend(0, Attend::new(Tensor::new(&self.q, [1, HEADS, DIM])?, out))?;
        }
        let took = start.elapsed().as_nanos();
        step.abort()?;
        Ok(took)
    }

    fn layer(&mut self) -> Result<u128> {
        let mut step = self.cache.begin(&[Entry::padding(1)])?;
        let start = Instant::now();
        for layer in 0..CALLS {
            let out = TensorMut::new(&mut self.out, [1, HEADS, DIM])?;
            step.layer(
                layer,
                Tensor::new(&self.k, [1, KV_HEADS, DIM])?,
                Tensor::new(&self.v, [1, KV_HEADS, DIM])?,
                Attend::new(Tensor::new(&self.q, [1, HEADS, DIM])?, out),
            )?;
        }
        let took = start.elapsed().as_nanos();
        step.abort()?;
        Ok(took)
    }

    fn report(&mut self, call: &str, time_batch: fn(&mut Loops) -> Result<u128>) -> Result<()> {
        let mut least = u128::MAX;
        for _ in 0..BATCHES {
            least = least.min(time_batch(self)?);
        }
        println!(r#"{{"call": "{call}", "ns": {:.1}}}"#, least as f64 / f64::from(CALLS));
        Ok(())
    }

    fn report_sum(&mut self) -> Result<()> {
        let mut step = self.cache.begin(&[Entry::new(self.sequence, 1)])?;
        step.layer(
            0,
            Tensor::new(&self.k, [1, KV_HEADS, DIM])?,
            Tensor::new(&self.v, [1, KV_HEADS, DIM])?,
            Attend::new(Tensor::new(&self.q, [1, HEADS, DIM])?, TensorMut::new(&mut self.out, [1, HEADS, DIM])?),
        )?;
        step.abort()?;
        println!(r#"{{"sum": {:.3}}}"#, self.out.iter().sum::<f32>());
        Ok(())
    }
}

fn main() -> Result<()> {
    let mut loops = Loops::new()?;
    loops.report("length", Loops::length)?;
    loops.report("begin, abort", Loops::step)?;
    loops.report("append", Loops::append)?;
    loops.report("attend", Loops::attend)?;
    loops.report("layer", Loops::layer)?;
    loops.report_sum()
}
