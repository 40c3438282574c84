//! Byte-level BPE of SmolLM2, from the vocabulary and merges in the model file.

use anyhow::{anyhow, ensure, Context, Result};
use tokenizers::models::bpe::{Vocab, BPE};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, Tokenizer as BytePairTokenizer};

use crate::model::Gguf;

const CONTROL: i32 = 3; // GGUF's token type of special tokens such as <|im_start|>
const SYSTEM: &str = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";

pub struct Tokenizer {
    bpe: BytePairTokenizer,
    pub end: u32, // <|im_end|>, which closes every turn of a chat
}

impl Tokenizer {
    pub fn load(gguf: &Gguf) -> Result<Tokenizer> {
        let list = |name: &str| -> Result<Vec<String>> {
            let values = gguf.value(&format!("tokenizer.ggml.{name}"))?.to_vec()?;
            values.iter().map(|value| Ok(value.to_string()?.clone())).collect()
        };
        let names = list("tokens")?;
        let merges = list("merges")?
            .iter()
            .map(|merge| {
                merge.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).context("a merge has no space")
            })
            .collect::<Result<Vec<_>>>()?;
        let kinds = gguf.value("tokenizer.ggml.token_type")?.to_vec()?;
        ensure!(kinds.len() == names.len(), "{} kinds of {} tokens", kinds.len(), names.len());
        let vocabulary: Vocab = names.iter().cloned().zip(0..).collect();
        let model = BPE::builder().vocab_and_merges(vocabulary, merges).build().map_err(|error| anyhow!(error))?;
        let mut bpe = BytePairTokenizer::new(model);
        bpe.with_pre_tokenizer(Some(Sequence::new(vec![
            Digits::new(true).into(),
            ByteLevel::default().add_prefix_space(false).into(),
        ])));
        bpe.with_decoder(Some(ByteLevel::default()));
        let mut special = Vec::new();
        for (name, kind) in names.iter().zip(kinds) {
            if kind.to_i32()? == CONTROL {
                special.push(AddedToken::from(name.clone(), true));
            }
        }
        bpe.add_special_tokens(&special);
        Ok(Tokenizer { bpe, end: gguf.value("tokenizer.ggml.eos_token_id")?.to_u32()? })
    }

    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.bpe.encode(text, false).map_err(|error| anyhow!(error))?.get_ids().to_vec())
    }

    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.bpe.decode(tokens, true).map_err(|error| anyhow!(error))
    }

    /// The tokens of a first turn up to where the answer starts, as in the model's template (ChatML).
    pub fn chat(&self, prompt: &str) -> Result<Vec<u32>> {
        self.encode(&format!(
            "<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        ))
    }
}
