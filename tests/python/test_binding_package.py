"""The package as a whole."""

import importlib.resources
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import oscar

HEADER = Path(__file__).parents[2] / "include/oscar/oscar.h"


def test_version_is_that_of_the_header():
    numbers = dict(re.findall(r"#define OSCAR_(\w+) (\d+)", HEADER.read_text()))
    assert (
        oscar.version() == oscar.__version__ == ".".join(numbers[f"VERSION_{x}"] for x in ("MAJOR", "MINOR", "PATCH"))
    )
    assert oscar.abi_version() == int(numbers["ABI_VERSION"])


def test_numbers_are_those_that_type_checkers_know():
    stub = (Path(__file__).parents[2] / "bindings/python/oscar/_oscar.pyi").read_text()
    numbers = {name: int(number) for name, number in re.findall(r"^(OSCAR_\w+): Literal\[(-?\d+)\]$", stub, re.M)}
    assert len(numbers) > 25
    assert {name: getattr(oscar._oscar, name) for name in numbers} == numbers


def test_backends():
    found = oscar.backends()
    assert [backend.selected for backend in found].count(True) == 1
    for backend in found:
        assert backend.name and backend.available == (backend.reason == "")
        assert backend.available or not backend.selected
    assert len({backend.name for backend in found}) == len(found)


def test_every_function_of_the_header_is_reached():
    functions = set(re.findall(r"^OSCAR_API [^;(]*?\b(oscar_\w+)\(", HEADER.read_text(), re.MULTILINE))
    assert len(functions) > 25
    # Behind the flat forms of raw/call.h, objects that free themselves, and exceptions.
    flat = {
        "oscar_cache_create": "cache_create",
        "oscar_cache_check": "cache_check",
        "oscar_step_begin": "step_begin",
        "oscar_append": "append",
        "oscar_attend": "attend",
        "oscar_layer": "layer",
        "oscar_calibration_save": "calibration_save",
        "oscar_calibration_import_torch": "calibration_import_torch",
        "oscar_cache_destroy": "cache_close",
        "oscar_calibration_destroy": "oscar_calibration",
        "oscar_calibrator_create": "calibrator_create",
        "oscar_calibrator_feed": "calibrator_feed",
        "oscar_calibrator_destroy": "oscar_calibrator",
        "oscar_seq_export": "seq_export",
        "oscar_seq_import": "seq_import",
        "oscar_cache_log_set": "cache_log_set",
        "oscar_last_error": "set_error_factory",
        "oscar_layer_config_init": "oscar_layer_config",
    }
    missing = [name for name in functions if not hasattr(oscar._oscar, flat.get(name, name))]
    assert not missing


def test_torch_is_not_imported():
    program = (
        "import oscar, sys; print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'jax', 'cupy'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_everything_public_says_what_it_is():
    for name in oscar.__all__:
        thing = getattr(oscar, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        assert inspect.getdoc(thing), name
        for member, value in vars(thing).items() if inspect.isclass(thing) else ():
            if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, (property, classmethod))):
                assert inspect.getdoc(getattr(thing, member)), f"{name}.{member}"


def test_the_package_is_typed():
    assert importlib.resources.files("oscar").joinpath("py.typed").is_file()


def test_the_raw_module_gives_only_its_init_function_away():
    done = subprocess.run(["nm", "-D", "--defined-only", oscar._oscar.__file__], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("no nm")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["PyInit__oscar"]
