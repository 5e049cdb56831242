"""The Python and the commands that the pages show run, each line by itself."""

import re
import shutil
import subprocess
import tarfile
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facecodec
from conftest import CHECKOUT, PATIENCE

PAGES = ("README.md", "docs/start.md", "docs/api.md", "docs/cli.md", "docs/view.md")
NOT_RUN = {  # lines of these pages that no test runs, by a pattern, and why
    r"^(make|pip|python3|\.) ": "sets up an environment",
    r"^curl|https?://": "needs a network",
    r"s3://|results\.jsonl": "needs an object store and a cluster",
    r"^eval|_FACECODEC_COMPLETE": "is for an interactive shell",
    r"^facecodec view": "opens a browser and waits: tests/test_view.py has it",
    r"python benchmarks/": "measures for minutes",
    r"^\d+  beshort|^!:mime": "is for `file`",
}


def blocks(page: str) -> list[str]:
    """The indented blocks of a page, without their indent; not the continuation of a list item."""
    text = (CHECKOUT / page).read_text()
    found = re.findall(r"(?:(?<=\n\n)|\A)((?:    .*\n|\n(?=    ))+)", text)
    return [textwrap.dedent(block) for block in found]


SNIPPETS = [(page, block) for page in PAGES for block in blocks(page) if "INPUT..." not in block]
PYTHON = [pytest.param(block, id=page) for page, block in SNIPPETS if "import " in block]
SHELL = dict.fromkeys(
    line.partition("  # ")[0].strip()
    for _, block in SNIPPETS
    if "import " not in block
    for line in block.splitlines()
    if line and not any(re.search(pattern, line) for pattern in NOT_RUN)
)


@pytest.fixture
def at_home(on_path, tmp_path, monkeypatch):
    """A working directory with the files that the pages mention, and `facecodec` on the path."""
    data = pytest.importorskip("skimage.data", reason="the 'demo' extra is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    home = tmp_path / "home"
    (home / "photos").mkdir(parents=True)
    monkeypatch.chdir(home)
    Image.fromarray(data.astronaut()[0:256, 96:352]).save("face.jpg")  # embed finds a face
    shutil.copy("face.jpg", "-x.jpg")
    shutil.copy("face.jpg", "photos")
    with tarfile.open("shard-000.tar", "w") as shard:
        shard.add("face.jpg", "one.jpg")
    return home


def test_there_are_snippets_to_run():
    assert len(PYTHON) >= 6
    assert sum(line.startswith("facecodec encode") for line in SHELL) >= 7
    for command in ("decode", "info", "embed", "verify", "models"):
        assert any(line.startswith(f"facecodec {command}") for line in SHELL), command


@pytest.mark.parametrize("block", PYTHON)
def test_python_of_a_page_runs(block, at_home):
    if '"face.fic"' in block:
        Path("face.fic").write_bytes(facecodec.encode(np.zeros((40, 40, 3), np.uint8)))
    exec(block, {})


@pytest.mark.parametrize("line", SHELL)
def test_a_command_of_a_page_runs(line, at_home):
    """Each line runs by itself; a line that reads .fic files finds one."""
    if re.match(r"facecodec (?!encode)", line):
        Path("face.fic").write_bytes(facecodec.encode(Image.open("face.jpg")))
        Path("coded").mkdir()
        with tarfile.open("coded/shard-000.tar", "w") as shard:
            shard.add("face.fic", "one.fic")
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
