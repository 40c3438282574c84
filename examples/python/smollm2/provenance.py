"""Where and from what a run's figures come, without names of machines or folders."""

import datetime
import pathlib
import platform
import subprocess

import numpy as np

import oscar


def processor():
    """The model's name as the system gives it."""
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def commit():
    """Of the repository that this file is in; None outside of one."""

    def git(*arguments):
        command = ("git", "-C", pathlib.Path(__file__).parent, *arguments)
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        return git("rev-parse", "--short=7", "HEAD") + (" with changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def collect():
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "version": oscar.version(),
        "backend": next(b.name for b in oscar.backends() if b.selected),
        "processor": processor(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
