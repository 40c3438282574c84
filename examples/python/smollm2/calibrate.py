"""Calibrating liboscar on texts: the model reads them, and a calibrator sees every layer's queries, keys and values."""

import numpy as np
import oscar

from .arms import STRESS, LibraryArm, cache_config

WINDOW = 2048  # tokens that are read as one sequence
STEP_TOKENS = 256
LEAST_TOKENS = 64 + STRESS["n_sink"]  # a shorter sequence has not even half a block of keys


def windows(tokenizer, texts, n_tokens):
    """The first n_tokens of the texts together, as sequences of at most WINDOW tokens of one text."""
    sequences = []
    for text in texts:
        tokens = tokenizer.encode(text)[:n_tokens]
        n_tokens -= len(tokens)
        sequences += [tokens[first : first + WINDOW] for first in range(0, len(tokens), WINDOW)]
    return [tokens for tokens in sequences if len(tokens) >= LEAST_TOKENS]


def calibrate(model, sequences, n_positions=0, progress=lambda items: items, **options):
    """An oscar.Calibration of what the model computes for sequences of tokens, each at most WINDOW long; it serves the
    first n_positions positions, 0: the model's whole context."""
    served = cache_config(model, "2bit", n_positions or model.max_tokens, STEP_TOKENS)
    exact = cache_config(model, "exact", WINDOW, STEP_TOKENS)
    # snippet: calibrator
    calibrator = oscar.Calibrator(served, np.float32(model.rope_frequency), oscar.RopePairing.INTERLEAVED, **options)
    for tokens in progress(sequences):
        with LibraryArm(exact) as arm:
            for first in range(0, len(tokens), STEP_TOKENS):
                part = tokens[first : first + STEP_TOKENS]
                with arm.step(len(part)) as step:

                    def attend(layer, k, v, q):
                        calibrator.feed(layer, first, q, k, v)
                        return step.layer(layer, k, v, q)

                    model.forward(part, np.arange(first, first + len(part)), attend)
    calibration = calibrator.finish()
    # end snippet
    return calibration
