// snippet: quickstart
use oscar::{Attend, Cache, Config, Entry, Tensor, TensorMut};

fn main() -> oscar::Result<()> {
    let config = Config::new("2bit")?.n_layers(1).n_q_heads(1).n_kv_heads(1).key_dim(64);
    let mut cache = Cache::new(&config)?;
    let sequence = cache.open()?;

    // To the query of token 1, key 0 has logit 0 and key 1 has logit ln 3: it sees 1/4 and 3/4 of the values.
    let shape = [2, 1, 64]; // tokens, heads, elements
    let (mut q, mut k, mut v, mut out) = ([0.0; 128], [0.0; 128], [0.0; 128], [0.0; 128]);
    (q[64], k[64], v[64]) = (3.0_f32.ln(), 1.0_f32, 1.0_f32);

    let mut step = cache.begin(&[Entry::new(sequence, 2)])?; // takes all memory that the pass needs, or none
    let attend = Attend::new(Tensor::new(&q, shape)?, TensorMut::new(&mut out, shape)?).scale(1.0);
    step.layer(0, Tensor::new(&k, shape)?, Tensor::new(&v, shape)?, attend)?;
    step.end()?; // commits; a step that is dropped is aborted

    println!("token 1 sees {:.3}", out[64]);
    Ok(())
}
// end snippet
