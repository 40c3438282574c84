"""What a cache is made for: geometry and policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from . import _oscar
from .calibration import Calibration
from .errors import InvalidError
from .types import DEFAULT, RopePairing, Tensor, ValueBasis


@dataclass
class LayerConfig:
    """Geometry and policy of one layer, where they differ from the cache's; ``oscar.DEFAULT`` takes the cache's value.

    ``kv_source`` is the index of an earlier layer whose keys and values this one attends to. The other fields mean what
    they mean in :class:`Config`.
    """

    n_q_heads: int = DEFAULT
    n_kv_heads: int = DEFAULT
    key_dim: int = DEFAULT
    value_dim: int = DEFAULT
    window: int = DEFAULT
    storage: int = DEFAULT
    n_refined: int = DEFAULT
    refined_key_bits: int = DEFAULT
    refined_value_bits: int = DEFAULT
    kv_source: int = DEFAULT


@dataclass(eq=False)
class SelfCalibration:
    """How a cache is to calibrate itself: what an :class:`oscar.Calibrator` must be told.

    Args:
        rope_frequencies, rope_pairing, n_positions, value_basis, model, note: as for :class:`oscar.Calibrator`.
    """

    rope_frequencies: Tensor | None = None
    rope_pairing: int = RopePairing.HALF
    n_positions: int = 0
    value_basis: int = ValueBasis.BALANCED
    model: str | None = None
    note: str | None = None


class Config:
    """Geometry and policy of a cache. What is not given takes the value of the named profile.

    Args:
        profile: "2bit" (4 of 128 tokens refined to 4 bits), "2bit-plain" (none refined), "k3v2", "3bit", "4bit",
            "8bit" (CPU only), "exact" (BF16).
        n_layers: layers of the model; the number of ``layers`` where these are given.
        n_q_heads: query heads of a layer, a multiple of ``n_kv_heads``, at most 32 per KV head.
        n_kv_heads: key/value heads of a layer.
        key_dim: head_dim of queries and keys: 64, 80, 96, 128, 192 or 256.
        value_dim: head_dim of values; None: ``key_dim``.
        window: sliding window in tokens, the query's own included; 0: attends to everything.
        storage: an :class:`oscar.Storage`.
        n_refined: tokens of every 128, per KV head, kept at the refined widths, 0 to 128.
        refined_key_bits: 2, 3, 4 or, on the CPU, 8.
        refined_value_bits: 2, 3, 4 or, on the CPU, 8.
        writer: an :class:`oscar.Writer`.
        n_sink: first tokens of a sequence that stay exact for ever.
        n_recent: newest tokens that are exact.
        max_rollback: newest tokens whose votes wait until they can no longer be taken back, at most ``n_recent``.
        max_sequences: sequences open at a time.
        max_open_steps: steps open at a time.
        max_step_tokens: new tokens of one step, all sequences together.
        batch_invariant: 1: a row's bits do not depend on the rest of the batch.
        max_tokens: longest sequence, in tokens.
        capacity_bytes: memory of all sequences together.
        n_threads: threads that work for the cache within a call, the caller's among them. Results do not depend on it.
            CPU only.
        device: "cpu", "cuda" or "cuda:N": where keys and values lie and attention runs.
        layers: a :class:`LayerConfig` for every layer, or nothing.
        calibration: transforms of the layers; None: data-free.
        self_calibrate: a :class:`SelfCalibration`: the cache keeps every token exact and gathers statistics until
            :meth:`oscar.Cache.freeze`; None: it packs from the start. CPU only, and without ``calibration``.

    All of these are attributes that may be changed until a cache is created from them.

    Raises:
        InvalidError: the profile is unknown (the text lists them).
        TypeError: a keyword is unknown.
    """

    __slots__ = (
        "profile",
        "n_layers",
        "n_q_heads",
        "n_kv_heads",
        "key_dim",
        "value_dim",
        "window",
        "storage",
        "n_refined",
        "refined_key_bits",
        "refined_value_bits",
        "writer",
        "n_sink",
        "n_recent",
        "max_rollback",
        "max_sequences",
        "max_open_steps",
        "max_step_tokens",
        "batch_invariant",
        "max_tokens",
        "capacity_bytes",
        "n_threads",
        "device",
        "layers",
        "calibration",
        "self_calibrate",
    )

    profile: str
    n_layers: int
    n_q_heads: int
    n_kv_heads: int
    key_dim: int
    value_dim: int
    window: int
    storage: int
    n_refined: int
    refined_key_bits: int
    refined_value_bits: int
    writer: int
    n_sink: int
    n_recent: int
    max_rollback: int
    max_sequences: int
    max_open_steps: int
    max_step_tokens: int
    batch_invariant: int
    max_tokens: int
    capacity_bytes: int
    n_threads: int
    device: str
    layers: list[LayerConfig]
    calibration: Calibration | None
    self_calibrate: SelfCalibration | None

    def __init__(
        self,
        profile: str = "2bit",
        *,
        n_layers: int | None = None,
        n_q_heads: int | None = None,
        n_kv_heads: int | None = None,
        key_dim: int | None = None,
        value_dim: int | None = None,
        window: int | None = None,
        storage: int | None = None,
        n_refined: int | None = None,
        refined_key_bits: int | None = None,
        refined_value_bits: int | None = None,
        writer: int | None = None,
        n_sink: int | None = None,
        n_recent: int | None = None,
        max_rollback: int | None = None,
        max_sequences: int | None = None,
        max_open_steps: int | None = None,
        max_step_tokens: int | None = None,
        batch_invariant: int | None = None,
        max_tokens: int | None = None,
        capacity_bytes: int | None = None,
        n_threads: int | None = None,
        device: str = "cpu",
        layers: Sequence[LayerConfig] = (),
        calibration: Calibration | None = None,
        self_calibrate: SelfCalibration | None = None,
    ) -> None:
        given = locals()
        defaults = _oscar.oscar_cache_config_init(profile)
        self.profile = profile
        self.device = device
        self.layers = list(layers)
        self.calibration = calibration
        self.self_calibrate = self_calibrate
        for name in _NUMBERS:
            setattr(self, name, getattr(defaults, name) if given[name] is None else given[name])
        if n_layers is None and self.layers:
            self.n_layers = len(self.layers)

    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name in _NUMBERS]
        if self.device != "cpu":
            shown.append(f"device={self.device!r}")
        if self.layers:
            shown.append(f"layers={self.layers!r}")
        if self.calibration is not None:
            shown.append(f"calibration={self.calibration!r}")
        if self.self_calibrate is not None:
            shown.append(f"self_calibrate={self.self_calibrate!r}")
        return f"Config({self.profile!r}, {', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Config):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def layer(self, index: int) -> LayerConfig:
        """Geometry and policy of one layer with the cache's values filled in."""
        own = self.layers[index] if self.layers else LayerConfig()
        filled = LayerConfig(kv_source=own.kv_source)
        for name in _LAYER_NUMBERS:
            value = getattr(own, name)
            setattr(filled, name, getattr(self, name) if value == DEFAULT else value)
        if filled.value_dim in (0, DEFAULT):
            filled.value_dim = filled.key_dim
        return filled


_OBJECTS = ("profile", "device", "layers", "calibration", "self_calibrate")
_NUMBERS = tuple(name for name in Config.__slots__ if name not in _OBJECTS)
_LAYER_NUMBERS = tuple(field.name for field in fields(LayerConfig) if field.name != "kv_source")


def device_numbers(device: str) -> tuple[int, int]:
    """DLPack's type of a device, and its index.

    Raises:
        InvalidError: the name is not "cpu", "cuda" or "cuda:N".
    """
    kind, colon, index = device.partition(":")
    if device == "cpu":
        return _oscar.OSCAR_DEVICE_CPU, 0
    if kind != "cuda" or (colon and not index.isdecimal()):
        raise InvalidError(f'device is {device!r}, wanted "cpu", "cuda" or "cuda:N"')
    return _oscar.OSCAR_DEVICE_CUDA, int(index or 0)


class RawConfig:
    """A configuration as the C ABI wants it, with everything that it points to; self_calibrate is a tuple of arguments
    for the raw calls that take one."""

    __slots__ = ("struct", "self_calibrate", "_layers", "_calibration")

    def __init__(self, config: Config) -> None:
        if not isinstance(config, Config):
            raise TypeError(f"config is a {type(config).__name__}, wanted an oscar.Config")
        if not isinstance(config.calibration, (Calibration, type(None))):
            raise TypeError(f"calibration is a {type(config.calibration).__name__}, wanted an oscar.Calibration")
        if not isinstance(config.self_calibrate, (SelfCalibration, type(None))):
            raise TypeError(f"self_calibrate is a {type(config.self_calibrate).__name__}, wanted an oscar.SelfCalibration")
        given = config.self_calibrate or SelfCalibration()
        self.self_calibrate = (
            int(config.self_calibrate is not None),
            given.rope_pairing,
            given.value_basis,
            given.n_positions,
            given.rope_frequencies,
            given.model,
            given.note,
        )
        self.struct = _oscar.oscar_cache_config_init(config.profile)
        for name in _NUMBERS:
            setattr(self.struct, name, getattr(config, name))
        self.struct.device_type, self.struct.device_id = device_numbers(config.device)
        self._layers = self._raw_layers(config.layers)
        self.struct.n_layer_configs = len(config.layers)
        self.struct.layers = self._layers.cast() if self._layers is not None else None
        self._calibration = config.calibration
        self.struct.calibration = config.calibration._handle if config.calibration is not None else None

    @staticmethod
    def _raw_layers(layers: Sequence[LayerConfig]) -> Any:
        if not layers:
            return None
        array = _oscar.LayerConfigArray(len(layers))
        for i, layer in enumerate(layers):
            raw = _oscar.oscar_layer_config()
            for field in fields(LayerConfig):
                setattr(raw, field.name, getattr(layer, field.name))
            array[i] = raw
        return array
