"""shrink.py on a failure that is planted (planted_fault.c): what is left still fails, and nothing of it can be left out.

  test_shrink.py PROGRAM FAULT        oscar_property, and the fault as a shared library
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import shrink  # noqa: E402

CASE, SEED, OPERATIONS = "*2-bit blocks with refined tokens", 1, 2500
# An open, a step that gives the sequence tokens, three forks and a cut: fewer cannot fail.
LEAST, MOST = 6, 12
PROGRAM = FAULT = None


def run(words, with_fault=True, **variables):
    environment = os.environ | variables | ({"LD_PRELOAD": FAULT} if with_fault else {})
    return subprocess.run(words, env=environment, capture_output=True, text=True, errors="replace")


def model(operations, with_fault=True):
    """Whether the model passes with these operations."""
    variables, words = shrink.command(PROGRAM, CASE, SEED, operations)
    done = run(words, with_fault, **variables)
    assert re.search(r"test cases: +1 ", done.stdout), done.stdout + done.stderr
    return done.returncode == 0


def whole_run(with_fault):
    return run([PROGRAM, f"--test-case={CASE}", "--abort-after=1"], with_fault, OSCAR_PROPERTY_SEED=str(SEED),
               OSCAR_PROPERTY_OPERATIONS=str(OPERATIONS))


def numbers(text):
    """The inverse of shrink.as_list."""
    pairs = [[int(n) for n in part.split("-")] for part in text.split(",")]
    return [n for pair in pairs for n in range(pair[0], pair[-1] + 1)]


class Shrink(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        failed = whole_run(with_fault=True)
        assert failed.returncode != 0, "the planted fault does not show"
        with tempfile.NamedTemporaryFile("w", suffix=".log") as log:
            log.write(failed.stdout)
            log.flush()
            cls.done = run([sys.executable, "-B", HERE / "shrink.py", PROGRAM, "--log", log.name])
        found = re.search(r"OSCAR_PROPERTY_ONLY=([\d,-]+) ", cls.done.stdout)
        assert found, cls.done.stdout + cls.done.stderr
        cls.left = numbers(found.group(1))

    def test_few_operations_are_left(self):
        self.assertGreaterEqual(len(self.left), LEAST)
        self.assertLessEqual(len(self.left), MOST)

    def test_what_is_left_fails_by_the_fault(self):
        self.assertFalse(model(self.left))
        self.assertTrue(model(self.left, with_fault=False))

    def test_nothing_more_can_be_left_out(self):
        for n in self.left:
            with self.subTest(without=n):
                self.assertTrue(model([other for other in self.left if other != n]))

    def test_the_last_line_is_a_command_that_fails(self):
        done = run(["sh", "-c", self.done.stdout.splitlines()[-1]])
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("Status: FAILURE!", done.stdout)

    def test_a_run_that_passes_is_refused(self):
        done = run([sys.executable, "-B", HERE / "shrink.py", PROGRAM, CASE, str(SEED), str(OPERATIONS)], with_fault=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("nothing to make shorter", done.stderr)


if __name__ == "__main__":
    PROGRAM, FAULT = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1])
