"""The documentation builds without a warning, and its links from outside lead somewhere."""

import re
import subprocess
import sys

import pytest

from conftest import CHECKOUT
from facecodec.cli import COMMANDS


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="the 'dev' extra is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "encode_within" in (tmp_path / "api" / "index.html").read_text()
    reference = (tmp_path / "cli-reference" / "index.html").read_text()
    for command in COMMANDS:
        assert f"facecodec {command} [OPTIONS]" in reference
    assert "--max-bytes" in reference


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_the_pages_outside_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)#]+)", (CHECKOUT / name).read_text()):
        assert target.startswith("http") or (CHECKOUT / target).exists(), target
