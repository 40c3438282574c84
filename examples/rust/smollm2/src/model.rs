//! The forward pass of a Llama-like model in candle, from a GGUF file. Its attention is somebody else's: a function given
//! to `forward`.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Module, Tensor, D};
use candle_nn::ops::{rms_norm, silu};
use candle_nn::rotary_emb::rope_i;
use candle_nn::Linear;

struct Layer {
    attention_norm: Tensor,
    q: Linear,
    k: Linear,
    v: Linear,
    output: Linear,
    ffn_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

pub struct Model {
    pub n_layers: usize,
    pub n_q_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    eps: f32,
    embedding: Tensor, // [vocabulary, width]
    unembedding: Linear,
    output_norm: Tensor,
    cos: Tensor, // [max_tokens, head_dim / 2]
    sin: Tensor,
    layers: Vec<Layer>,
}

/// The file and what it says about itself.
pub struct Gguf {
    file: File,
    content: Content,
}

impl Gguf {
    pub fn open(path: &Path) -> Result<Gguf> {
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        let content = Content::read(&mut file)?;
        Ok(Gguf { file, content })
    }

    pub fn value(&self, name: &str) -> Result<&Value> {
        self.content.metadata.get(name).with_context(|| format!("the file has no {name}"))
    }

    fn number(&self, name: &str) -> Result<usize> {
        Ok(self.value(&format!("llama.{name}"))?.to_u32()? as usize)
    }

    /// In float32: for the quantization of this file candle has only plain loops.
    fn matrix(&mut self, name: &str) -> Result<Linear> {
        Ok(Linear::new(self.tensor(name)?, None))
    }

    fn tensor(&mut self, name: &str) -> Result<Tensor> {
        let quantized = self.content.tensor(&mut self.file, &format!("{name}.weight"), &Device::Cpu)?;
        Ok(quantized.dequantize(&Device::Cpu)?)
    }

    fn layer(&mut self, index: usize) -> Result<Layer> {
        let name = |part: &str| format!("blk.{index}.{part}");
        Ok(Layer {
            attention_norm: self.tensor(&name("attn_norm"))?,
            q: self.matrix(&name("attn_q"))?,
            k: self.matrix(&name("attn_k"))?,
            v: self.matrix(&name("attn_v"))?,
            output: self.matrix(&name("attn_output"))?,
            ffn_norm: self.tensor(&name("ffn_norm"))?,
            gate: self.matrix(&name("ffn_gate"))?,
            up: self.matrix(&name("ffn_up"))?,
            down: self.matrix(&name("ffn_down"))?,
        })
    }
}

impl Model {
    pub fn load(gguf: &mut Gguf, max_tokens: usize) -> Result<Model> {
        let n_q_heads = gguf.number("attention.head_count")?;
        let head_dim = gguf.number("embedding_length")? / n_q_heads;
        let base = f64::from(gguf.value("llama.rope.freq_base")?.to_f32()?);
        let frequencies: Vec<f32> =
            (0..head_dim / 2).map(|i| base.powf(-2.0 * i as f64 / head_dim as f64) as f32).collect();
        let positions = Tensor::arange(0, max_tokens as u32, &Device::Cpu)?.to_dtype(candle_core::DType::F32)?;
        let angles = positions.unsqueeze(1)?.matmul(&Tensor::new(frequencies, &Device::Cpu)?.unsqueeze(0)?)?;
        let n_layers = gguf.number("block_count")?;
        let embedding = gguf.tensor("token_embd")?;
        Ok(Model {
            n_layers,
            n_q_heads,
            n_kv_heads: gguf.number("attention.head_count_kv")?,
            head_dim,
            eps: gguf.value("llama.attention.layer_norm_rms_epsilon")?.to_f32()?,
            unembedding: Linear::new(embedding.clone(), None), // tied
            embedding,
            output_norm: gguf.tensor("output_norm")?,
            cos: angles.cos()?,
            sin: angles.sin()?,
            layers: (0..n_layers).map(|i| gguf.layer(i)).collect::<Result<_>>()?,
        })
    }

    /// Logits [n, vocabulary] of `tokens` at positions `first` and on.
    ///
    /// `attend(layer, q, k, v)` stores the new keys and values, and gives the attention to all that it holds, of the shape
    /// of q: [n, heads, head_dim], dense, positions applied.
    pub fn forward(
        &self,
        tokens: &[u32],
        first: usize,
        mut attend: impl FnMut(usize, &Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let n = tokens.len();
        let mut x = self.embedding.index_select(&Tensor::new(tokens, &Device::Cpu)?, 0)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let h = rms_norm(&x, &layer.attention_norm, self.eps)?;
            let q = self.rotate(&layer.q.forward(&h)?.reshape((n, self.n_q_heads, self.head_dim))?, first)?;
            let k = self.rotate(&layer.k.forward(&h)?.reshape((n, self.n_kv_heads, self.head_dim))?, first)?;
            let v = layer.v.forward(&h)?.reshape((n, self.n_kv_heads, self.head_dim))?;
            let out = attend(index, &q, &k, &v)?.flatten_from(D::Minus2)?;
            x = (x + layer.output.forward(&out)?)?;
            let h = rms_norm(&x, &layer.ffn_norm, self.eps)?;
            let gated = (silu(&layer.gate.forward(&h)?)? * layer.up.forward(&h)?)?;
            x = (x + layer.down.forward(&gated)?)?;
        }
        Ok(self.unembedding.forward(&rms_norm(&x, &self.output_norm, self.eps)?)?)
    }

    /// RoPE on neighbouring pairs, the order in which llama.cpp stores this model's heads. x: [n, heads, head_dim].
    fn rotate(&self, x: &Tensor, first: usize) -> Result<Tensor> {
        let n = x.dim(0)?;
        let by_head = x.transpose(0, 1)?.contiguous()?.unsqueeze(0)?;
        let turned = rope_i(&by_head, &self.cos.narrow(0, first, n)?, &self.sin.narrow(0, first, n)?)?;
        Ok(turned.squeeze(0)?.transpose(0, 1)?.contiguous()?)
    }
}
