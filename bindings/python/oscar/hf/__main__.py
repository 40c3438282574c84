"""python -m oscar.hf calibrate MODEL TEXT... -o FILE: writes the calibration of a model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m oscar.hf", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("calibrate", help="writes the calibration of a model")
    command.add_argument("model", help="a folder with a model and its tokenizer, or a name on the hub")
    command.add_argument("texts", nargs="+", type=Path, metavar="TEXT", help="files of ordinary text, UTF-8")
    command.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="the calibration's file")
    command.add_argument("--profile", default="2bit")
    command.add_argument("--max-tokens", type=int, help="longest sequence to be served (default: the model's positions)")
    command.add_argument("--n-tokens", type=int, default=8192, help="tokens to read (default: %(default)s)")
    command.add_argument("--device", default="cpu")
    command.add_argument("--note", help="for the file, at most 127 bytes")
    given = parser.parse_args(arguments)

    from transformers import AutoModelForCausalLM, AutoTokenizer

    import oscar

    from . import calibrate

    try:
        texts = [path.read_text(encoding="utf-8") for path in given.texts]
        model = AutoModelForCausalLM.from_pretrained(given.model, dtype="auto").to(given.device)
        tokenizer = AutoTokenizer.from_pretrained(given.model)
        calibration = calibrate(
            model,
            tokenizer,
            texts,
            profile=given.profile,
            max_tokens=given.max_tokens,
            n_tokens=given.n_tokens,
            note=given.note,
        )
        given.output.write_bytes(calibration.save())
    except (OSError, UnicodeDecodeError, oscar.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    info = calibration.info()
    print(f"{given.output}: {info.n_tokens} tokens, {info.n_heads} heads, fingerprint {info.fingerprint:016x}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
