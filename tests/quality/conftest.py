"""The evaluation is a folder of programs, not a package that is installed. The tiny model is that of the package's tests."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests" / "python")]
