#!/usr/bin/env bash
# Installs liboscar into a temporary prefix and builds and runs examples/c and examples/cpp from there alone, through
# pkg-config and through find_package, with the shared and with the static library; then moves the prefix and does it again.
#   run.sh SOURCE_DIR BUILD_DIR        absolute; environment: CC, CXX, CMAKE, PKG_CONFIG
set -euo pipefail
source_dir=$1 build_dir=$2
: "${CC:=cc}" "${CXX:=c++}" "${CMAKE:=cmake}" "${PKG_CONFIG:=pkg-config}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { echo "FAILED: $*" >&2; exit 1; }

"$CMAKE" --install "$build_dir" --prefix "$work/first" >"$work/install.log" || { cat "$work/install.log" >&2; exit 1; }
# Alone: nothing of the source tree is beside them.
cp -r "$source_dir/examples/c" "$work/example"
cp -r "$source_dir/examples/cpp" "$work/cpp-example"
n_programs=0

run_cpp() {
  n_programs=$((n_programs + 1))
  [ "$("$@")" = "token 1 sees 0.750" ] || fail "$* printed something else than its result"
}

# Runs a program and compares what it prints with the first one's output.
run() {
  n_programs=$((n_programs + 1))
  "$@" >"$work/output" || fail "$* exited with $?"
  grep -q "bits per element" "$work/output" || fail "$* printed no statistics"
  [ -f "$work/expected" ] || cp "$work/output" "$work/expected"
  cmp "$work/output" "$work/expected" || fail "$* printed something else than the first program"
}

try_prefix() {
  local prefix=$1 kind libdir pc
  pc=$(dirname "$(find "$prefix" -name oscar.pc)")
  libdir=$(dirname "$pc")
  export PKG_CONFIG_PATH=$pc PKG_CONFIG_LIBDIR=$pc
  "$PKG_CONFIG" --exact-version="$(sed -n 's/^Version: //p' "$pc/oscar.pc")" oscar

  # shellcheck disable=SC2046
  "$CC" -std=c99 -O2 "$work/example/decode.c" -o "$work/by-pkg-config" $("$PKG_CONFIG" --cflags --libs oscar) -lm
  run env LD_LIBRARY_PATH="$libdir" "$work/by-pkg-config"
  # shellcheck disable=SC2046
  "$CXX" -std=c++17 -O2 "$work/cpp-example/quickstart.cpp" -o "$work/cpp-by-pkg-config" $("$PKG_CONFIG" --cflags --libs oscar)
  run_cpp env LD_LIBRARY_PATH="$libdir" "$work/cpp-by-pkg-config"

  mkdir "$work/static"
  cp -r "$prefix" "$work/static/prefix"
  find "$work/static/prefix" -name 'liboscar.so*' -delete
  PKG_CONFIG_PATH=${pc/"$prefix"/"$work/static/prefix"} PKG_CONFIG_LIBDIR=${pc/"$prefix"/"$work/static/prefix"}
  # shellcheck disable=SC2046
  "$CC" -std=c99 -O2 "$work/example/decode.c" -o "$work/by-pkg-config-static" \
    $("$PKG_CONFIG" --static --cflags --libs oscar) -lm
  rm -rf "$work/static"
  run "$work/by-pkg-config-static"

  for kind in oscar oscar_static; do
    "$CMAKE" -G Ninja -S "$work/example" -B "$work/by-cmake" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release \
      -DCMAKE_C_COMPILER="$CC" -DOSCAR_EXAMPLE_LIBRARY=oscar::$kind -DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF >"$work/cmake.log" 2>&1 &&
      "$CMAKE" --build "$work/by-cmake" >>"$work/cmake.log" 2>&1 || { cat "$work/cmake.log" >&2; fail "oscar::$kind"; }
    run "$work/by-cmake/oscar_example_decode"
    rm -rf "$work/by-cmake"
    "$CMAKE" -G Ninja -S "$work/cpp-example" -B "$work/by-cmake" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release \
      -DCMAKE_CXX_COMPILER="$CXX" -DOSCAR_EXAMPLE_LIBRARY=oscar::$kind -DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF \
      >"$work/cmake.log" 2>&1 &&
      "$CMAKE" --build "$work/by-cmake" >>"$work/cmake.log" 2>&1 || { cat "$work/cmake.log" >&2; fail "C++, oscar::$kind"; }
    run_cpp "$work/by-cmake/oscar_example_cpp"
    rm -rf "$work/by-cmake"
  done
}

! grep -rIl -e "$source_dir" -e "$build_dir" -e "$work" "$work/first" ||
  fail "these installed files name the place they were built at"
try_prefix "$work/first"
mkdir "$work/elsewhere"
mv "$work/first" "$work/elsewhere/prefix"
try_prefix "$work/elsewhere/prefix"
echo "installed tree: $n_programs programs built, the same output from each"
