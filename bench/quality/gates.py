"""The project's quality gates on one run's figures."""

import dataclasses

OSCAR, INT4 = "oscar", "int4"


@dataclasses.dataclass
class Gate:
    arm: str
    windows: str
    text: str
    promise: str
    got: float
    limit: float
    at_least: bool = False

    @property
    def met(self):
        return self.got >= self.limit if self.at_least else self.got <= self.limit

    def row(self):
        return dataclasses.asdict(self) | {"met": self.met}


@dataclasses.dataclass(frozen=True)
class Limits:
    """Of one profile: bits, and mean KL divergence as a ratio to a rival's in the same run."""

    bits: float
    ratio: float
    rival: str = OSCAR
    copy: float = None  # share of the copy items that exact keys and values answer
    top1: float = None  # with stress windows


LIMITS = {
    "2bit": Limits(2.26, 0.16),
    "2bit+self": Limits(2.26, 0.11, copy=0.8),
    "2bit+calibrated": Limits(2.26, 0.085, copy=0.85, top1=0.91),
    "3bit": Limits(3.25, 0.03),
    "3bit+calibrated": Limits(3.25, 0.03),
    "4bit": Limits(4.25, 0.45, INT4, copy=1.0),
    "4bit+calibrated": Limits(4.25, 0.45, INT4, copy=1.0),
}


def check(figures):
    """figures: as run.py writes them. All gates whose figures are there."""
    found = []
    for arm, limits in LIMITS.items():
        if arm not in figures["arms"]:
            continue
        found.append(Gate(arm, "all", "all", "code bits", figures["arms"][arm]["code_bits"], limits.bits))
        for windows, levels in figures["results"].items():
            found += _fidelity(arm, limits, windows, levels.get("model", {}))
            found += _recall(arm, limits, windows, levels.get("recall", {}))
            worse = levels.get("tensor", {}).get(arm, {}).get("n_pairs_worse_than_oscar")
            if arm == "2bit" and worse is not None:
                found.append(Gate(arm, windows, "all", "(layer, head) pairs with a P95 error above OSCAR's", worse, 0))
    return found


def _fidelity(arm, limits, windows, model):
    found = []
    if arm not in model or limits.rival not in model:
        return found
    for text, got in model[arm].items():
        ratio = got["kl_mean"] / model[limits.rival][text]["kl_mean"]
        found.append(Gate(arm, windows, text, f"mean KL divergence over that of {limits.rival}", ratio, limits.ratio))
        if limits.top1 and windows == "stress":
            found.append(Gate(arm, windows, text, "same top-1", got["top1"], limits.top1, at_least=True))
    return found


def _recall(arm, limits, windows, recall):
    if limits.copy is None or arm not in recall or recall[arm]["copy"]["right_of_kept"] is None:
        return []
    got = recall[arm]["copy"]["right_of_kept"]
    return [Gate(arm, windows, "all", "copies right, of those that exact answers", got, limits.copy, at_least=True)]
