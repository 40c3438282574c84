"""How far a compressed cache moves a model from exact keys and values, levels A to D, the field's methods beside."""

import pathlib
import sys

# The model, its tokenizer and OSCAR as published are those of scripts/demo.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "examples" / "python"))
