//! A toy transformer that decodes through liboscar: prefill in chunks, decode, fork, and what the cache says about
//! itself. The weights are pseudo-random, so the text means nothing; the calls are those of a real engine. Its twin in
//! C is `examples/c/decode.c`.
//!
//!     cargo run --release --example decode

use oscar::{Attend, Cache, Config, Entry, ErrorKind, Result, Sequence, Tensor, TensorMut};

const N_LAYERS: usize = 4;
const N_Q_HEADS: usize = 8;
const N_KV_HEADS: usize = 2;
const HEAD_DIM: usize = 64;
const MODEL_DIM: usize = 128;
const Q_DIM: usize = N_Q_HEADS * HEAD_DIM;
const KV_DIM: usize = N_KV_HEADS * HEAD_DIM;
const N_SYMBOLS: usize = 256; // tokens are bytes
const PROMPT: usize = 1000; // tokens
const MAX_CHUNK: usize = 64; // tokens of one step
const DECODE: usize = 96; // tokens

/// Uniform in (-1, 1): SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((z >> 11) as f64 / (1_u64 << 52) as f64 - 1.0) as f32
    }

    fn matrix(&mut self, n_in: usize, n_out: usize) -> Vec<f32> {
        // Variance 1 of the outputs for inputs of variance 1.
        let scale = (3.0 / n_in as f32).sqrt();
        (0..n_in * n_out).map(|_| scale * self.uniform()).collect()
    }
}

struct Layer {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    out: Vec<f32>,
}

struct Model {
    embedding: Vec<f32>,
    layers: Vec<Layer>,
}

impl Model {
    fn new() -> Model {
        let mut random = Random(1);
        let embedding = (0..N_SYMBOLS * MODEL_DIM).map(|_| random.uniform()).collect();
        let layers = (0..N_LAYERS)
            .map(|_| Layer {
                q: random.matrix(MODEL_DIM, Q_DIM),
                k: random.matrix(MODEL_DIM, KV_DIM),
                v: random.matrix(MODEL_DIM, KV_DIM),
                out: random.matrix(Q_DIM, MODEL_DIM),
            })
            .collect();
        Model { embedding, layers }
    }

    fn most_likely(&self, x: &[f32]) -> u8 {
        let logit = |row: &[f32]| row.iter().zip(x).map(|(a, b)| a * b).sum::<f32>();
        let logits = self.embedding.chunks_exact(MODEL_DIM).map(logit);
        let best = logits.enumerate().fold((0, f32::NEG_INFINITY), |best, new| if new.1 > best.1 { new } else { best });
        best.0 as u8
    }
}

/// y = x w for a row vector x.
fn multiply(x: &[f32], w: &[f32], y: &mut [f32]) {
    y.fill(0.0);
    for (x, row) in x.iter().zip(w.chunks_exact(y.len())) {
        y.iter_mut().zip(row).for_each(|(y, w)| *y += x * w);
    }
}

fn normalized(x: &[f32]) -> Vec<f32> {
    let sum: f32 = 1e-6 + x.iter().map(|x| x * x).sum::<f32>();
    let scale = (MODEL_DIM as f32 / sum).sqrt();
    x.iter().map(|x| scale * x).collect()
}

/// Rotary positions are the engine's business: keys arrive rotated.
fn rotate(heads: &mut [f32], position: u64) {
    for head in heads.chunks_exact_mut(HEAD_DIM) {
        let (low, high) = head.split_at_mut(HEAD_DIM / 2);
        for (i, (a, b)) in low.iter_mut().zip(high).enumerate() {
            let angle = position as f64 * 10000_f64.powf(-2.0 * i as f64 / HEAD_DIM as f64);
            let (sin, cos) = (angle.sin() as f32, angle.cos() as f32);
            (*a, *b) = (cos * *a - sin * *b, sin * *a + cos * *b);
        }
    }
}

/// Runs new tokens through the model, in the order of the step's entries. Gives what follows each of them.
fn run_step(model: &Model, cache: &mut Cache, entries: &[Entry], tokens: &[u8], positions: &[u64]) -> Result<Vec<u8>> {
    let n = tokens.len();
    let mut x: Vec<f32> =
        tokens.iter().flat_map(|&t| &model.embedding[usize::from(t) * MODEL_DIM..][..MODEL_DIM]).copied().collect();
    let (mut q, mut k, mut v) = (vec![0.0; n * Q_DIM], vec![0.0; n * KV_DIM], vec![0.0; n * KV_DIM]);
    let (mut out, mut y) = (vec![0.0; n * Q_DIM], [0.0; MODEL_DIM]);

    let mut step = cache.begin(entries)?; // takes all memory that the pass needs, or none
    for (index, layer) in model.layers.iter().enumerate() {
        for i in 0..n {
            let normal = normalized(&x[i * MODEL_DIM..][..MODEL_DIM]);
            multiply(&normal, &layer.q, &mut q[i * Q_DIM..][..Q_DIM]);
            multiply(&normal, &layer.k, &mut k[i * KV_DIM..][..KV_DIM]);
            multiply(&normal, &layer.v, &mut v[i * KV_DIM..][..KV_DIM]);
            rotate(&mut q[i * Q_DIM..][..Q_DIM], positions[i]);
            rotate(&mut k[i * KV_DIM..][..KV_DIM], positions[i]);
        }
        let attend = Attend::new(
            Tensor::new(&q, [n, N_Q_HEADS, HEAD_DIM])?,
            TensorMut::new(&mut out, [n, N_Q_HEADS, HEAD_DIM])?,
        );
        let (k, v) = (Tensor::new(&k, [n, N_KV_HEADS, HEAD_DIM])?, Tensor::new(&v, [n, N_KV_HEADS, HEAD_DIM])?);
        step.layer(index as u32, k, v, attend)?; // stores the keys and values, and attends
        for (x, out) in x.chunks_exact_mut(MODEL_DIM).zip(out.chunks_exact(Q_DIM)) {
            multiply(out, &layer.out, &mut y);
            x.iter_mut().zip(&y).for_each(|(x, y)| *x += y);
        }
    }
    step.end()?;
    Ok(x.chunks_exact(MODEL_DIM).map(|x| model.most_likely(x)).collect())
}

fn make_cache() -> Result<Cache> {
    let config = Config::new("2bit")?
        .n_layers(N_LAYERS as u32)
        .n_q_heads(N_Q_HEADS as u32)
        .n_kv_heads(N_KV_HEADS as u32)
        .key_dim(HEAD_DIM as u32)
        .max_tokens(32768)
        .max_sequences(4)
        .max_step_tokens(MAX_CHUNK as u32)
        .capacity_bytes(64 << 20);
    let report = oscar::check(&config, 32768)?; // what it will cost, before any memory is taken
    if !report.served {
        println!("not served: {}", report.reason);
    }
    println!(
        "32768 tokens: {} bytes, {} as BF16: {:.2} bits per element",
        report.bytes_sequences, report.bytes_bf16, report.bits_per_element
    );
    Cache::new(&config)
}

/// Prefill: the prompt goes in by chunks. Gives the token that follows it.
fn read_prompt(model: &Model, cache: &mut Cache, sequence: Sequence) -> Result<u8> {
    let mut last = 0;
    for done in (0..PROMPT).step_by(MAX_CHUNK) {
        let range = done..PROMPT.min(done + MAX_CHUNK);
        let tokens: Vec<u8> = range.clone().map(|i| (i * 31 % 97) as u8).collect();
        let positions: Vec<u64> = range.map(|i| i as u64).collect();
        let next = run_step(model, cache, &[Entry::new(sequence, tokens.len() as u32)], &tokens, &positions)?;
        last = next[next.len() - 1];
    }
    Ok(last)
}

/// Decodes two continuations of one prompt side by side: the prompt's blocks are stored once.
fn decode_branches(model: &Model, cache: &mut Cache, branches: [Sequence; 2], mut tokens: [u8; 2]) -> Result<()> {
    let mut n_different = 0;
    for t in 0..DECODE {
        let position = (PROMPT + t) as u64;
        let next = run_step(model, cache, &branches.map(|branch| Entry::new(branch, 1)), &tokens, &[position; 2])?;
        tokens.copy_from_slice(&next);
        n_different += usize::from(tokens[0] != tokens[1]);
    }
    println!("decoded {DECODE} tokens on two branches; they differ at {n_different} places");
    Ok(())
}

fn print_stats(cache: &Cache, when: &str) -> Result<()> {
    let stats = cache.stats()?;
    println!(
        "{when:<14} sequences: {}, tokens: {} (packed: {}), blocks: {}, exact pages: {}",
        stats.n_sequences, stats.n_tokens, stats.n_packed_tokens, stats.n_blocks, stats.n_exact_pages
    );
    Ok(())
}

fn main() -> Result<()> {
    println!("liboscar {}", oscar::version());
    let model = Model::new();
    let mut cache = make_cache()?;

    let prompt = cache.open()?;
    let token = read_prompt(&model, &mut cache, prompt)?;
    print_stats(&cache, "after prefill:")?;

    let branch = cache.fork(prompt, PROMPT as u64)?;
    print_stats(&cache, "after fork:")?;
    // Another first token: another continuation.
    decode_branches(&model, &mut cache, [prompt, branch], [token, token.wrapping_add(1)])?;
    print_stats(&cache, "after decode:")?;

    cache.truncate(branch, PROMPT as u64)?; // as if the second branch had said nothing
    cache.close(branch)?;
    match cache.close(branch) {
        // A stale sequence is an error with a text, not a crash.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("closing it twice: {}: {error}", error.status_name());
        }
        other => return other,
    }
    print_stats(&cache, "after close:")
}
