"""What is released: metadata that agree with each other, and a wheel of the package alone."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import sktransfer

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_is_the_same_everywhere():
    cited = re.search(r"version = \{(.+)\}", (ROOT / "docs/project/cite.md").read_text())
    assert cited is not None
    assert PROJECT["version"] == sktransfer.__version__ == cited[1]


def test_the_install_page_has_every_extra():
    page = (ROOT / "docs/tutorial/install.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = re.findall(r"`(\w+)`", " ".join(rows))
    assert sorted(named) == sorted(PROJECT["optional-dependencies"])


def test_commands_name_extras_that_exist():
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "sktransfer").rglob("*.py")]
    for page in [ROOT / "README.md", *pages]:
        for listed in re.findall(r'pip install [^\n]*?\[([a-z, ]+)\]"', page.read_text()):
            missing = set(re.split(r",\s*", listed)) - set(PROJECT["optional-dependencies"])
            assert not missing, f"{page.name}: {missing}"


@pytest.mark.slow  # builds a wheel
def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 5 * 2**20
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        info = f"sktransfer-{sktransfer.__version__}.dist-info/"
        metadata = email.message_from_string(opened.read(f"{info}METADATA").decode())
    code = {name for name in names if not name.startswith(info)}
    listed = subprocess.run(
        ["git", "ls-files", "sktransfer"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode == 0 and listed.stdout:  # a source distribution has no repository
        assert code == set(listed.stdout.split())
    assert all(name.startswith("sktransfer/") for name in code)
    assert f"{info}licenses/LICENSE" in names and f"{info}entry_points.txt" in names
    assert metadata["Version"] == sktransfer.__version__
    assert set(metadata.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    assert metadata.get_payload().startswith("# sktransfer")
