#!/usr/bin/env python3
"""Gates of the C ABI: what the library exports, and what the structs of the header look like in memory.

  check_abi.py symbols --library liboscar.so    against tests/abi/oscar.symbols and against the header
  check_abi.py layout [--compiler cc]           against tests/abi/oscar.layout
  --header oscar.h is another header than this tree's.
  --update rewrites the baseline instead. Adding to it is a new minor version; changing or removing a line breaks
  programs that exist, and needs a new OSCAR_ABI_VERSION.
"""
import argparse
import difflib
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
HEADER = HERE.parent.parent / "include" / "oscar" / "oscar.h"
# The library never prints, ends the process, starts other programs, or opens files and connections. Its threads are those of
# src/backend/worker_pool.h, which are joined: tests/property/threads.cpp counts them.
MUST_NOT_CALL = re.compile(
    r"(v?f?printf|v?dprintf|(f|__f)?puts(_unlocked)?|f?putc(har)?|fwrite|write|perror|abort|_?_?exit|_Exit|quick_exit"
    r"|__assert_fail|__(v?f)?printf_chk|pthread_create|thrd_create|v?fork|system|popen|posix_spawn|_ZSt4cout|_ZSt4cerr|_ZSt4clog"
    r"|exec[lv]p?e?|dlm?open|(f|fre|fd)?open(at)?(64)?|creat(64)?|opendir|mkstemps?|tmpfile(64)?|shm_open|socket|connect|bind"
    r"|_ZNSt6thread6detachEv|_ZNSt\d+basic_(filebuf|[io]?fstream)\w*)")
# What a program that uses liboscar must have: the C and C++ run time, nothing else.
MAY_NEED = re.compile(r"(libc|libm|libstdc\+\+|libgcc_s|ld-linux[-\w]*)\.so\.\d+")


def header_text():
    """The header without comments and preprocessor lines."""
    text = re.sub(r"/\*.*?\*/", " ", HEADER.read_text(), flags=re.S)
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def functions():
    return sorted(re.findall(r"OSCAR_API\s[^;]*?\b(oscar_\w+)\s*\(", header_text()))


def structs():
    """{struct: [field, ...]} of every struct that the header defines."""
    found = {}
    for name, body in re.findall(r"typedef struct (\w+)\s*\{(.*?)\}\s*\w+\s*;", header_text(), flags=re.S):
        fields = []
        for declaration in filter(None, (d.strip() for d in body.split(";"))):
            pointer = re.search(r"\(\s*\*\s*(\w+)\s*\)\s*\(", declaration)
            plain = re.search(r"(\w+)\s*(\[[^\]]*\])?$", declaration)
            if not pointer and ("," in declaration or not plain):
                sys.exit(f"{HEADER.name}: one field a declaration, please, in {name}: '{declaration}'")
            fields.append((pointer or plain).group(1))
        found[name] = fields
    return found


def constants():
    enums = re.findall(r"enum \w+\s*\{(.*?)\}", header_text(), flags=re.S)
    names = [name for body in enums for name in re.findall(r"\b(OSCAR_\w+)\s*=", body)]
    return names + ["OSCAR_DEFAULT", "OSCAR_ABI_VERSION"]


def layout(compiler):
    lines = ["#include <oscar/oscar.h>", "#include <stddef.h>", "#include <stdio.h>", "int main(void) {"]
    for name, fields in structs().items():
        lines.append(f'  printf("struct {name} size %zu\\n", sizeof({name}));')
        lines += [
            f'  printf("struct {name}.{field} offset %zu size %zu\\n", offsetof({name}, {field}), '
            f"sizeof((({name} *)0)->{field}));" for field in fields]
    lines += [f'  printf("constant {name} = %lld\\n", (long long){name});' for name in constants()]
    lines += ["  return 0;", "}", ""]
    with tempfile.TemporaryDirectory() as folder:
        source, program = pathlib.Path(folder, "layout.c"), pathlib.Path(folder, "layout")
        source.write_text("\n".join(lines))
        subprocess.run([compiler, "-std=c99", "-I", HEADER.parent.parent, source, "-o", program], check=True)
        return subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()


def dynamic(library, key):
    text = subprocess.run(["readelf", "-dW", library], check=True, capture_output=True, text=True).stdout
    return re.findall(rf"\({key}\).*\[(.*)\]", text)


def symbols(library):
    """Exported names with their version, and complaints about the rest of the dynamic section."""
    text = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    rows = [line.split()[-2:] for line in text.splitlines()]
    exported = sorted(f"{kind} {name}" for kind, name in rows if kind != "A")  # A: the version nodes themselves
    problems = []
    names = sorted(entry.split()[1].split("@")[0] for entry in exported)
    for name in sorted(set(names) ^ set(functions())):
        where = "exported, but not in the header" if name in names else "in the header, but not exported"
        problems.append(f"{name}: {where}")
    abi = re.search(r"#define OSCAR_ABI_VERSION (\d+)", HEADER.read_text()).group(1)
    if dynamic(library, "SONAME") != [f"liboscar.so.{abi}"]:
        problems.append(f"SONAME is {dynamic(library, 'SONAME')}, wanted liboscar.so.{abi}")
    text = subprocess.run(["nm", "-D", "--undefined-only", library], check=True, capture_output=True, text=True).stdout
    called = sorted({line.split()[-1].split("@")[0] for line in text.splitlines()})
    problems += [f"calls {name}: the library never prints, aborts, opens anything, or lets threads go"
                 for name in called if MUST_NOT_CALL.fullmatch(name)]
    problems += [f"needs {name}, which no program should have to have"
                 for name in dynamic(library, "NEEDED") if not MAY_NEED.fullmatch(name)]
    return exported, problems


def main():
    global HEADER
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gate", choices=["symbols", "layout"])
    parser.add_argument("--library", help="path of liboscar.so")
    parser.add_argument("--compiler", default="cc")
    parser.add_argument("--header", type=pathlib.Path, default=HEADER)
    parser.add_argument("--update", action="store_true")
    args = parser.parse_args()
    HEADER = args.header.resolve()

    problems = []
    if args.gate == "symbols":
        if not args.library:
            parser.error("symbols needs --library")
        got, problems = symbols(args.library)
    else:
        got = layout(args.compiler)
    baseline = HERE / f"oscar.{args.gate}"
    if args.update:
        baseline.write_text("".join(line + "\n" for line in got))
    wanted = baseline.read_text().splitlines()
    difference = list(difflib.unified_diff(wanted, got, f"{baseline.name} (agreed)", "now", lineterm="", n=0))
    for line in difference + problems:
        print(line)
    if difference or problems:
        sys.exit(f"the ABI is not the agreed one (see above, and --update in {pathlib.Path(__file__).name} --help)")
    print(f"{args.gate}: {len(got)} lines as agreed")


if __name__ == "__main__":
    main()
