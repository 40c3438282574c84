"""Import of published rotations. Python's own pickler and zipfile write the files, without torch."""

import contextlib
import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from binding_support import small_config

import oscar


class Tensor:
    """What torch.save makes of a tensor: how it is rebuilt from a storage."""

    def __init__(self, storage, offset, shape, stride):
        self.storage, self.arguments = storage, (offset, shape, stride, False, OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (self.storage, *self.arguments)


class Storage:
    def __init__(self, key, array):
        self.key, self.array = str(key), array


@contextlib.contextmanager
def pretended_torch(monkeypatch):
    """Modules of torch's names, for the names that the pickler writes."""
    with monkeypatch.context() as patch:
        torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
        storage = type("FloatStorage", (), {"__module__": "torch"})

        def _rebuild_tensor_v2():
            """Never called."""

        _rebuild_tensor_v2.__module__ = "torch._utils"
        _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
        torch.FloatStorage, torch._utils, utils._rebuild_tensor_v2 = storage, utils, _rebuild_tensor_v2
        patch.setitem(sys.modules, "torch", torch)
        patch.setitem(sys.modules, "torch._utils", utils)
        yield storage


def write(monkeypatch, value, storages, compression=zipfile.ZIP_STORED):
    """The bytes that torch.save(value) would write."""
    with pretended_torch(monkeypatch) as float_storage:

        class Pickler(pickle.Pickler):
            def persistent_id(self, item):
                if isinstance(item, Storage):
                    return "storage", float_storage, item.key, "cpu", item.array.size
                return None

        data = io.BytesIO()
        Pickler(data, protocol=2).dump(value)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data.getvalue())
        archive.writestr("archive/byteorder", "little")
        for storage in storages:
            archive.writestr(f"archive/data/{storage.key}", storage.array.astype("<f4").tobytes())
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def rotations(n, seed=0):
    random = np.random.default_rng(seed)
    return np.linalg.qr(random.standard_normal((n, 64, 64)))[0].astype(np.float32)


def rotation_file(monkeypatch, layers, per_head=False, **options):
    """{id: [64, 64] or [heads, 64, 64]} in one storage, each layer a view of it."""
    shared = Storage(0, np.concatenate([r.reshape(-1) for r in layers.values()]))
    value = {"format_version": 2 if per_head else 1, "objective": "test", "source_grouping": "layer", "layers": {}}
    if per_head:
        value["source_grouping"] = "kv_group"
    offset = 0
    for layer_id, r in layers.items():
        stride = (4096, 64, 1) if per_head else (64, 1)
        rotation = Tensor(shared, offset, r.shape, stride)
        value["layers"][layer_id] = {"layer_id": layer_id, "rotation": rotation, "eigenvalues": None}
        offset += r.size
    return write(monkeypatch, value, [shared], **options)


def from_layers(keys, values):
    """The same calibration from matrices; keys and values [n_layers] of [64, 64] or [2, 64, 64], or None."""

    def heads(r):
        return None if r is None else np.ascontiguousarray(np.broadcast_to(r, (2, 64, 64)))

    layers = [oscar.CalibrationLayer(heads(k), None, heads(v), 2, 64, 64) for k, v in zip(keys, values, strict=True)]
    return oscar.Calibration.from_layers(layers)


def test_rotations_become_the_transforms(monkeypatch):
    config = small_config(n_layers=3)
    keys, values = rotations(3), rotations(3, seed=1)
    key = rotation_file(monkeypatch, dict(zip((3, 7, 11), keys, strict=True)))
    value = rotation_file(monkeypatch, dict(zip((3, 7, 11), values, strict=True)))
    both = oscar.Calibration.import_torch(config, key=key, value=memoryview(value))
    assert both.info().fingerprint == from_layers(keys, values).info().fingerprint
    assert oscar.Calibration.import_torch(config, key=key).info().fingerprint == from_layers(keys, [None] * 3).info().fingerprint
    assert oscar.Calibration.import_torch(config, value=value).info().fingerprint == from_layers([None] * 3, values).info().fingerprint
    chosen = oscar.Calibration.import_torch(config, key=key, layer_ids=[11, None, 3])
    assert chosen.info().fingerprint == from_layers([keys[2], None, keys[0]], [None] * 3).info().fingerprint
    assert not both.info().is_shaped and not both.info().is_data_free
    assert both.info().source == oscar.CalibrationSource.IMPORTED
    with oscar.Cache(small_config(n_layers=3, calibration=both)):
        pass


def test_a_rotation_for_every_kv_head(monkeypatch):
    keys = [rotations(2, seed=seed) for seed in range(2)]
    key = rotation_file(monkeypatch, dict(enumerate(keys)), per_head=True)
    imported = oscar.Calibration.import_torch(small_config(n_layers=2), key=key)
    assert imported.info().fingerprint == from_layers(keys, [None] * 2).info().fingerprint


def test_what_is_refused(monkeypatch):
    config = small_config(n_layers=2)
    key = rotation_file(monkeypatch, dict(enumerate(rotations(2))))
    with pytest.raises(oscar.InvalidError, match="neither a key file nor a value file"):
        oscar.Calibration.import_torch(config)
    with pytest.raises(oscar.InvalidError, match="it has 2 layers, 0 .. 1, the configuration has 3"):
        oscar.Calibration.import_torch(small_config(n_layers=3), key=key)
    with pytest.raises(oscar.InvalidError, match="n_layer_ids is 1"):
        oscar.Calibration.import_torch(config, key=key, layer_ids=[0])
    with pytest.raises(oscar.InvalidError, match=r"layer_ids\[1\] is 5"):
        oscar.Calibration.import_torch(config, key=key, layer_ids=[0, 5])
    with pytest.raises(oscar.CorruptError, match="value file: there are 0 bytes"):
        oscar.Calibration.import_torch(config, value=b"")
    with pytest.raises(oscar.CorruptError, match="key file: "):
        oscar.Calibration.import_torch(config, key=key[:-1])
    with pytest.raises(oscar.CorruptError, match="the CRC-32 of"):
        oscar.Calibration.import_torch(config, key=key.replace(b"eigenvalues", b"eigenvaluez"))
    packed = rotation_file(monkeypatch, dict(enumerate(rotations(2))), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(oscar.UnsupportedError, match="compressed by method 8"):
        oscar.Calibration.import_torch(config, key=packed)
    with pytest.raises(TypeError):
        oscar.Calibration.import_torch(config, key="file.pt")


class Evil:
    def __init__(self, call, *arguments):
        self.reduced = call, arguments

    def __reduce__(self):
        return self.reduced


def test_nothing_in_a_file_is_executed(monkeypatch, tmp_path):
    mark = tmp_path / "executed"
    for evil in (Evil(open, str(mark), "w"), Evil(exec, f"open({str(mark)!r}, 'w')"), Evil(getattr, mark, "touch")):
        file = write(monkeypatch, {"layers": evil}, [])
        with pytest.raises(oscar.UnsupportedError, match="which no file of rotations needs"):
            oscar.Calibration.import_torch(small_config(), key=file)
        assert not mark.exists()
