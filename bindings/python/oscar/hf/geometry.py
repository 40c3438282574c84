"""What a model's configuration means for a cache: layers, heads and windows, or the reason why it is not served."""

from __future__ import annotations

from typing import Any

from transformers.cache_utils import get_layer_types_and_kwargs

import oscar

#: Model types that the tests generate with. Others are refused unless asked for.
TESTED = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3_text", "gpt_oss")


class Geometry:
    """Layers of a decoder as a cache needs them; ``rank`` and ``n_ranks`` where heads are shared out (tensor parallel).

    Raises:
        oscar.UnsupportedError: the model is not served; the text says why.
    """

    def __init__(self, model: Any, allow_untested: bool = False) -> None:
        config = model.config.get_text_config(decoder=True)
        _refuse_unserved(model, config, allow_untested)
        self.rank, self.n_ranks = _tensor_parallel(model)
        self.windows = _windows(config)
        self.n_layers = len(self.windows)
        self.n_q_heads = self._local(config.num_attention_heads, "attention heads")
        n_kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self.n_kv_heads = self._local(n_kv_heads, "key/value heads")
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.max_positions = config.max_position_embeddings
        self.layer_types = list(getattr(config, "layer_types", None) or [])

    def _local(self, n: int, what: str) -> int:
        if n % self.n_ranks:
            raise oscar.UnsupportedError(f"{n} {what} cannot be shared out among {self.n_ranks} ranks")
        return n // self.n_ranks

    def config(self, profile: str, **options: Any) -> oscar.Config:
        """A cache's configuration for this rank's heads."""
        layers = [oscar.LayerConfig(window=window) for window in self.windows] if any(self.windows) else ()
        return oscar.Config(
            profile,
            n_layers=self.n_layers,
            n_q_heads=self.n_q_heads,
            n_kv_heads=self.n_kv_heads,
            key_dim=self.head_dim,
            layers=layers,
            **options,
        )

    def slice(self, calibration: oscar.Calibration) -> oscar.Calibration:
        """This rank's heads of a calibration of the whole model; a calibration of this rank's heads as it is."""
        n_heads = calibration.info().n_heads
        own = self.n_layers * self.n_kv_heads
        if self.n_ranks == 1 or n_heads == own:
            return calibration
        if n_heads != own * self.n_ranks:
            raise oscar.InvalidError(
                f"the calibration has {n_heads} KV heads, the model {own * self.n_ranks} and this rank {own}"
            )
        return calibration.slice([(i, self.rank * self.n_kv_heads, self.n_kv_heads) for i in range(self.n_layers)])


def _windows(config: Any) -> list[int]:
    """Of each layer its sliding window in tokens, the query's own included; 0: attends to everything."""
    windows = []
    for index, (kind, arguments) in enumerate(zip(*get_layer_types_and_kwargs(config))):
        if kind == "full_attention":
            windows.append(0)
        elif kind == "sliding_attention":
            windows.append(int(arguments["sliding_window"]))
        else:
            raise oscar.UnsupportedError(
                f"layer {index} is of type {kind}; OscarCache serves full_attention and sliding_attention"
            )
    return windows


def _tensor_parallel(model: Any) -> tuple[int, int]:
    """Which share of the heads this process has, of how many. A plan may leave attention whole: gpt-oss's does."""
    n_ranks = getattr(model, "tp_size", None) or 1
    if n_ranks == 1:
        return 0, 1
    import torch.distributed

    weight = model.get_decoder().layers[0].self_attn.k_proj.weight
    if not hasattr(weight, "to_local") or weight.to_local().shape == weight.shape:
        return 0, 1
    # Ranks of one tensor-parallel group are neighbours.
    return torch.distributed.get_rank() % n_ranks, n_ranks


def _refuse_unserved(model: Any, config: Any, allow_untested: bool) -> None:
    name = type(model).__name__
    reason = None
    devices = {parameter.device for parameter in model.parameters()}
    if config.model_type not in TESTED and not allow_untested:
        reason = (
            f"model type {config.model_type} was not tested (tested are {', '.join(TESTED)}); allow_untested=True tries"
        )
    elif model.config.is_encoder_decoder:
        reason = "it is an encoder and a decoder; OscarCache serves decoders"
    elif not getattr(model, "_supports_attention_backend", False):
        reason = "its attention cannot be replaced (_supports_attention_backend is not set)"
    elif not getattr(config, "is_causal", True) or getattr(config, "use_bidirectional_attention", False):
        reason = "its attention is not causal"
    elif len(devices) != 1:
        reason = f"its parameters lie on {len(devices)} devices; a cache lives on one"
    elif next(iter(devices)).type not in ("cpu", "cuda"):
        reason = f"its parameters lie on {next(iter(devices))}; a cache lives on the CPU or a CUDA device"
    if reason is not None:
        raise oscar.UnsupportedError(f"{name} is not served by OscarCache: {reason}")
