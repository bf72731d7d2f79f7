"""The benchmarks still run: every part, with settings so small that the figures mean nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "benchmarks"


@pytest.mark.slow
def test_every_part_runs_and_prints_a_table():
    words = [sys.executable, str(FOLDER / "run.py"), "--quick"]
    # One thread: those of torch stand in each other's way where others use the cores too.
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=alone)
    assert done.returncode == 0, done.stderr
    parts = done.stdout.split("\n## ")[1:]
    names = [part.split("\n", 1)[0] for part in parts]
    assert sorted(names) == sorted(
        path.stem for path in (FOLDER / "parts").glob("*.py") if path.stem != "__init__"
    )
    for name, part in zip(names, parts, strict=True):
        assert "| ---" in part or "Skipped: " in part, f"{name} printed no table:\n{part}"
    searches = {line.split(" | ")[0]: line.split(" | ")[1] for line in done.stdout.splitlines()
                if line.startswith(("| plain Pipeline", "| memory=", "| ours"))}  # fmt: skip
    counted = {float(passes) for passes in searches.values()}
    assert counted == {31.0, 11.0, 1.0, 0.0}


def test_an_unknown_part_is_an_error_that_lists_them():
    words = [sys.executable, str(FOLDER / "run.py"), "speed"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "codes_arrays" in done.stderr
