"""What transformers calls for one layer of an OscarCache."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from transformers.cache_utils import CacheLayerMixin

import oscar

from .attention import KvLength, is_installed, word
from .step import check_call

if TYPE_CHECKING:
    from .cache import OscarCache


class OscarLayer(CacheLayerMixin):
    """Hands its keys and values to the attention that follows, which has the queries too. Lengths and masks are the
    whole cache's."""

    is_croppable = True
    supports_early_init = False

    def __init__(self, cache: OscarCache, index: int, window: int) -> None:
        super().__init__()
        self._cache = weakref.ref(cache)  # no cycle: memory is given back as soon as the cache is dropped
        self.index = index
        self.window = window
        self.is_sliding = window > 0

    @property
    def cache(self) -> OscarCache:
        cache = self._cache()
        if cache is None:
            raise oscar.StateError("the OscarCache of this layer is gone")
        return cache

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        self.is_initialized = True

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Takes the new keys and values; they reach the cache with the attention call, which must come next."""
        if not is_installed(self.cache.model_config):
            raise oscar.StateError(
                f"the model's attention is {self.cache.model_config._attn_implementation}, which knows nothing of an "
                "OscarCache: make a new cache, or keep the attention that its constructor set"
            )
        if word.update is not None and self.index > 0:
            raise oscar.UnsupportedError(f"layer {word.update[0].index} was updated and no attention followed")
        self.is_initialized = True
        word.update = (self, key_states, value_states)
        return key_states, value_states

    def attend(
        self,
        module: Any,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any,
        scaling: float | None = None,
        softcap: float | None = None,
        s_aux: Any = None,
        sliding_window: int | None = None,
        **arguments: Any,
    ) -> Any:
        """``[rows, n_new, heads, dim]`` of queries ``[rows, heads, n_new, dim]``."""
        check_call(module, query, attention_mask, arguments)
        if sliding_window is not None and sliding_window != self.window:
            raise oscar.UnsupportedError(
                f"layer {self.index} has a window of {sliding_window}, its configuration says {self.window}"
            )
        step = self.cache.forward_pass(self.index, query, key, attention_mask)
        out = step.attend(
            self.index,
            query,
            key,
            value,
            scale=scaling or 0.0,
            softcap=softcap or 0.0,
            sink_logits=None if s_aux is None else s_aux.detach().float().contiguous(),
        )
        self.cache.layer_done()
        return out

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return KvLength(self.get_seq_length() + query_length, self.cache), 0

    def get_seq_length(self) -> int:
        return self.cache.n_columns

    def get_max_length(self) -> int:
        return self.cache.max_tokens

    def reset(self) -> None:
        raise NotImplementedError("layers of an OscarCache are reset together: call the cache's reset")

    def offload(self) -> None:
        raise oscar.UnsupportedError("an OscarCache stays on its device")

    def prefetch(self) -> None:
        raise oscar.UnsupportedError("an OscarCache stays on its device")

    def reorder_cache(self, beam_idx: Any) -> None:
        raise NotImplementedError("layers of an OscarCache are reordered together: call the cache's reorder_cache")
