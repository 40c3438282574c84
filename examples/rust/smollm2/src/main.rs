//! SmolLM2-135M-Instruct on candle, with its key/value cache replaced by liboscar.
//!
//!   smollm2 MODEL.gguf [PROMPT]
//!
//! The model answers twice: through candle's own tensors, and through the 2-bit cache. Then the 2-bit cache reads the first
//! answer, and its predictions are compared, token by token. Fails where they are far apart.

mod caches;
mod model;
mod tokenizer;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{ensure, Context, Result};
use caches::{log_probabilities, Exact, Packed, Reader};
use candle_core::Tensor;
use model::{Gguf, Model};
use tokenizer::Tokenizer;

const MAX_TOKENS: usize = 1024;
const ANSWER_TOKENS: usize = 96;
/// What the model has read before the question, so that there is something to compress.
const CONTEXT_TOKENS: usize = 300;
const CONTEXT: &str = include_str!("../../../python/text/pride-and-prejudice.txt");
const PROMPT: &str = "Explain how plants make food from sunlight.";
/// Nats. This run: 0.001, without calibration and with few exact tokens.
const MOST_DIVERGENCE: f64 = 0.02;

fn likeliest(logits: &[f32]) -> u32 {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0) as u32
}

fn last_row(logits: &Tensor) -> Result<Vec<f32>> {
    log_probabilities(logits, logits.dim(0)? - 1)
}

/// A greedy answer.
fn answer(model: &Model, reader: &mut dyn Reader, question: &[u32], end: u32) -> Result<Vec<u32>> {
    let mut row = last_row(&reader.read(model, question)?)?;
    let mut tokens = Vec::new();
    while tokens.len() < ANSWER_TOKENS {
        let token = likeliest(&row);
        if token == end {
            break;
        }
        tokens.push(token);
        row = last_row(&reader.read(model, &[token])?)?;
    }
    Ok(tokens)
}

/// Predictions of every token of a text: [log-probabilities].
fn predictions(model: &Model, reader: &mut dyn Reader, question: &[u32], text: &[u32]) -> Result<Vec<Vec<f32>>> {
    let mut rows = vec![last_row(&reader.read(model, question)?)?];
    for &token in text {
        rows.push(last_row(&reader.read(model, &[token])?)?);
    }
    Ok(rows)
}

/// sum p (log p - log q)
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    p.iter().zip(q).map(|(&p, &q)| f64::from(p).exp() * f64::from(p - q)).sum()
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().context("usage: smollm2 MODEL.gguf [PROMPT]")?);
    let prompt = arguments.next().unwrap_or_else(|| PROMPT.to_owned());
    let mut gguf = Gguf::open(&path)?;
    let tokenizer = Tokenizer::load(&gguf)?;
    let model = Model::load(&mut gguf, MAX_TOKENS)?;

    let mut question = tokenizer.encode(CONTEXT)?;
    question.truncate(CONTEXT_TOKENS);
    question.extend(tokenizer.chat(&prompt)?);
    ensure!(question.len() + ANSWER_TOKENS < MAX_TOKENS, "the prompt is too long");

    println!("{prompt}\n");
    let begin = Instant::now();
    let exact = answer(&model, &mut Exact::default(), &question, tokenizer.end)?;
    println!("exact cache of candle ({:.1} s):\n{}\n", begin.elapsed().as_secs_f64(), tokenizer.decode(&exact)?);
    let begin = Instant::now();
    let mut packed = Packed::new(&model, MAX_TOKENS)?;
    let two_bit = answer(&model, &mut packed, &question, tokenizer.end)?;
    println!("2-bit cache of liboscar ({:.1} s):\n{}\n", begin.elapsed().as_secs_f64(), tokenizer.decode(&two_bit)?);
    let (n_tokens, n_packed, bits) = packed.usage()?;
    println!("{n_tokens} tokens, {n_packed} of them packed: {bits:.2} bits per element, all bytes counted");

    let wanted = predictions(&model, &mut Exact::default(), &question, &exact)?;
    let got = predictions(&model, &mut Packed::new(&model, MAX_TOKENS)?, &question, &exact)?;
    let n = wanted.len() as f64;
    let mean = wanted.iter().zip(&got).map(|(p, q)| divergence(p, q)).sum::<f64>() / n;
    let same = wanted.iter().zip(&got).filter(|(p, q)| likeliest(p) == likeliest(q)).count();
    println!(
        "over the exact answer: KL divergence {mean:.4} nats a token, the likeliest token is the same for {same} of {n}"
    );
    ensure!(n_packed > 0, "nothing was packed: the comparison says nothing");
    ensure!(mean < MOST_DIVERGENCE, "the 2-bit cache predicts something else than the exact one");
    Ok(())
}
