"""check_abi.py must find each way of breaking the ABI, and nothing in what is only added behind the known.

  test_check_abi.py LIBRARY COMPILER
"""
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
CHECK = HERE / "check_abi.py"
HEADER = HERE.parents[1] / "include" / "oscar" / "oscar.h"
LIBRARY = COMPILER = None

# (what is broken, what stands there, what comes instead, what the complaint must say)
LAYOUTS = [
    ("two fields change places", "  uint64_t n_tokens;        /* accepted tokens of all sequences */\n  uint64_t n_packed_tokens;",
     "  uint64_t n_packed_tokens;\n  uint64_t n_tokens;", "oscar_cache_stats.n_packed_tokens offset 16"),
    ("a field is gone", "  uint32_t batch_invariant;", "  /* nothing */", "-struct oscar_cache_config.batch_invariant"),
    ("a field is wider", "  uint32_t n_recent; ", "  uint64_t n_recent; ", "oscar_cache_config.n_recent"),
    ("a field in the middle", "  uint32_t window;             /* sliding", "  uint32_t extra;\n  uint32_t window;             /* sliding",
     "oscar_cache_config.extra"),
    ("another value of an enum", "OSCAR_E_NO_SPACE = -3,", "OSCAR_E_NO_SPACE = -4,", "+constant OSCAR_E_NO_SPACE = -4"),
    ("an enum's constant is gone", "OSCAR_STORAGE_EXACT = 1 ", "OSCAR_STORAGE_WHOLE = 1 ", "-constant OSCAR_STORAGE_EXACT = 1"),
    ("another default", "#define OSCAR_DEFAULT UINT32_MAX", "#define OSCAR_DEFAULT 0u", "constant OSCAR_DEFAULT"),
]


def layout(old="", new=""):
    text = HEADER.read_text()
    if old:
        assert text.count(old) == 1, f"the header has {text.count(old)} times: {old}"
    with tempfile.TemporaryDirectory() as folder:
        header = pathlib.Path(folder, "oscar", "oscar.h")
        header.parent.mkdir()
        header.write_text(text.replace(old, new) if old else text)
        return subprocess.run([sys.executable, "-B", CHECK, "layout", "--compiler", COMPILER, "--header", header],
                              capture_output=True, text=True)


def symbols(change=lambda names: names, soname="liboscar.so.1", code=""):
    """Of a library that has but empty functions, with the names of the agreed list."""
    names = change(re.findall(r"T (\w+)@@", (HERE / "oscar.symbols").read_text()))
    with tempfile.TemporaryDirectory() as folder:
        source, script, library = (pathlib.Path(folder, n) for n in ("all.c", "all.map", "liboscar.so"))
        source.write_text(code + "".join(f"void {name}(void) {{}}\n" for name in names))
        script.write_text("OSCAR_1 { global: oscar_*; local: *; };\n")
        subprocess.run([COMPILER, "-shared", "-fPIC", source, "-o", library, f"-Wl,--version-script={script}",
                        f"-Wl,-soname,{soname}"], check=True)
        return subprocess.run([sys.executable, "-B", CHECK, "symbols", "--library", library], capture_output=True, text=True)


class CheckAbi(unittest.TestCase):
    def found(self, done, complaint):
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(complaint, done.stdout)

    def test_what_is_agreed_passes(self):
        for done in (layout(), symbols()):
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_library_itself_passes(self):
        done = subprocess.run([sys.executable, "-B", CHECK, "symbols", "--library", LIBRARY], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_each_change_of_a_layout_is_found(self):
        for what, old, new, complaint in LAYOUTS:
            with self.subTest(what):
                self.found(layout(old, new), complaint)

    def test_a_symbol_that_is_gone_is_found(self):
        self.found(symbols(lambda names: names[1:]), "oscar_abi_version: in the header, but not exported")

    def test_a_symbol_too_many_is_found(self):
        self.found(symbols(lambda names: names + ["oscar_secret"]), "oscar_secret: exported, but not in the header")

    def test_another_soname_is_found(self):
        self.found(symbols(soname="liboscar.so.2"), "SONAME")

    def test_a_library_that_prints_aborts_opens_files_or_starts_threads_of_its_own_is_found(self):
        for call, code in (("puts", 'int puts(const char *); void oscar_x(void) { puts("x"); }'),
                           ("fopen", "void *fopen(const char *, const char *); "
                            'void oscar_x(void) { fopen("x", "r"); }'),
                           ("open64", 'int open64(const char *, int); void oscar_x(void) { open64("x", 0); }'),
                           ("socket", "int socket(int, int, int); void oscar_x(void) { socket(0, 0, 0); }"),
                           ("execve", 'int execve(const char *, void *, void *); void oscar_x(void) { execve("x", 0, 0); }'),
                           ("abort", "void abort(void); void oscar_x(void) { abort(); }"),
                           ("pthread_create", "int pthread_create(void); void oscar_x(void) { pthread_create(); }")):
            with self.subTest(call):
                self.found(symbols(code=code + "\n"), f"calls {call}")


if __name__ == "__main__":
    LIBRARY, COMPILER = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1])
