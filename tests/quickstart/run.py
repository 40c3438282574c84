#!/usr/bin/env python3
"""Does what README.md's first steps say, to the letter, and compares what the programs print with what it says they print.

    run.py [LANGUAGE...]      python, c, rust, go (default: all)

A block after `<!-- quickstart: LANGUAGE -->` is a shell command, one after `<!-- quickstart: LANGUAGE FILE -->` the text of
a file. The blocks of a language run in one shell, in a copy of the repository (of what git knows) and with an empty home
folder; C, Rust and Go run after the blocks of `install`. Then Go's module is fetched by `go get` from a repository with
the tags of a release, because that is what a tag of a module in a sub-folder is for.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"<!-- quickstart: (\w+)(?: (\S+))? -->\n(?:<!-- snippet: .*? -->\n)?```\w*\n(.*?)^```$", re.S | re.M)
LANGUAGES = ("python", "c", "rust", "go")
MODULE = "github.com/liboscar/liboscar/bindings/go"
RELEASE = "v0.1.0"


def blocks():
    """Language -> [(file or None, text)]."""
    text = (ROOT / "README.md").read_text()
    found = {}
    for language, file, body in BLOCK.findall(text):
        found.setdefault(language, []).append((file or None, body))
    if text.count("<!-- quickstart:") != sum(map(len, found.values())):
        sys.exit("README.md: a quickstart comment without a fenced block right after it")
    if missing := {"install", "prints", *LANGUAGES} - found.keys():
        sys.exit(f"README.md has no quickstart for {', '.join(sorted(missing))}")
    return found


def copy_tree(target):
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_symlink() or (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


class Shell:
    """Bash in the tree, with a home of its own."""

    def __init__(self, work):
        self.tree, self.home, self._texts = work / "liboscar", work / "home", work / "texts"
        for folder in (self.tree, self.home, self._texts):
            folder.mkdir()
        copy_tree(self.tree)
        own_home = pathlib.Path.home()
        # The tools themselves may live in the real home; what they build and fetch may not.
        self._environment = {
            "HOME": str(self.home),
            "CARGO_HOME": os.environ.get("CARGO_HOME", str(own_home / ".cargo")),
            "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(own_home / ".rustup")),
            "CARGO_TERM_COLOR": "never",
            "GOPATH": str(self.home / "go"),
        }

    def script(self, language_blocks):
        lines = []
        for file, body in language_blocks:
            if file:
                number = len(list(self._texts.iterdir()))
                (self._texts / str(number)).write_text(body)
                lines.append(f"cp {self._texts}/{number} {self.tree}/{file}")
            else:
                lines.append(body)
        return "\n".join(lines)

    def run(self, script, folder=None):
        """What it prints on stdout; its end where it fails."""
        unwanted = ("PKG_CONFIG", "LD_LIBRARY", "PYTHON", "VIRTUAL_ENV", "OSCAR_", "CARGO_TARGET", "CGO_", "GOFLAGS")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=folder or self.tree, text=True,
                              env={**environment, **self._environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            sys.exit(f"{script}\n{done.stdout}\nFAILED ({done.returncode}): the commands above")
        return done.stdout

    def compare(self, name, output, wanted):
        if not output.endswith(wanted):
            sys.exit(f"{name} printed\n{output}\nwanted at its end\n{wanted}")
        print(f"{name}: {wanted.strip()}", flush=True)


def go_get(shell, work, install, file, wanted):
    """The module of a release: git fetches this tree wherever its address is asked for."""
    origin, program = work / "origin", work / "program"
    origin.mkdir()
    program.mkdir()
    (program / "main.go").write_text(file)
    commit = "git -c user.name=t -c user.email=t@localhost commit --quiet -m release"
    shell.run(f"cp -R {shell.tree}/bindings . && git init --quiet && git add bindings && {commit} && "
              f"git tag {RELEASE} && git tag bindings/go/{RELEASE}", origin)
    shell.run(f"git config --global url.file://{origin}.insteadOf https://github.com/liboscar/liboscar")
    exports = "\n".join(line for line in install.splitlines() if line.startswith("export "))
    output = shell.run(f"{exports}\nexport GOPROXY=direct GOSUMDB=off GOFLAGS=-modcacherw\ngo mod init hello\n"
                       f"go get {MODULE}\ngrep '{MODULE} {RELEASE}' go.mod\ngo run .\n", program)
    shell.compare(f"go get {MODULE}", output, wanted)


def main():
    languages = sys.argv[1:] or LANGUAGES
    if unknown := set(languages) - set(LANGUAGES):
        sys.exit(f"no such language: {', '.join(unknown)}\n{__doc__}")
    found = blocks()
    wanted = found["prints"][0][1]
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        shell = Shell(work)
        install = shell.script(found["install"])
        if set(languages) - {"python"}:
            shell.run(install)
        exports = "\n".join(line for line in install.splitlines() if line.startswith("export "))
        for language in languages:
            before = "" if language == "python" else exports
            shell.compare(language, shell.run(f"{before}\n{shell.script(found[language])}"), wanted)
        if "go" in languages:
            program = next(body for file, body in found["go"] if file)
            go_get(shell, work, install, program, wanted)


if __name__ == "__main__":
    main()
