"""Sequences as bytes: streams, files, and a process that is killed while it saves."""

import io
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from binding_support import fill, random_qkv, small_config

import oscar


def filled(cache, seed=1, n=400):
    sequence = cache.open()
    q, k, v = random_qkv(seed, n)
    fill(cache, sequence, k, v, q)
    return sequence


def bytes_of(sequence, n=None):
    file = io.BytesIO()
    size = sequence.write_to(file, n)
    assert size == len(file.getvalue()) == sequence.exported_bytes(n)
    return file.getvalue()


def goes_on(cache, sequence, seed=2):
    q, k, v = random_qkv(seed, 150)
    return fill(cache, sequence, k, v, q)


def test_a_sequence_goes_on_elsewhere_bit_for_bit():
    with oscar.Cache(small_config()) as here, oscar.Cache(small_config(capacity_bytes=8 << 20)) as there:
        stays = filled(here)
        goes = there.read_from(io.BytesIO(bytes_of(stays)))
        assert goes.length == stays.length == 400
        assert np.array_equal(goes_on(here, stays), goes_on(there, goes))
        assert bytes_of(stays) == bytes_of(goes)


def test_prefixes_are_forks():
    with oscar.Cache(small_config()) as cache:
        sequence = filled(cache)
        assert bytes_of(sequence, 150) == bytes_of(sequence.fork(150))
        for n in (0, -1, 401):
            with pytest.raises(oscar.InvalidError):
                sequence.write_to(io.BytesIO(), n)


def test_streams_may_hold_several_and_give_them_in_parts():
    class Dripping(io.RawIOBase):
        """Takes and gives at most 1,000 bytes at a time."""

        def __init__(self):
            self.bytes, self.at = bytearray(), 0

        def write(self, piece):
            self.bytes += bytes(piece)[:1000]
            return min(len(piece), 1000)

        def read(self, size=-1):
            piece = bytes(self.bytes[self.at : self.at + min(size, 1000)])
            self.at += len(piece)
            return piece

    with oscar.Cache(small_config()) as cache:
        first, second = filled(cache, 3, 170), filled(cache, 4, 30)
        file = Dripping()
        first.write_to(file)
        second.write_to(file)
        for sequence in (first, second):
            again = cache.read_from(file)
            assert bytes_of(again) == bytes_of(sequence)
            again.close()
        with pytest.raises(oscar.CorruptError, match="after 0 bytes"):
            cache.read_from(file)


def test_what_a_stream_raises_is_raised_and_nothing_has_changed():
    class Full(Exception):
        pass

    class Broken:
        def __init__(self, after, data=b""):
            self.after, self.file = after, io.BytesIO(data)

        def count(self):
            self.after -= 1
            if self.after < 0:
                raise Full("no more")

        def write(self, piece):
            self.count()
            return len(piece)

        def read(self, size):
            self.count()
            return self.file.read(size)

    with oscar.Cache(small_config()) as cache:
        sequence = filled(cache)
        data, before = bytes_of(sequence), cache.stats()
        for after in range(8):
            with pytest.raises(Full, match="no more"):
                sequence.write_to(Broken(after))
            with pytest.raises(Full, match="no more"):
                cache.read_from(Broken(after, data))
            assert cache.stats() == before
        cut = io.BytesIO(data[:-1])
        with pytest.raises(oscar.CorruptError, match="after"):
            cache.read_from(cut)

        class Text:
            def read(self, size):
                return "text"

        with pytest.raises(TypeError):
            cache.read_from(Text())
        assert cache.stats() == before


def test_a_stream_cannot_use_the_cache():
    with oscar.Cache(small_config()) as cache:
        sequence = filled(cache)

        class Meddling(io.BytesIO):
            def read(self, size=-1):
                sequence.truncate(5)
                return super().read(size)

        with pytest.raises(oscar.StateError, match="another thread"):
            cache.read_from(Meddling(bytes_of(sequence)))


def test_another_calibration_is_refused():
    config = small_config()
    with oscar.Cache(config) as cache:
        data = bytes_of(filled(cache))
    config.calibration = oscar.Calibration.identity(config)
    with oscar.Cache(config) as cache, pytest.raises(oscar.InvalidError, match="fingerprint"):
        cache.read_from(io.BytesIO(data))


def test_files_are_whole_and_private(tmp_path):
    path = tmp_path / "a.oscar"
    with oscar.Cache(small_config()) as cache:
        sequence = filled(cache)
        assert sequence.save(path) == path.stat().st_size
        assert bytes_of(cache.load(path)) == path.read_bytes()
        assert os.stat(path).st_mode & 0o077 == 0
        sequence.save(str(path), 200)
        assert cache.load(path).length == 200
        old = path.read_bytes()
        sequence.close()
        with pytest.raises(oscar.NotFoundError):
            sequence.save(path)
        assert path.read_bytes() == old and os.listdir(tmp_path) == ["a.oscar"]
        path.write_bytes(old + b"x")
        n = cache.stats().n_sequences
        with pytest.raises(oscar.CorruptError, match="bytes behind"):
            cache.load(path)
        assert cache.stats().n_sequences == n
        with pytest.raises(FileNotFoundError):
            cache.load(tmp_path / "none")


SAVING = """
import sys
sys.path[:0] = {path!r}
from binding_support import small_config
from test_binding_transport import filled
import oscar
cache = oscar.Cache(small_config())
sequences = [filled(cache, 1, 300), filled(cache, 2, 420)]
print("ready", flush=True)
while True:
    for sequence in sequences:
        sequence.save(sys.argv[1])
"""


def test_a_process_that_is_killed_while_it_saves_leaves_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "a.oscar"
    with oscar.Cache(small_config()) as cache:
        wanted = {bytes_of(filled(cache, 1, 300)), bytes_of(filled(cache, 2, 420))}
    pause, found = random.Random(1), set()
    program = SAVING.format(path=sys.path)
    for _ in range(12):
        child = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"ready\n"
        time.sleep(0.02 + 0.03 * pause.random())
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if path.exists():
            found.add(path.read_bytes())
            assert found <= wanted
    assert found
