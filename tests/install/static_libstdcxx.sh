#!/usr/bin/env bash
# liboscar.so with libstdc++ in it (OSCAR_STATIC_LIBSTDCXX, for systems with an older one): it needs the C library alone,
# exports what is agreed and nothing of libstdc++, and decodes.
#   static_libstdcxx.sh [BUILD_DIR]        default: build/static-libstdcxx
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. scripts/setup.sh
build=${1:-build/static-libstdcxx}

fail() { echo "FAILED: $*" >&2; exit 1; }

cmake -G Ninja -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DOSCAR_STATIC_LIBSTDCXX=ON -DOSCAR_BUILD_TESTS=OFF >/dev/null
cmake --build "$build" -j "$(oscar_jobs)" --target oscar oscar_example_decode >"$build/log" || { tail -n 30 "$build/log" >&2; exit 1; }

needs=$(readelf -d "$build/liboscar.so" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p' | sort | tr '\n' ' ')
[ -n "$needs" ] || fail "nothing is needed: is this a library?"
for library in $needs; do
  case $library in
    libc.so.6 | libm.so.6 | ld-linux-*.so.*) ;;
    *) fail "the library needs $library, wanted only the C library" ;;
  esac
done
diff tests/abi/oscar.symbols <(nm -D --defined-only "$build/liboscar.so" | awk '$2 != "A" { print $2, $3 }' | LC_ALL=C sort) ||
  fail "< is agreed (tests/abi/oscar.symbols), > is exported"
"$(find "$build" -name oscar_example_decode -type f)" | grep -q 'bits per element' || fail "the example prints no statistics"
echo "static libstdc++: needs $needs"
