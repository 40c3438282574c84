#!/usr/bin/env python3
"""Packs blocks with numpy, in double precision and from the formulas of docs/numerics.md and docs/format.md, and compares
with what the library packed.

    pack_dump blocks.bin && python3 pack_reference.py blocks.bin

Exits with 0 where all agrees, 1 where not, 77 where numpy is missing. Written apart from the C++ code: it shares no table
and no function with it, and packs without looking at what the library wrote.

FP32 and double precision part where an element lies on the edge between two levels, and in shaped rounding such an
element changes all that follows it in its token. A token is *tied* where one of the trials computed here has the
library's codes up to an element closer to an edge than EDGE of a step, and differs there. Codes are compared for all
tokens; errors for all but the tied ones, which are counted and must be rare.
"""
import struct
import sys

try:
    import numpy as np
except ImportError:
    print("skipped: numpy is not installed")
    sys.exit(77)

STEP = {0: 0.9957, 1: 0.5860, 2: 0.3352}  # by refinement bits
TRIALS = (0.9, 1.0, 1.1, 1.2)
TOKENS = 128
EDGE = 1e-5  # of a step; FP32 sums of 256 terms are good to about 1e-6
SAME_ERROR = 1e-4  # relative, a block's and all blocks' together
MOST_TIED = 1e-3  # of the tokens
SAME_CODES = {"plain": 0.9999, "shaped": 0.999}


# ---- the block's bytes ----

def pad32(dim):
    return -(-dim // 32) * 32


def operand_chunk(slots32, dim, lane_row, lane_column, register, byte, tail_register):
    """Byte position within base codes: 64 dims of 32 slots are 512 bytes, 16 a lane; a tail of 32 dims has 8 a lane."""
    whole = dim // 64 * 64 + 64 <= slots32["pad"]
    lane = lane_row * 4 + lane_column
    within = lane * 16 + register * 4 + byte if whole else lane * 8 + tail_register * 4 + byte
    return slots32["group"] * 8 * slots32["pad"] + dim // 64 * 512 + within


def key_base_at(slot, d, pad):
    group = {"group": slot // 32, "pad": pad}
    at = operand_chunk(group, d, slot % 8, d % 16 // 4, d % 64 // 16, d % 4, d % 32 // 16)
    return at, slot % 32 // 8 * 2


def value_base_at(slot, d, pad):
    y = slot % 32
    group = {"group": slot // 32, "pad": pad}
    at = operand_chunk(group, d, d % 8, y % 8 // 2, d % 64 // 32 * 2 + y // 16, y % 16 // 8 * 2 + y % 2, y // 16)
    return at, d % 32 // 8 * 2


def key_plane_at(slot, d, pad, h, width):
    per_byte = 8 // width
    unit = slot // 8 * (pad // 16) + d // 16
    return (unit // per_byte * min(h, 8) + slot % 8) * 16 + d % 16, unit % per_byte * width


def value_plane_at(slot, d, pad, h, width):
    per_byte = 8 // width
    tiles = -(-h // 8)
    pairs = min(4, -(-h // 2))
    unit = d // 8
    word = ((unit // per_byte * -(-tiles // 2) + slot // 16) * 8 + d % 8) * pairs + slot % 8 // 2
    return word * (2 if tiles == 1 else 4) + slot // 8 % 2 * 2 + slot % 2, unit % per_byte * width


def key_plane_bytes(pad, h, width):
    """Rows of 16 dims, 8 slots a tile (fewer where h < 8), 8 / width units of 16 dims to a byte; rounded up to 16."""
    if not h or not width:
        return 0
    return min(h, 8) * 16 * -(-(-(-h // 8) * (pad // 16)) // (8 // width))


def value_plane_bytes(pad, h, width):
    """Words of two 8-slot tiles (half words where there is one tile), 8 / width units of 8 dims to a byte."""
    if not h or not width:
        return 0
    tiles = -(-h // 8)
    n = -(-(pad // 8) // (8 // width)) * -(-tiles // 2) * 8 * min(4, -(-h // 2)) * (2 if tiles == 1 else 4)
    return -(-n // 16) * 16


def read_codes(block, base, base_at, refine, plane_at, dim, h, width):
    pad = pad32(dim)
    codes = np.zeros((TOKENS, dim), np.int64)
    for slot in range(TOKENS):
        for d in range(dim):
            at, shift = base_at(slot, d, pad)
            code = block[base + at] >> shift & 3
            if slot < h and width:
                at, shift = plane_at(slot, d, pad, h, width)
                code = code << width | block[refine + at] >> shift & ((1 << width) - 1)
            codes[slot, d] = code
    return codes


def read_scales(scale_bytes, base):
    b = np.frombuffer(scale_bytes, np.uint8).astype(np.int64)
    return base * 2.0 ** (b // 16 - 15) * (1 + b % 16 / 16)


# ---- packing ----

def grid(x):
    """To 16 steps an octave, ties to even."""
    exponent = np.floor(np.log2(x))
    return np.rint(x / 2.0**exponent * 16) / 16 * 2.0**exponent


def token_widths(h, width):
    return np.where(np.arange(TOKENS) < h, width, 0)


def nearest(t, step, levels):
    return np.clip(np.floor(t / step + levels / 2), 0, levels - 1)


def edge_distance(t, step, levels):
    """To the nearest edge between two levels, in steps."""
    at = t / step + levels / 2
    return np.abs(at - np.clip(np.rint(at), 1, levels - 1))


class Shaped:
    """LDLQ / Babai: |e R|^2 is made small one dimension after the other; the best of the trials."""

    def __init__(self, z, levels, ratio, s0, root):
        self.trials = [self._trial(z, levels, factor * s0 * ratio, root) for factor in TRIALS]
        best = np.argmin([cost for _, _, cost in self.trials], axis=0)
        self.codes = np.array([codes for codes, _, _ in self.trials])[best, np.arange(len(z))]

    @staticmethod
    def _trial(z, levels, step, root):
        errors, codes, edges = np.zeros_like(z), np.zeros_like(z), np.zeros_like(z)
        for i in range(z.shape[1]):
            target = z[:, i] + errors[:, :i] @ root[:i, i] / root[i, i]
            codes[:, i] = nearest(target, step, levels)
            edges[:, i] = edge_distance(target, step, levels)
            errors[:, i] = z[:, i] - step * (codes[:, i] - (levels - 1) / 2)
        return codes, edges, ((errors @ root) ** 2).sum(1)

    def tied(self, stored_codes):
        """Which tokens differ from the stored ones, and do so first on an edge."""
        tied = np.zeros(len(stored_codes), bool)
        for codes, edges, _ in self.trials:
            first = (codes != stored_codes).argmax(1)  # 0 where all agree; then the token is not off anyway
            tied |= edges[np.arange(len(codes)), first] < EDGE
        return tied & (self.codes != stored_codes).any(1)


def search_parameters(z, h, width):
    widths = token_widths(h, width)
    return 4.0 * 2**widths, np.array([STEP[w] for w in widths]), grid(np.sqrt((z**2).mean(1)))


def fitted_scales(z, u, root, unbiased):
    """Of the codes' own step, before the scale byte."""
    if unbiased:
        return (z * z).sum(1) / (z * u).sum(1)
    if root is None:
        return np.sqrt((z**2).sum(1) / (u**2).sum(1))
    return np.sqrt(((z @ root) ** 2).sum(1) / ((u @ root) ** 2).sum(1))


class Side:
    """Keys or values of a block, packed: codes, and scales of the base codes as they are stored."""

    def __init__(self, z, h, width, root=None, unbiased=False):
        self.z, self.root = z, root
        self.levels, ratio, s0 = search_parameters(z, h, width)
        if root is None:
            self.shaped = None
            codes = nearest(z, (s0 * ratio)[:, None], self.levels[:, None])
        else:
            self.shaped = Shaped(z, self.levels, ratio, s0, root)
            codes = self.shaped.codes
        self.codes = codes.astype(np.int64)
        self.scales = fitted_scales(z, self._units(codes), root, unbiased) * self.levels / 4

    def _units(self, codes):
        return codes - (self.levels[:, None] - 1) / 2

    def errors(self, codes, scales):
        """Per token: square error of what codes and scales stand for, in the metric."""
        error = self.z - (scales * 4 / self.levels)[:, None] * self._units(codes)
        return ((error if self.root is None else error @ self.root) ** 2).sum(1)


# ---- comparison ----

class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        piece = self.data[self.at:self.at + n]
        if len(piece) != n:
            raise ValueError(f"the dump ends at byte {len(self.data)}, wanted {self.at + n}")
        self.at += n
        return piece

    def array(self, dtype, *shape):
        return np.frombuffer(self.take(int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype).reshape(shape)


def bf16(x):
    return (x.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


class Totals:
    """Over all blocks, of one writer."""

    def __init__(self):
        self.n_equal = self.n_codes = self.n_tied = self.n_tokens = 0
        self.error = self.wanted_error = 0.0

    def faults(self, writer):
        ratio = self.error / self.wanted_error - 1
        print(f"{writer}: {self.n_equal} of {self.n_codes} codes agree ({self.n_equal / self.n_codes:.4%}); square error "
              f"{ratio:+.1e} of numpy's; {self.n_tied} of {self.n_tokens} tokens tied, left out of the error")
        return sum((not self.n_equal >= SAME_CODES[writer] * self.n_codes, not abs(ratio) <= SAME_ERROR,
                    not self.n_tied < MOST_TIED * self.n_tokens))


def compare_case(r, totals):
    """Returns the faults of one case and a line about it; adds to the totals of its writers."""
    key_dim, value_dim, h, key_width, value_width, shaped, size = struct.unpack("<7I", r.take(28))
    keys, values = bf16(r.array("<u2", TOKENS, key_dim)), bf16(r.array("<u2", TOKENS, value_dim))
    order = r.array(np.uint8, TOKENS)
    key_map = r.array("<f4", key_dim, key_dim).astype(np.float64)
    value_map = r.array("<f4", value_dim, value_dim).astype(np.float64)
    root = r.array("<f4", key_dim, key_dim).astype(np.float64) if shaped else None
    block = r.take(size)

    key_pad, value_pad = pad32(key_dim), pad32(value_dim)
    value_base = 32 * key_pad
    mean_at = value_base + 32 * value_pad
    key_scales_at = mean_at + key_pad
    header_at = key_scales_at + 2 * TOKENS
    key_refine = header_at + 16
    value_refine = key_refine + key_plane_bytes(key_pad, h, key_width)
    ids_at = value_refine + value_plane_bytes(value_pad, h, value_width)
    has_ids = 0 < h < TOKENS
    mean_scale, key_scale_base, value_scale_base, non_finite = struct.unpack_from("<3fI", block, header_at)

    faults = []

    def check(ok, text):
        if not ok:
            faults.append(text)

    check(size == ids_at + (-(-h // 16) * 16 if has_ids else 0), f"block size {size}")
    check(non_finite == 0, f"{non_finite} non-finite elements")
    check(not has_ids or list(block[ids_at:ids_at + h]) == list(order[:h]), "ids")

    mean = keys.mean(0) @ key_map
    mean_codes = np.frombuffer(block[mean_at:mean_at + key_dim], np.int8).astype(np.float64)
    check(abs(mean_scale / (np.abs(mean).max() / 127) - 1) < 1e-5, "mean scale")
    check(np.abs(mean / mean_scale - mean_codes).max() < 0.501, "mean codes")
    z_key = (keys @ key_map - mean_scale * mean_codes)[order]
    z_value = (values @ value_map)[order]

    sides = (("key", z_key, 0, key_base_at, key_refine, key_plane_at, key_dim, key_width, key_scales_at, key_scale_base),
             ("value", z_value, value_base, value_base_at, value_refine, value_plane_at, value_dim, value_width,
              key_scales_at + TOKENS, value_scale_base))
    line = f"{key_dim}/{value_dim} h={h} +{key_width}/+{value_width} {'shaped' if shaped else 'plain '}"
    for name, z, base, base_at, refine, plane_at, dim, width, scales_at, scale_base in sides:
        metric = root if name == "key" else None
        side = Side(z, h, width, metric, unbiased=name == "value")
        codes = read_codes(block, base, base_at, refine, plane_at, dim, h, width)
        scales = read_scales(block[scales_at:scales_at + TOKENS], scale_base)
        same = codes == side.codes
        tied = side.shaped.tied(codes) if side.shaped else np.zeros(TOKENS, bool)
        off = np.abs(scales / side.scales - 1)[same.all(1)].max(initial=0)
        check(off <= 1 / 32 + 1e-5, f"{name} scale off by {off:.4f}")
        check(2.0 ** np.floor(np.log2(grid(side.scales.max()))) == scale_base, f"{name} scale base {scale_base}")
        error = side.errors(codes, scales)[~tied].sum()
        wanted = side.errors(side.codes, grid(side.scales))[~tied].sum()
        check(abs(error / wanted - 1) <= SAME_ERROR, f"{name} square error {error / wanted - 1:+.1e} of numpy's")
        line += f" | {name}: {(~same).sum()} of {same.size} codes differ, {tied.sum()} tied"
        line += f", error {error / wanted - 1:+.0e}"
        total = totals["shaped" if side.shaped else "plain"]
        total.n_equal += same.sum()
        total.n_codes += same.size
        total.n_tied += tied.sum()
        total.n_tokens += TOKENS
        total.error += error
        total.wanted_error += wanted
    return faults, line


def main():
    if len(sys.argv) != 2:
        print("usage: pack_reference.py DUMP", file=sys.stderr)
        return 2
    with open(sys.argv[1], "rb") as file:
        reader = Reader(file.read())
    n_cases = n_faults = 0
    totals = {"plain": Totals(), "shaped": Totals()}
    while reader.at < len(reader.data):
        if reader.take(4) != b"PACK":
            raise ValueError(f"no case begins at byte {reader.at - 4}")
        faults, line = compare_case(reader, totals)
        print(line)
        for fault in faults:
            print("  FAULT:", fault)
        n_cases += 1
        n_faults += len(faults)
    n_faults += sum(total.faults(writer) for writer, total in totals.items())
    print(f"{n_cases} blocks, {n_faults} faults")
    return 1 if n_faults or not n_cases else 0


if __name__ == "__main__":
    sys.exit(main())
