"""Calibrations: the transforms in which a cache stores keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _oscar
from .errors import InvalidError
from .types import DEFAULT, Tensor

if TYPE_CHECKING:
    from .config import Config


@dataclass
class CalibrationLayer:
    """Transforms of one layer, all float32 and dense in their last dimension; they are copied.

    Args:
        key_transform: F, ``[n_kv_heads, key_dim, key_dim]``: keys are stored as ``k @ F``, queries as ``q @ F^-T``.
        query_moment: E[q^T q] over a KV head's queries, ``[n_kv_heads, key_dim, key_dim]``, symmetric and positive
            definite; None: no shaped rounding.
        value_transform: F_v, ``[n_kv_heads, value_dim, value_dim]``: values are stored as ``v @ F_v``.
        n_kv_heads, key_dim, value_dim: needed only where no matrix shows them.

    An absent transform is the orthonormal Hadamard matrix of that size.
    """

    key_transform: Tensor | None = None
    query_moment: Tensor | None = None
    value_transform: Tensor | None = None
    n_kv_heads: int | None = None
    key_dim: int | None = None
    value_dim: int | None = None

    def _raw(self, where: str) -> tuple[Any, ...]:
        key_matrix = self.key_transform if self.key_transform is not None else self.query_moment
        any_matrix = key_matrix if key_matrix is not None else self.value_transform
        return (
            _size(self.n_kv_heads, any_matrix, 0, f"{where}.n_kv_heads"),
            _size(self.key_dim, key_matrix, -1, f"{where}.key_dim"),
            _size(self.value_dim, self.value_transform, -1, f"{where}.value_dim"),
            self.key_transform,
            self.query_moment,
            self.value_transform,
        )


def _size(given: int | None, matrix: Any, dimension: int, name: str) -> int:
    if given is not None:
        return given
    if matrix is None:
        raise InvalidError(f"{name} is not given, and no matrix shows it")
    return int(matrix.shape[dimension])


@dataclass(frozen=True)
class CalibrationInfo:
    """What a calibration is. From ``source`` on: as its file remembers it."""

    n_layers: int
    #: Memory of the object.
    bytes: int
    #: Of the transforms: equal ones, equal fingerprints.
    fingerprint: int
    is_data_free: bool
    #: Every KV head has a query moment.
    is_shaped: bool
    #: KV heads of all layers.
    n_heads: int
    #: Of these, with Hadamard transforms and plain rounding.
    n_data_free_heads: int
    #: An :class:`oscar.CalibrationSource`.
    source: int
    #: Moments are averaged over the positions to be served.
    knows_rope: bool
    #: Whose keys counted, in the layer with the fewest.
    n_tokens: int
    #: Positions 0 to n_positions - 1 are to be served.
    n_positions: int
    #: Tokens came from the positions before this one.
    end_position: int
    #: The profile it was made for, of the first layer that packs.
    n_refined: int
    refined_key_bits: int
    refined_value_bits: int
    #: What the transforms minimise.
    objective: str
    #: The caller's words.
    model: str
    note: str


@dataclass(frozen=True)
class CalibrationHead:
    """One KV head of a calibration."""

    is_data_free: bool
    #: It has a query moment.
    is_shaped: bool
    #: Its value transform is a matrix.
    has_own_values: bool
    #: Of its transforms, wherever the head stands: for comparing ranks and files.
    fingerprint: int


class Calibration:
    """Immutable transforms of all layers, made by the class methods. May be shared by caches and threads."""

    __slots__ = ("_handle",)

    def __init__(self, handle: Any) -> None:
        if not isinstance(handle, _oscar.oscar_calibration):
            raise TypeError("make a Calibration by data_free, identity, from_layers, load, import_torch or slice")
        self._handle = handle

    @classmethod
    def data_free(cls, config: Config) -> Calibration:
        """Hadamard transforms and plain rounding for a configuration's geometry.

        Raises:
            InvalidError: the configuration is malformed.
        """
        from .config import RawConfig

        return cls(_oscar.oscar_calibration_default(RawConfig(config).struct))

    @classmethod
    def identity(cls, config: Config) -> Calibration:
        """Codes in the keys' own basis: for study and for tests.

        Raises:
            InvalidError: the configuration is malformed.
        """
        from .config import RawConfig

        return cls(_oscar.oscar_calibration_identity(RawConfig(config).struct))

    @classmethod
    def from_layers(cls, layers: Sequence[CalibrationLayer]) -> Calibration:
        """From explicit matrices, one :class:`CalibrationLayer` for every layer.

        Raises:
            InvalidError: shapes, non-finite elements, a singular or too ill-conditioned transform, a moment that is not
                positive definite; the text names layer and head.
        """
        raw = [layer._raw(f"layers[{i}]") for i, layer in enumerate(layers)]
        return cls(_oscar.oscar_calibration_create(raw))

    @classmethod
    def load(cls, data: bytes | bytearray | memoryview) -> Calibration:
        """Reads what :meth:`save` wrote.

        Raises:
            CorruptError: anything else.
        """
        return cls(_oscar.oscar_calibration_load(data))

    @classmethod
    def import_torch(
        cls,
        config: Config,
        *,
        key: bytes | bytearray | memoryview | None = None,
        value: bytes | bytearray | memoryview | None = None,
        layer_ids: Sequence[int | None] = (),
    ) -> Calibration:
        """From rotations that the authors of OSCAR (arXiv 2605.17757) publish as files of ``torch.save``.

        Nothing in a file is executed, and torch is not needed. There are no query moments: rounding is plain.

        Args:
            config: gives the layers and their heads.
            key: the bytes of the file of key rotations; None: data-free keys.
            value: the bytes of the file of value rotations; None: data-free values.
            layer_ids: of every layer its id in the files, None for a data-free layer. Empty: the files have as many
                layers as the configuration, and rising ids are layers 0, 1, ...

        Raises:
            CorruptError: bytes that ``torch.save`` does not write, or that hold no rotations.
            UnsupportedError: compressed archives, pickles that name anything but tensors, other formats.
            InvalidError: neither file is given, or they do not fit the configuration.
        """
        from .config import RawConfig

        ids = [DEFAULT if i is None else i for i in layer_ids]
        return cls(_oscar.calibration_import_torch(RawConfig(config).struct, key, value, ids))

    def save(self) -> bytes:
        """Serializes."""
        data: bytes = _oscar.calibration_save(self._handle)
        return data

    def info(self) -> CalibrationInfo:
        """Size, kind, fingerprint and origin."""
        raw = _oscar.oscar_calibration_info_get(self._handle)
        return CalibrationInfo(
            n_layers=raw.n_layers,
            bytes=raw.bytes,
            fingerprint=raw.fingerprint,
            is_data_free=bool(raw.is_data_free),
            is_shaped=bool(raw.is_shaped),
            n_heads=raw.n_heads,
            n_data_free_heads=raw.n_data_free_heads,
            source=raw.source,
            knows_rope=bool(raw.knows_rope),
            n_tokens=raw.n_tokens,
            n_positions=raw.n_positions,
            end_position=raw.end_position,
            n_refined=raw.n_refined,
            refined_key_bits=raw.refined_key_bits,
            refined_value_bits=raw.refined_value_bits,
            objective=raw.objective,
            model=raw.model,
            note=raw.note,
        )

    def head(self, layer: int, kv_head: int) -> CalibrationHead:
        """What one KV head is.

        Raises:
            InvalidError: there is no such head.
        """
        raw = _oscar.oscar_calibration_head_get(self._handle, layer, kv_head)
        return CalibrationHead(
            is_data_free=bool(raw.is_data_free),
            is_shaped=bool(raw.is_shaped),
            has_own_values=bool(raw.has_own_values),
            fingerprint=raw.fingerprint,
        )

    def slice(self, parts: Sequence[tuple[int, int, int]]) -> Calibration:
        """The calibration of some layers and KV heads, e.g. of one rank under tensor or pipeline parallelism.

        Args:
            parts: ``(layer, first_kv_head, n_kv_heads)`` for every layer of the slice.

        Raises:
            InvalidError: a part that is not there, or none.
        """
        return Calibration(_oscar.oscar_calibration_slice(self._handle, list(parts)))

    def __repr__(self) -> str:
        return f"<oscar.Calibration {self.info().fingerprint:016x}>"
