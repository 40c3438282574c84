#!/usr/bin/env python3
"""Writes C++ from oscar.h: for every function that returns a status, a struct Frame_<function> with

  - a member for each parameter, and storage for what its pointers point to (out parameters and argument structs);
  - call(), which makes the call with them, and is_const: it takes no object that it may change;
  - destroy_made(), after success: gives back the object that the call made;
  - outputs_are_empty(): every output is NULL, 0, or a struct of zeros;
  - visit(v): hands every pointer, struct, tensor, enum, integer and float that the call can see to v, with its name; of
    an array of structs, those of its first two elements.

  generate_frames.py > frames.h
"""
import pathlib
import re

HEADER = pathlib.Path(__file__).resolve().parents[2] / "include" / "oscar" / "oscar.h"
TEXT = HEADER.read_text()
CODE = "\n".join(l for l in re.sub(r"/\*.*?\*/", " ", TEXT, flags=re.S).splitlines() if not l.lstrip().startswith("#"))
INTEGERS = {"uint8_t", "uint16_t", "uint32_t", "uint64_t", "int32_t", "int64_t", "oscar_seq", "oscar_step"}
HANDLES = set(re.findall(r"typedef struct (\w+) \1;", CODE))


# How many elements an array's scene has at least: the first one's struct_size is the distance of them all.
N_ELEMENTS = 2


def enums():
    """{enum: [value, ...]}, by the name with which comments and fields call it."""
    found = {}
    for name, body in re.findall(r"enum (\w+)_enum\s*\{(.*?)\}", CODE, flags=re.S):
        found[name] = [int(v) for v in re.findall(r"=\s*(-?\d+)", body)]
    return found


def structs():
    """{struct: [(type, field, enum or None), ...]}; a field's enum stands in the comment behind it, or has its name."""
    def enum_of(comment):
        word = re.match(r"/\*\s*(\w+)", comment.group(0))
        name = re.sub("_enum$", "", word.group(1)) if word else ""
        return f"@{name}" if name in ENUMS else " "

    found = {}
    for name, body in re.findall(r"typedef struct (\w+)\s*\{(.*?)\}\s*\w+\s*;", TEXT, flags=re.S):
        fields = []
        for match in re.finditer(r"([^;@]+);\s*(?:@(\w+))?", re.sub(r"/\*.*?\*/", enum_of, body, flags=re.S)):
            pointer = re.search(r"\(\s*\*\s*(\w+)\s*\)\s*\(", match.group(1))
            if pointer:
                fields.append(("function", pointer.group(1), None))
                continue
            field = re.fullmatch(r"(.*?[\s*])(\w+)\s*(\[[^\]]*\])?", match.group(1).strip(), flags=re.S)
            kind = re.sub(r"\s+", " ", field.group(1)).strip()
            enum = match.group(2) or (f"oscar_{field.group(2)}" if f"oscar_{field.group(2)}" in ENUMS else None)
            fields.append(("array" if field.group(3) else kind, field.group(2), enum))
        found[name] = fields
    return found


ENUMS = enums()
STRUCTS = structs()


def functions():
    for result, name, parameters in re.findall(r"OSCAR_API\s+([\w\s*]+?)\b(oscar_\w+)\s*\(([^)]*)\)\s*;", CODE):
        if result.strip() != "oscar_status":
            continue
        split = [re.fullmatch(r"(.*?[\s*])(\w+)", p.strip(), flags=re.S) for p in parameters.split(",")]
        yield name, [(re.sub(r"\s+", " ", p.group(1)).strip(), p.group(2)) for p in split]


def pointed_struct(kind):
    """The struct that a const pointer to argument structs points to, or None."""
    match = re.fullmatch(r"const (\w+) \*", kind)
    return match.group(1) if match and match.group(1) in STRUCTS else None


def visit_elements(struct, pointer, siblings, name, owner):
    """Visits what owner + pointer points to: a struct, or an array whose length a sibling holds."""
    length = next((n for n in (f"n_{pointer[:-1]}_configs", f"n_{pointer}") if n in siblings), None)
    lines = []
    for i in range(N_ELEMENTS if length else 1):
        at, called = f"element({owner}{pointer}, {i})", f"{name}[{i}]" if length else name
        guard = f"{owner}{pointer} && {owner}{length} > {i}" if length else f"{owner}{pointer}"
        lines.append(f"if ({guard}) {{")
        if STRUCTS[struct][0][1] == "struct_size":
            visit = "v.element_size" if length else "v.pointed_size"
            lines.append(f'  {visit}("{called}", {at}.struct_size);')
        lines += [f"  {line}" for line in visit_fields(struct, called, at)] + ["}"]
    return lines


def visit_fields(struct, name, path):
    lines, siblings = [], [field for _, field, _ in STRUCTS[struct]]
    for kind, field, _ in STRUCTS[struct]:  # before the lengths of the arrays become wrong
        if pointed_struct(kind):
            lines += visit_elements(pointed_struct(kind), field, siblings, f"{name}.{field}", f"{path}.")
    for kind, field, enum in STRUCTS[struct]:
        at, called = f"{path}.{field}", f'"{name}.{field}"'
        if field == "struct_size" or kind == "array":
            continue
        if field == "reserved":
            lines.append(f"v.reserved({called}, {at});")
        elif enum:
            lines.append(f"v.enumeration({called}, {at}, {{{', '.join(map(str, ENUMS[enum]))}}});")
        elif kind == "function" or kind.endswith("*"):
            lines.append(f"v.pointer({called}, {at});")
        elif kind == "oscar_tensor":
            lines.append(f"v.tensor({called}, {at});")
        elif kind in STRUCTS:
            lines += visit_fields(kind, f"{name}.{field}", at)
        elif kind in INTEGERS:
            lines.append(f"v.integer({called}, {at});")
        elif kind == "float":
            lines.append(f"v.real({called}, {at});")
        else:
            raise SystemExit(f"{struct}.{field}: what is a {kind}?")
    return lines


def frame(name, parameters):
    members, visits, empty, made, arguments = [], [], [], [], []
    lengths = [parameter for _, parameter in parameters]
    for kind, parameter in parameters:
        if pointed_struct(kind) and f"n_{parameter}" in lengths:
            visits += visit_elements(pointed_struct(kind), parameter, lengths, parameter, "")
    for kind, parameter in parameters:
        pointed = re.sub(r"\bconst\b|\*", "", kind).strip()
        n_stars, is_const, called = kind.count("*"), "const" in kind, f'"{parameter}"'
        arguments.append(parameter)
        if n_stars == 2:  # a handle is made
            members += [f"{pointed} *{parameter}_store = poison<{pointed} *>();", f"{kind}{parameter} = &{parameter}_store;"]
            empty.append(f"{parameter}_store == nullptr")
            made.append(f"if ({parameter}) {pointed}_destroy({parameter}_store);")
        elif n_stars == 1 and pointed in STRUCTS and f"n_{parameter}" not in lengths:
            members += [f"Padded<{pointed}> {parameter}_store;", f"{kind}{parameter} = &{parameter}_store.value;"]
            if pointed == "oscar_tensor":
                visits.append(f"if ({parameter}) v.tensor({called}, {parameter}_store.value);")
            else:
                sized = "v.sized" if is_const else "v.sized_output"
                # config_init and layer_config_init take the size beside the struct.
                if not any(p == "size" for _, p in parameters):
                    visits.append(f"{sized}({called}, {parameter}_store);")
                if is_const:
                    visits += visit_fields(pointed, parameter, f"{parameter}_store.value")
                else:
                    empty.append(f"{parameter}_store.is_empty()")
        elif n_stars == 1 and not is_const and pointed in INTEGERS:  # a number or an id
            members += [f"{pointed} {parameter}_store = 77;", f"{kind}{parameter} = &{parameter}_store;"]
            empty.append(f"{parameter}_store == 0")
        else:
            members.append(f"{kind} {parameter}{{}};")
        if n_stars:
            visits.append(f"v.pointer({called}, {parameter});")
        elif kind in INTEGERS:
            visits.append(f"v.integer({called}, {parameter});")
        elif kind == "oscar_stream":
            visits.append(f"v.stream({called}, {parameter});")
    changes = any(re.fullmatch(r"(\w+) \*", k) and k[:-2] in HANDLES for k, _ in parameters)
    body = "\n".join([
        f"struct Frame_{name} {{", f'  static constexpr const char *function = "{name}";',
        f"  static constexpr bool is_const = {str(not changes).lower()};",
        *(f"  {m}" for m in members),
        f"  oscar_status call() const {{ return {name}({', '.join(arguments)}); }}",
        f"  bool outputs_are_empty() const {{ return {' && '.join(empty) or 'true'}; }}",
        f"  void destroy_made() const {{ {' '.join(made)} }}",
        "  template <class Visitor>", "  void visit(Visitor &v) {", *(f"    {x}" for x in visits), "  }", "};"])
    return body


def main():
    all_functions = list(functions())
    print("// Generated by tests/border/generate_frames.py from oscar.h: do not edit.\n#pragma once")
    print('#include "border/frame.h"\n\nnamespace test {\n')
    for name, parameters in all_functions:
        print(frame(name, parameters) + "\n")
    print("#define OSCAR_FRAMES(X) \\")
    print(" \\\n".join(f"  X({name})" for name, _ in all_functions))
    print("\n}  // namespace test")


if __name__ == "__main__":
    main()
