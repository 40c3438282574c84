"""The attention and mask functions that transformers calls, and how keys find the cache that they belong to.

transformers updates a cache and calls attention with what ``update`` returned, but without the cache. An
:class:`OscarLayer` therefore leaves word of the update here (per thread), and the attention that follows takes it. Without
word of an update, both functions do what the model did before: they pass on to the implementation in their name.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Callable

from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import oscar

_PREFIX = "oscar_over_"
#: What may be passed on to.
_UNDERLYING = ("eager", "sdpa")


class _Word(threading.local):
    """What this thread's next attention call must know."""

    #: (layer, keys, values) of an update that no attention has followed yet.
    update: tuple[Any, Any, Any] | None = None
    #: Called with (layer index, q, k, v) where a calibrator listens.
    listener: Callable[..., None] | None = None


word = _Word()


class KvLength(int):
    """The number of keys that a mask is made for, and the cache that has them: all that reaches a mask function."""

    cache: Any

    def __new__(cls, value: int, cache: Any) -> KvLength:
        length = super().__new__(cls, value)
        length.cache = cache
        return length


def install(model: Any) -> None:
    """Gives a model the attention that an OscarCache needs. Without such a cache it attends as before.

    Raises:
        oscar.UnsupportedError: the model's attention implementation cannot be passed on to.
    """
    current = model.config.get_text_config(decoder=True)._attn_implementation
    if current.startswith(_PREFIX):
        return
    if current not in _UNDERLYING:
        raise oscar.UnsupportedError(
            f"the model's attention implementation is {current}; OscarCache stands in for {' or '.join(_UNDERLYING)}: "
            f"call model.set_attn_implementation({_UNDERLYING[1]!r}) first"
        )
    model.set_attn_implementation(_PREFIX + current)
    got = model.config.get_text_config(decoder=True)._attn_implementation
    if got != _PREFIX + current:
        raise oscar.UnsupportedError(f"{type(model).__name__} did not take another attention: it still has {got}")


def is_installed(config: Any) -> bool:
    """Whether the attention of a model with this configuration is this file's."""
    return str(config._attn_implementation).startswith(_PREFIX)


def _attend(
    underlying: str, module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **arguments: Any
) -> tuple[Any, None]:
    update, word.update = word.update, None
    if update is not None:
        layer, keys, values = update
        if key is not keys or value is not values:
            raise oscar.UnsupportedError(
                f"{type(module).__name__} changes keys or values between cache.update and attention"
            )
        return layer.attend(module, query, key, value, attention_mask, **arguments), None
    if word.listener is not None:
        word.listener(module.layer_idx, query, key, value)
    if underlying == "eager":
        function = sys.modules[type(module).__module__].eager_attention_forward
    else:
        function = ALL_ATTENTION_FUNCTIONS[underlying]
    return function(module, query, key, value, attention_mask, **arguments)


def _mask(underlying: str, kv_length: int, **arguments: Any) -> Any:
    if isinstance(kv_length, KvLength):
        return kv_length.cache.mask(
            arguments["attention_mask"], arguments["q_length"], arguments.get("allow_is_causal_skip", True)
        )
    return ALL_MASK_ATTENTION_FUNCTIONS[underlying](kv_length=kv_length, **arguments)


def _register(underlying: str) -> None:
    def attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **arguments: Any) -> Any:
        return _attend(underlying, module, query, key, value, attention_mask, **arguments)

    def mask(*, kv_length: int, **arguments: Any) -> Any:
        return _mask(underlying, kv_length, **arguments)

    ALL_ATTENTION_FUNCTIONS.register(_PREFIX + underlying, attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_PREFIX + underlying, mask)


for _name in _UNDERLYING:
    _register(_name)
