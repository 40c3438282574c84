#!/usr/bin/env bash
# Builds the Python wheel and looks at it as a user's machine would: what is in it, what its module needs from the system,
# and whether an environment with nothing but the wheel computes an attention.
#   run.sh SOURCE_DIR WHEEL_DIR       environment: PYTHON, which has pip and auditwheel (default: python3)
# Leaves the wheel, alone, in WHEEL_DIR.
set -euo pipefail
source_dir=$(cd "$1" && pwd) python=${PYTHON:-python3}
rm -rf "$2"
mkdir -p "$2"
wheel_dir=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { echo "FAILED: $*" >&2; exit 1; }

"$python" -m pip --disable-pip-version-check --quiet wheel --no-deps -w "$wheel_dir" "$source_dir"
wheel=("$wheel_dir"/liboscar-*.whl)
[ ${#wheel[@]} -eq 1 ] && [ -f "${wheel[0]}" ] || fail "there is not one wheel in $wheel_dir"

"$python" -m zipfile -e "${wheel[0]}" "$work/content"
(cd "$work/content" && find . -type f | sed 's|^\./||; s|^liboscar-[^/]*/||; s|\.cpython[^/]*\.so$|.so|' | sort) >"$work/files"
(cd "$source_dir/bindings/python" && ls oscar/*.py oscar/hf/*.py oscar/*.pyi oscar/py.typed
  printf '%s\n' oscar/_oscar.so METADATA RECORD WHEEL licenses/LICENSE) | sort >"$work/wanted"
diff "$work/wanted" "$work/files" || fail "< should be in the wheel, > is in it"

module=("$work"/content/oscar/_oscar.*.so)
needs=$(readelf -d "${module[0]}" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p' | sort | tr '\n' ' ')
case $needs in
  *[!\ ]*) ;;
  *) fail "nothing is needed: is this a module?" ;;
esac
for library in $needs; do
  case $library in
    libc.so.6 | libm.so.6 | libpthread.so.0 | ld-linux-x86-64.so.2 | ld-linux-aarch64.so.1) ;;
    *) fail "the module needs $library, wanted only the C library" ;;
  esac
done
readelf -d "${module[0]}" | grep -qE '\((RPATH|RUNPATH)\)' && fail "the module looks for libraries in places of its own"
tag=$("$python" -m auditwheel show "${wheel[0]}" | tr '\n' ' ' | sed -n 's/.*platform tag: "\(manylinux_[^"]*\)".*/\1/p')
[ -n "$tag" ] || fail "auditwheel: not a wheel for other machines"

"$python" -m venv "$work/venv"
"$work/venv/bin/pip" --disable-pip-version-check --quiet install "${wheel[0]}"
cp "$source_dir/examples/python/quickstart.py" "$work"
said=$(cd "$work" && env -i PATH=/usr/bin:/bin "$work/venv/bin/python" quickstart.py)
[ "$said" = "token 1 sees 0.750" ] || fail "the quick start said: $said"
echo "wheel: $(du -k "${wheel[0]}" | cut -f1) KB, needs $needs($tag); $said"
