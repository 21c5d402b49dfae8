"""A copy of the repository in which mutants are tried, so that the checkout is never changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import approx
from tests.mutation.mutant import Edit

_PACKAGES = ("approx", "energy", "search", "service", "tests")
_LEFT_OUT = (".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "build", "dist", "*.egg-info", "*.db*")
_STALE = "tests/project/test_mutants.py"  # notices every mutant, for none of their edits fits twice
_QUICK = ("-m", "not slow and not process", f"--ignore={_STALE}")

# Python runs this before anything else. An editable installation finds the packages in the checkout, whatever
# `sys.path` says; without its finders they are found in the copy, in child processes as well.
_SITECUSTOMIZE = """
import sys
sys.meta_path[:] = [one for one in sys.meta_path if not type(one).__module__.startswith("_editable_")]
"""
_PLACES = "import approx, energy, search, service; print(*(one.__file__ for one in (approx, energy, search, service)))"

_TIMEOUT_S = 120  # of a test; quick ones take half a second on a machine that is not busy
_PASSED, _NO_TESTS = 0, 5  # exit codes of pytest


class Copy:
    """A copy of the repository, and a process that runs its tests; a context manager, which ends that.

    Args:
        root: The repository.
        folder: An empty folder for the copy and what else is needed.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = folder / "copy"
        shutil.copytree(root, self._root, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        for place in map(Path, approx.__path__):  # the native kernel is where the package is installed
            for library in place.glob("crosslayer_native.*"):
                shutil.copy2(library, self._root / "approx")
        self._output = folder / "output"
        started = folder / "started"
        started.mkdir()
        (started / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        self._environment = {
            **os.environ,
            "PYTHONPATH": f"{started}{os.pathsep}{self._root}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        }
        # Compiled files are valid by content: by time and size, some edits within a second would go unnoticed.
        self._python("-m", "compileall", "-q", "--invalidation-mode", "checked-hash", *_PACKAGES)
        strays = [path for path in self._python("-c", _PLACES).split() if not Path(path).is_relative_to(self._root)]
        assert not strays, f"not the copy is tested, but {strays}"

    def __enter__(self) -> Self:
        self._runner = subprocess.Popen(
            [sys.executable, "-m", "tests.mutation.forking"],
            cwd=self._root,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._runner.communicate()  # the end of its input ends it

    def fingerprint(self) -> str:
        """Content hash of all files of the copy, before any test has run."""
        digest = hashlib.sha256()
        for path in sorted(self._root.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                digest.update(f"{path.relative_to(self._root)}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
        return digest.hexdigest()

    def failing_test(self, tests: Sequence[str] = (), *, processes: int = 0, edits: Sequence[Edit] = ()) -> str:
        """Run quick tests with some edits, which are undone afterwards, until the first fails.

        Args:
            tests: Files or folders; empty for all.
            processes: Processes that run them; 0 for one that also collects them.
            edits: The edits, each in another file.

        Returns:
            The test that failed, or the file that could not be collected; empty if all passed.

        Raises:
            StaleEditError: If an edit does not fit the sources.
            RuntimeError: If pytest itself failed.
        """
        before = {self._root / edit.file: (self._root / edit.file).read_text(encoding="utf-8") for edit in edits}
        after = {path: edit.applied_to(content) for edit, (path, content) in zip(edits, before.items(), strict=True)}
        try:
            for path, content in after.items():
                path.write_text(content, encoding="utf-8")
            return self._failing_test(tests, processes)
        finally:
            for path, content in before.items():
                path.write_text(content, encoding="utf-8")

    def _failing_test(self, tests: Sequence[str], processes: int) -> str:
        options = [*_QUICK, "-x", "-q", "--tb=no", "--assert=plain", f"--timeout={_TIMEOUT_S}"]
        options += ["-p", "no:cacheprovider", "-p", "tests.mutation.steady"]
        if processes:
            options += ["--numprocesses", str(processes)]
        assert self._runner.stdin is not None
        assert self._runner.stdout is not None
        run = {"arguments": [*options, *tests], "output": str(self._output)}
        self._runner.stdin.write(f"{json.dumps(run)}\n")
        self._runner.stdin.flush()
        code = int(self._runner.stdout.readline())
        said = self._output.read_text()
        if code in (_PASSED, _NO_TESTS):
            return ""
        if named := re.search(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE):
            return named[1]
        if "ImportError while loading conftest" in said:
            return "tests/conftest.py"
        raise RuntimeError(f"pytest ended with {code}:\n{said}")

    def _python(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self._root,
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout
