# Helpers for the scripts that must run on a bare Debian 12: `. scripts/setup.sh` from the repository root.
#   say TEXT...                        a progress line
#   need_apt PACKAGE...                installs what is missing; silent when nothing is
#   ensure_venv DIR REQUIREMENT...     a Python environment with these pip requirements; silent when it is there
#   oscar_jobs                         prints how many build jobs to run (OSCAR_JOBS, or the number of cores)

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

oscar_jobs() { printf '%s\n' "${OSCAR_JOBS:-$(nproc)}"; }

apt_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

need_apt() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    say "this is no Debian system, so I cannot see whether these are here: $* (going on)"
    return 0
  fi
  local package missing=()
  for package in "$@"; do
    apt_installed "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0

  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      printf 'error: these Debian packages are missing: %s\n' "${missing[*]}" >&2
      printf 'Neither root nor sudo is at hand. Ask an administrator to run\n  apt-get install %s\nand try again.\n' \
        "${missing[*]}" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  say "installing Debian packages: ${missing[*]}"
  local log
  log=$(mktemp)
  # "env" carries the variable through sudo, which drops the environment.
  if ! { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q update &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends \
      "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    printf 'error: apt-get could not install: %s (its last words are above)\n' "${missing[*]}" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

# The interpreter for new environments: python3 where it can build extension modules, else Debian's own.
oscar_python() {
  local can='import ensurepip, venv, os, sysconfig
assert os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h"))'
  if python3 -c "$can" 2>/dev/null; then
    command -v python3
  else
    need_apt python3 python3-venv python3-dev >&2 && printf '/usr/bin/python3\n'
  fi
}

ensure_venv() {
  local dir=$1 python requirement missing=()
  shift
  if ! "$dir/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(oscar_python) || return 1
    say "creating a Python environment in $dir"
    "$python" -m venv --clear "$dir" || return 1
  fi
  # Requirements already asked for and met are lines of this file: no need to ask pip, or the network, again.
  local met="$dir/oscar-requirements-met.txt"
  touch "$met"
  for requirement in "$@"; do
    grep -qxF -- "$requirement" "$met" || missing+=("$requirement")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  say "installing Python packages: ${missing[*]}"
  "$dir/bin/python" -m pip --disable-pip-version-check --quiet install "${missing[@]}" || {
    printf 'error: pip could not install: %s\n' "${missing[*]}" >&2
    return 1
  }
  printf '%s\n' "${missing[@]}" >>"$met"
}
