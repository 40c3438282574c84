#!/usr/bin/env python3
"""Checks the dependency rule of docs/architecture.md: which room of the source may include which.

  check_layers.py [ROOT]    prints every violation as FILE:LINE: what; exit status 1 if there is one
"""
import pathlib
import re
import sys

MIDDLE = {"format", "transform", "quant", "importance", "attention"}
# Who may include whom, beside itself. "backend" means all of that room; INTERFACE is what the middle rooms see of it.
MAY_INCLUDE = {
    "border": {"cache", "backend"} | MIDDLE,
    "cache": {"backend"} | MIDDLE,
    "format": set(),
    "transform": MIDDLE,
    "quant": MIDDLE,
    "importance": MIDDLE,
    "attention": MIDDLE,
    "backend": MIDDLE,
    "cuda": MIDDLE | {"backend"},
}
INTERFACE = {"backend/backend.h", "backend/isa.h"}
PUBLIC_HEADER = "oscar/oscar.h"
CUDA_HEADER = re.compile(r"(cuda\w*\.h|cuda_\w+\.hpp|cuda/.*|cub/.*|thrust/.*|cooperative_groups.*|mma\.h|nvtx3?/.*"
                         r"|device_launch_parameters\.h|vector_types\.h|driver_types\.h)")
SOURCES = {".h", ".hpp", ".c", ".cc", ".cpp", ".cu", ".cuh", ".inl"}
INCLUDE = re.compile(r'\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')


def room_of(root, path):
    """The room that a file lies in, or None outside src/ and cuda/."""
    parts = path.relative_to(root).parts
    if parts[0] == "cuda":
        return "cuda"
    return parts[1] if parts[0] == "src" and len(parts) > 2 else None


def resolve(root, path, quoted):
    """The file that a quoted include means, as the compiler would find it."""
    for folder in (path.parent, root / "src", root / "include", root / "cuda", root):
        candidate = (folder / quoted).resolve()
        if candidate.is_file():
            return candidate
    return None


def judge(root, path, room, name, is_quoted):
    """What is wrong with this include, or None."""
    if CUDA_HEADER.fullmatch(name) and not (is_quoted and resolve(root, path, name)):
        return None if room == "cuda" else f"<{name}> is a CUDA header: only cuda/ may include it"
    if name == PUBLIC_HEADER or name.endswith("/" + PUBLIC_HEADER):
        return None if room == "border" else f"the public header {name} may be included by src/border/ only"
    if not is_quoted:
        return None
    target = resolve(root, path, name)
    if target is None:
        return f'"{name}" is not in the tree (third-party headers go in angle brackets)'
    if not target.is_relative_to(root):
        return f'"{name}" lies outside the tree'
    if target == root / "include" / PUBLIC_HEADER:
        return None if room == "border" else f'"{name}" is the public header: only src/border/ may include it'
    there = room_of(root, target)
    if there == room:
        return None
    if there is None:
        return f'"{name}" lies in no room of src/ or cuda/'
    if there in MAY_INCLUDE[room]:
        return None
    inside = str(target.relative_to(root / "src")) if there != "cuda" else name
    if room in MIDDLE - {"format"} and inside in INTERFACE:
        return None
    return f'{room} may not include {there} ("{name}")'


def violations(root):
    root = root.resolve()
    files = [path for folder in ("src", "cuda") for path in sorted((root / folder).rglob("*"))
             if path.suffix in SOURCES]
    for path in files:
        where = path.relative_to(root)
        room = room_of(root, path)
        if room not in MAY_INCLUDE:
            yield f"{where}:1: lies in no room that the dependency rule knows ({', '.join(sorted(MAY_INCLUDE))})"
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            include = INCLUDE.match(line)
            if include:
                problem = judge(root, path, room, include[1] or include[2], include[1] is not None)
                if problem:
                    yield f"{where}:{number}: {problem}"
            elif 'extern "C"' in line.split("//")[0] and room != "border":
                yield f'{where}:{number}: extern "C" belongs to src/border/ only'
    if not files:
        yield f"{root}: no sources under src/ or cuda/"
    yield from public_header_violations(root)


def public_header_violations(root):
    header = root / "include" / PUBLIC_HEADER
    if not header.is_file():
        yield f"include/{PUBLIC_HEADER}: missing"
        return
    for number, line in enumerate(header.read_text().splitlines(), start=1):
        include = INCLUDE.match(line)
        if include and (include[1] or include[2]) != "stdint.h":
            yield f"include/{PUBLIC_HEADER}:{number}: the public header includes <stdint.h> and nothing else"


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent
    found = list(violations(root))
    for line in found:
        print(line)
    if found:
        sys.exit(f"{len(found)} violations of the dependency rule (docs/architecture.md)")
    print("the dependency rule holds")


if __name__ == "__main__":
    main()
