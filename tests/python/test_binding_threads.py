"""Long calls release the GIL, and threads that meet in a cache are told so."""

import threading
import time

import numpy as np
import pytest
from binding_support import exact_config, fill, random_qkv

import oscar


def run_beside(call):
    """Runs call() in a thread; returns (seconds it took, longest time the main thread stood still meanwhile)."""
    span = []

    def worker():
        begin = time.perf_counter()
        call()
        span.extend((begin, time.perf_counter()))

    thread = threading.Thread(target=worker)
    ticks = [time.perf_counter()]
    thread.start()
    while not span:
        ticks.append(time.perf_counter())
        time.sleep(0)
    thread.join()
    begin, end = span
    within = [begin, *(tick for tick in ticks if begin < tick < end), end]
    return end - begin, max(np.diff(within))


def test_the_gil_is_released():
    """Were it held, nothing else could run from the beginning of the C call to its end."""
    q, k, v = random_qkv(1, 1024, 32, 2, 128)
    config = exact_config(n_q_heads=32, key_dim=128, max_step_tokens=1024)
    with oscar.Cache(config) as cache, cache.open() as sequence:
        step = cache.step([(sequence, 1024)])
        out = np.zeros_like(q)
        seconds, stood_still = run_beside(lambda: step.layer(0, k, v, q, out))
        step.abort()
    assert seconds > 0.02, "too short to tell anything"
    assert stood_still < 0.5 * seconds


def test_the_gil_is_released_by_merge():
    for rows in (1 << 17, 1 << 19, 1 << 21):  # until it takes long enough on this machine
        outs, lses = np.ones((8, rows, 16), np.float32), np.zeros((8, rows), np.float32)
        seconds, stood_still = run_beside(lambda: oscar.merge(outs, lses))
        if seconds > 0.05:
            break
    assert seconds > 0.01, "too short to tell anything"
    assert stood_still < 0.5 * seconds


def test_a_second_thread_is_refused_and_the_cache_cannot_be_closed_under_the_first():
    q, k, v = random_qkv(1, 1024, 32, 2, 128)
    config = exact_config(n_q_heads=32, key_dim=128, max_step_tokens=1024)
    cache = oscar.Cache(config)
    sequence = cache.open()
    step = cache.step([(sequence, 1024)])
    out = np.zeros_like(q)
    done = []
    thread = threading.Thread(target=lambda: done.append(step.layer(0, k, v, q, out)))
    refused = []
    thread.start()
    while not done and len(refused) < 3:
        for call in (cache.open, cache.stats, cache.close):
            try:
                call()
            except oscar.StateError as error:
                refused.append(str(error))
        time.sleep(0)
        if cache.closed:
            break
    thread.join()
    assert any("another thread" in text for text in refused)
    assert len(done) == 1 and np.isfinite(out).all()
    step.abort()
    cache.close()


def test_readers_run_beside_one_another():
    _, k, v = random_qkv(2, 300)
    errors = []
    with oscar.Cache(exact_config()) as cache, cache.open() as sequence:
        fill(cache, sequence, k, v)

        def reader():
            try:
                for _ in range(200):
                    cache.read(sequence, 0, 0)
                    cache.stats()
                    cache.capacity()
                    assert sequence.length == 300
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=reader) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors


def test_error_texts_belong_to_their_threads():
    wrong = []

    def fails(profile):
        for _ in range(300):
            try:
                oscar.Config(profile)
            except oscar.InvalidError as error:
                if profile not in str(error):
                    wrong.append(str(error))

    threads = [threading.Thread(target=fails, args=(f"profile-{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_caches_may_be_used_by_one_thread_each():
    q, k, v = random_qkv(3, 64)
    outs = [None] * 3

    def use(i):
        with oscar.Cache(exact_config()) as cache, cache.open() as sequence:
            outs[i] = fill(cache, sequence, k, v, q, chunk=5)

    threads = [threading.Thread(target=use, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(out is not None and np.array_equal(out, outs[0]) for out in outs)


@pytest.mark.parametrize("call", ["open", "stats"])
def test_a_raised_error_ends_the_use(call):
    with oscar.Cache(exact_config(max_sequences=1)) as cache, cache.open() as sequence:
        with pytest.raises(oscar.InvalidError):
            sequence.truncate(5)
        with pytest.raises(TypeError):
            cache.step([(sequence, "x")])
        sequence.close()
        getattr(cache, call)()
