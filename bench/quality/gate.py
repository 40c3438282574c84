#!/usr/bin/env python3
"""The quick version of the quality gates, for CI: one window of 1,024 tokens, four arms, stress windows, level B.

Fails unless the data-free 2-bit profile keeps its limits (gates.py), INT4 at twice its bits is closer to exact, and
OSCAR as published farther. Two minutes on two cores.
"""

import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from quality import run  # first: it sets the number of threads
from quality import gates, plan

OURS, BETTER, WORSE = "2bit", "int4", "oscar"
OPTIONS = ["--levels", "B", "--windows", "1", "--tokens", "1024", "--arms", OURS, BETTER, WORSE,
           "--text", f"book={plan.BUNDLED / 'pride-and-prejudice.txt'}",
           "--rival-windows", "6", "--rival-tokens", "1024"]


def main():
    with tempfile.TemporaryDirectory() as folder:
        given = plan.options([*OPTIONS, "--store", folder])
        figures, settings = run.on_model(given)
        found = figures.collect(settings)
    kl = {arm: texts["all"]["kl_mean"] for arm, texts in found["results"]["stress"]["model"].items()}
    checked = [gate for gate in gates.check(found) if gate.arm == OURS]
    failed = [gate for gate in checked if not gate.met]
    for gate in checked:
        print(f"{'ok' if gate.met else 'FAILED'}: {gate.arm}, {gate.text}: {gate.promise}: {gate.got:.4g}, "
              f"limit {gate.limit:g}")
    ordered = kl[BETTER] < kl[OURS] < kl[WORSE]
    values = ", ".join(f"{arm} {kl[arm]:.4f}" for arm in (BETTER, OURS, WORSE))
    print(f"{'ok' if ordered else 'FAILED'}: mean KL divergence rises: {values}")
    # Bits, and the ratio for the text and for all texts: fewer would mean that nothing was measured.
    if len(checked) < 3:
        print(f"FAILED: {len(checked)} gates were checked, wanted 3")
    return 1 if failed or not ordered or len(checked) < 3 else 0


if __name__ == "__main__":
    sys.exit(main())
