"""Are the results right? Before anything is timed, and again on the cache that was."""

import torch
from bf16 import Bf16Cache
from packed import PackedCache


def relative_error(got, wanted):
    """Worst row of |got - wanted| / |wanted|."""
    got, wanted = got.double(), wanted.double()
    return ((got - wanted).norm(dim=-1) / wanted.norm(dim=-1)).max().item()


def check_logits(model, batch=2, n_tokens=1500):
    """One step of the whole model over the same keys and values, kept exactly by both caches. PyTorch's two kernels
    differ from one another as well, since the model amplifies every rounding: that is the measure."""
    ids = torch.arange(7, 7 + batch, device="cuda")
    positions = torch.full((batch,), n_tokens, device="cuda")
    base = Bf16Cache(model.shape, batch, n_tokens + 1)
    packed = PackedCache(model.shape, batch, n_tokens + 1, profile="exact")
    packed.fill(n_tokens, source=base)
    packed.begin(replay=False)
    own = model.forward(ids, positions, packed.attend)
    packed.end()
    logits = {}
    for base.way in ("cudnn-gqa", "flash-gqa"):
        logits[base.way] = model.forward(ids, positions, base.attend)
    packed.close()
    error = relative_error(own, logits["cudnn-gqa"])
    between_rivals = relative_error(logits["flash-gqa"], logits["cudnn-gqa"])
    result = {
        "logits_error": error,
        "logits_error_flash_cudnn": between_rivals,
        "same_argmax": bool((own.argmax(-1) == logits["cudnn-gqa"].argmax(-1)).all()),
    }
    if not error <= 2 * between_rivals + 1e-3:
        raise AssertionError(f"logits differ by {error}, PyTorch's own kernels by {between_rivals}")
    return result


def check_attention(packed, layer=17, head=3, limit=1e-3):
    """Attention of one KV head of the first and the last sequence, against double precision over what the cache reads
    back: all their tokens. The step is dropped afterwards."""
    s = packed.shape
    group = s.n_q_heads // s.n_kv_heads
    random = torch.Generator("cuda").manual_seed(5)
    q, k, v = (
        torch.randn(packed.batch, n_heads, s.head_dim, device="cuda", generator=random).bfloat16().float()
        for n_heads in (s.n_q_heads, s.n_kv_heads, s.n_kv_heads)
    )
    out = torch.zeros_like(q)
    packed.begin(replay=False)
    packed.step.append(layer, k, v)
    packed.step.attend(layer, q, out)
    packed.step.abort()
    worst = 0.0
    for i in sorted({0, packed.batch - 1}):
        rows = packed.cache.read(packed.sequences[i], layer, head)
        keys, values = (torch.from_numpy(old).cuda().double() for old in rows)
        if packed.stores:
            keys, values = (torch.cat([old, new[i, head, None].double()]) for old, new in ((keys, k), (values, v)))
        heads = slice(head * group, (head + 1) * group)
        weights = (q[i, heads].double() @ keys.T / s.head_dim**0.5).softmax(dim=-1)
        worst = max(worst, relative_error(out[i, heads], weights @ values))
    if not worst <= limit:
        raise AssertionError(f"attention differs from what the cache reads back by {worst}, allowed: {limit}")
    return {"attention_error": worst, "n_tokens_checked": len(keys)}
