"""Byte-level BPE of SmolLM2, from the vocabulary and merges in the model file."""

from tokenizers import AddedToken, Tokenizer as BytePairTokenizer, decoders, models, pre_tokenizers

CONTROL = 3  # GGUF's token type of special tokens such as <|im_start|>
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


class Tokenizer:
    def __init__(self, reader):
        field = lambda name: reader.get_field("tokenizer.ggml." + name).contents()
        names = field("tokens")
        merges = [tuple(merge.split(" ")) for merge in field("merges")]
        bpe = BytePairTokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=merges))
        bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        bpe.decoder = decoders.ByteLevel()
        bpe.add_special_tokens(
            [AddedToken(name, special=True) for name, kind in zip(names, field("token_type")) if kind == CONTROL]
        )
        self._bpe = bpe
        self.end = field("eos_token_id")  # <|im_end|>, which closes every turn of a chat

    def encode(self, text):
        return self._bpe.encode(text).ids

    def decode(self, tokens):
        return self._bpe.decode(tokens, skip_special_tokens=True)

    def chat(self, prompt):
        """The tokens of a first turn up to where the answer starts, as in the model's template (ChatML)."""
        turns = [("system", SYSTEM), ("user", prompt)]
        text = "".join(f"<|im_start|>{role}\n{words}<|im_end|>\n" for role, words in turns)
        return self.encode(text + "<|im_start|>assistant\n")
