"""A cache's log in Python: records, loggers, and callables that go wrong."""

import gc
import logging
import sys
import weakref

import pytest
from binding_support import fill, random_qkv, small_config

import oscar
import oscar.log


def refuse(cache):
    with pytest.raises(oscar.NoSpaceError) as refused:
        while True:
            cache.open()
    return str(refused.value)


def test_a_refusal_is_recorded_where_and_while_somebody_listens():
    with oscar.Cache(small_config()) as cache:
        records = []
        cache.log_to(records.append)
        text = refuse(cache)
        (record,) = records
        assert (record.level, record.event, record.layer) == (oscar.LogLevel.WARNING, oscar.LogEvent.NO_SPACE, None)
        assert record.text.endswith(text) or text.endswith(record.text)
        cache.log_to(None)
        refuse(cache)
        assert len(records) == 1
        with pytest.raises(oscar.InvalidError, match="min_level is 7"):
            cache.log_to(records.append, 7)
        refuse(cache)
        assert len(records) == 1


def test_elements_that_are_not_finite_are_recorded_with_their_layer():
    with oscar.Cache(small_config()) as cache:
        records = []
        cache.log_to(records.append, oscar.LogLevel.WARNING)
        q, k, v = random_qkv(1, 400)
        k[40] = float("nan")
        fill(cache, cache.open(), k, v, q)
        assert records
        for record in records:
            assert record.event == oscar.LogEvent.NON_FINITE and record.layer is not None
            assert cache.layer_stats(record.layer).n_non_finite > 0


def test_records_go_to_a_logger(caplog):
    with oscar.Cache(small_config()) as cache:
        cache.log_to(oscar.log.to_logger(logging.getLogger("kv")))
        with caplog.at_level(logging.INFO, "kv"):
            refuse(cache)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and record.oscar_event == oscar.LogEvent.NO_SPACE
    assert "max_sequences" in record.getMessage()


def test_what_a_log_raises_does_not_reach_the_call_nor_can_it_use_the_cache(monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: shown.append(what.exc_type))
    with oscar.Cache(small_config()) as cache:
        cache.log_to(lambda record: cache.stats())
        refuse(cache)
    assert shown == [oscar.StateError]


def test_a_log_that_knows_its_cache_keeps_neither_alive():
    class Box:
        pass

    box = Box()
    box.cache = oscar.Cache(small_config())
    box.cache.log_to(lambda record, box=box: None)
    gone = weakref.ref(box)
    del box
    gc.collect()
    assert gone() is None
