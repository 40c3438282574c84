#!/usr/bin/env python3
"""Packs blocks with numpy, in double precision and from the formulas of docs/numerics.md and docs/format.md, and compares
with what the library packed.

    pack_dump blocks.bin && python3 pack_reference.py blocks.bin

Exits with 0 where all agrees, 1 where not, 77 where numpy is missing. Written apart from the C++ code: it shares no table
and no function with it. FP32 and double precision part where an element lies on the edge between two levels; in shaped
rounding such an element changes what follows it in the same token. So there the library's codes are also replayed: with
its earlier codes given, every code must be the nearest one, and the token's |e R|^2 no larger than the one found here.
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


def replay_shaped(z, levels, ratio, s0, root, codes):
    """Per token: the least |e R|^2 of the trials in which each of the given codes is the nearest after those before it,
    to 1e-4 of a level; infinite where there is none."""
    best = np.full(len(z), np.inf)
    for trial in TRIALS:
        step = trial * s0 * ratio
        errors = z - step[:, None] * (codes - (levels[:, None] - 1) / 2)
        targets = z + errors @ np.triu(root, 1) / np.diag(root)  # (e R)_i / R_ii without the term of e_i itself
        cell = targets / step[:, None] + levels[:, None] / 2 - codes
        fits = ((cell >= -1e-4) | (codes == 0)) & ((cell <= 1 + 1e-4) | (codes == levels[:, None] - 1))
        best = np.minimum(best, np.where(fits.all(1), ((errors @ root) ** 2).sum(1), np.inf))
    return best


def round_shaped(z, levels, ratio, s0, root):
    """LDLQ / Babai: |e R|^2 is made small one dimension after the other."""
    best_codes, best_cost = None, None
    for trial in TRIALS:
        step = trial * s0 * ratio
        errors, codes = np.zeros_like(z), np.zeros_like(z)
        for i in range(z.shape[1]):
            target = z[:, i] + errors[:, :i] @ root[:i, i] / root[i, i]
            codes[:, i] = nearest(target, step, levels)
            errors[:, i] = z[:, i] - step * (codes[:, i] - (levels - 1) / 2)
        cost = ((errors @ root) ** 2).sum(1)
        if best_codes is None:
            best_codes, best_cost = codes, cost
        else:
            better = cost < best_cost
            best_codes[better], best_cost = codes[better], np.minimum(cost, best_cost)
    return best_codes, best_cost


def search_parameters(z, h, width):
    widths = token_widths(h, width)
    return 4.0 * 2**widths, np.array([STEP[w] for w in widths]), grid(np.sqrt((z**2).mean(1)))


def pack_side(z, h, width, root=None, unbiased=False):
    """Codes, base-code scales and, where shaped, |e R|^2 of the search."""
    levels, ratio, s0 = search_parameters(z, h, width)
    cost = None
    if root is None:
        codes = nearest(z, (s0 * ratio)[:, None], levels[:, None])
    else:
        codes, cost = round_shaped(z, levels, ratio, s0, root)
    u = codes - (levels[:, None] - 1) / 2
    if unbiased:
        scales = (z * z).sum(1) / (z * u).sum(1)
    elif root is None:
        scales = np.sqrt((z**2).sum(1) / (u**2).sum(1))
    else:
        scales = np.sqrt(((z @ root) ** 2).sum(1) / ((u @ root) ** 2).sum(1))
    return codes.astype(np.int64), scales * levels / 4, cost


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


def compare_case(r, counts):
    """Returns the faults of one case and a line about it; adds to counts (codes that agree, codes)."""
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
        codes, scales, cost = pack_side(z, h, width, metric, unbiased=name == "value")
        stored_codes = read_codes(block, base, base_at, refine, plane_at, dim, h, width)
        stored_scales = read_scales(block[scales_at:scales_at + TOKENS], scale_base)
        n_equal = (codes == stored_codes).sum()
        counts["shaped" if metric is not None else "plain"] += np.array([n_equal, codes.size])
        same_rows = (codes == stored_codes).all(1)
        off = np.abs(stored_scales / scales - 1)[same_rows].max(initial=0)
        check(off <= 1 / 32 + 1e-5, f"{name} scale off by {off:.4f}")
        check(2.0 ** np.floor(np.log2(grid(scales.max()))) == scale_base, f"{name} scale base {scale_base}")
        line += f" | {name}: {codes.size - n_equal} of {codes.size} codes differ"
        if metric is not None:
            replayed = replay_shaped(z, *search_parameters(z, h, width), metric, stored_codes)
            check(np.isfinite(replayed).all(), f"{np.isinf(replayed).sum()} tokens are not rounded to nearest")
            check((replayed / cost).max() < 1 + 1e-4, f"|eR|^2 of a token {(replayed / cost).max():.6f} of the least")
            line += f", |eR|^2 {replayed.sum() / cost.sum() - 1:+.1e}"
    return faults, line


def main():
    if len(sys.argv) != 2:
        print("usage: pack_reference.py DUMP", file=sys.stderr)
        return 2
    with open(sys.argv[1], "rb") as file:
        reader = Reader(file.read())
    n_cases = n_faults = 0
    counts = {"plain": np.zeros(2), "shaped": np.zeros(2)}
    while reader.at < len(reader.data):
        if reader.take(4) != b"PACK":
            raise ValueError(f"no case begins at byte {reader.at - 4}")
        faults, line = compare_case(reader, counts)
        print(line)
        for fault in faults:
            print("  FAULT:", fault)
        n_cases += 1
        n_faults += len(faults)
    for writer, (n_equal, n_codes) in counts.items():
        print(f"{writer}: {n_equal:.0f} of {n_codes:.0f} codes agree")
        n_faults += not n_equal >= (0.9999 if writer == "plain" else 0.999) * n_codes
    print(f"{n_cases} blocks, {n_faults} faults")
    return 1 if n_faults or not n_cases else 0


if __name__ == "__main__":
    sys.exit(main())
