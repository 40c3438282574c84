// snippet: quickstart
use oscar::{Attend, Cache, Config, Entry, Tensor, TensorMut};

fn main() -> oscar::Result<()> {
    let config = Config::new("2bit")?.n_layers(1).n_q_heads(8).n_kv_heads(2).key_dim(64).capacity_bytes(16 << 20);
    let mut cache = Cache::new(&config)?;
    let sequence = cache.open()?;

    let n = 5; // new tokens
    let (q, k, v) = (vec![0.1; n * 8 * 64], vec![0.2; n * 2 * 64], vec![0.3; n * 2 * 64]);
    let mut out = vec![0.0_f32; n * 8 * 64];
    let mut step = cache.begin(&[Entry::new(sequence, n as u32)])?; // takes all memory that the pass needs, or none
    step.layer(
        0,
        Tensor::new(&k, [n, 2, 64])?,
        Tensor::new(&v, [n, 2, 64])?,
        Attend::new(Tensor::new(&q, [n, 8, 64])?, TensorMut::new(&mut out, [n, 8, 64])?),
    )?;
    step.end()?; // commits; a step that is dropped is aborted

    println!("{} tokens; attention over equal values gives them back: {}", cache.length(sequence)?, out[0]);
    assert!((out[0] - 0.3).abs() < 1e-3); // keys and values are rounded to BF16, then to 2 bits as they age
    Ok(())
}
// end snippet
