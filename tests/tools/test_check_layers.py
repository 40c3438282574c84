"""check_layers.py must find each kind of violation in a tiny bad tree, and nothing in a good one."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

CHECK = pathlib.Path(__file__).resolve().parents[2] / "tools" / "check_layers.py"

GOOD = {
    "include/oscar/oscar.h": "#include <stdint.h>\n",
    "src/border/calls.cpp": '#include <oscar/oscar.h>\n#include "cache/cache.h"\nextern "C" int oscar_call();\n',
    "src/cache/cache.h": '#include <vector>\n#include "format/block.h"\n#include "backend/registry.h"\n',
    "src/format/block.h": "#include <cstdint>\n// cache/cache.h and <cuda.h> in a comment do no harm\n",
    "src/transform/transform.h": '#include "format/block.h"\n',
    "src/quant/pack.cpp": '#include "backend/isa.h"\n#include "transform/transform.h"\n',
    "src/importance/choice.cpp": '#include "format/block.h"\n',
    "src/attention/work.h": '#include "transform/transform.h"\n',
    "src/backend/isa.h": '#include "attention/work.h"\n',
    "src/backend/backend.h": '#include "attention/work.h"\n',
    "src/backend/registry.h": '#include "backend.h"\n#include "backend/isa.h"\n',
    "cuda/engine.cu": '#include <cuda_runtime.h>\n#include <cub/cub.cuh>\n#include "attention/work.h"\n',
}

# (file, what is added to it, what the complaint must say)
BAD = [
    ("src/quant/pack.cpp", '#include "cache/cache.h"', "quant may not include cache"),
    ("src/quant/pack.cpp", '#include "../cache/cache.h"', "quant may not include cache"),
    ("src/quant/pack.cpp", '#include "backend/registry.h"', "quant may not include backend"),
    ("src/cache/cache.h", '#include "border/calls.cpp"', "cache may not include border"),
    ("src/format/block.h", '#include "transform/transform.h"', "format may not include transform"),
    ("src/format/block.h", '#include "backend/isa.h"', "format may not include backend"),
    ("src/backend/isa.h", '#include "cache/cache.h"', "backend may not include cache"),
    ("src/backend/isa.h", "  #  include <oscar/oscar.h>", "public header"),
    ("src/cache/cache.h", '#include "oscar/oscar.h"', "public header"),
    ("src/cache/cache.h", '#include "../../include/oscar/oscar.h"', "public header"),
    ("src/attention/work.h", "#include <cuda_runtime.h>", "CUDA header"),
    ("src/border/calls.cpp", "#include <cooperative_groups.h>", "CUDA header"),
    ("cuda/engine.cu", '#include "cache/cache.h"', "cuda may not include cache"),
    ("cuda/engine.cu", '#include "border/calls.cpp"', "cuda may not include border"),
    ("src/cache/cache.h", '#include "engine.cu"', "cache may not include cuda"),
    ("src/cache/cache.h", '#include "Eigen/Dense"', "not in the tree"),
    ("src/cache/cache.h", 'extern "C" int f();', 'extern "C"'),
    ("src/misc/helper.h", "", "no room"),
    ("src/loose.h", "", "no room"),
    ("include/oscar/oscar.h", "#include <cuda_runtime.h>", "nothing else"),
]


def check(tree):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in tree.items():
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return subprocess.run([sys.executable, "-B", CHECK, folder], capture_output=True, text=True)


class CheckLayers(unittest.TestCase):
    def test_a_good_tree_passes(self):
        done = check(GOOD)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_each_violation_is_found_and_named(self):
        for file, line, complaint in BAD:
            with self.subTest(file=file, line=line):
                done = check({**GOOD, file: GOOD.get(file, "") + line + "\n"})
                self.assertEqual(done.returncode, 1)
                found = done.stdout.splitlines()
                self.assertEqual(len(found), 1, found)
                self.assertTrue(found[0].startswith(file + ":"), found)
                self.assertIn(complaint, found[0])

    def test_an_empty_tree_does_not_pass(self):
        self.assertEqual(check({"include/oscar/oscar.h": ""}).returncode, 1)


if __name__ == "__main__":
    unittest.main()
