"""Every script of benchmarks/ starts, and its row in benchmarks/README.md names its page."""

import re
import runpy
import subprocess
import sys

import pytest

from conftest import CHECKOUT

FOLDER = CHECKOUT / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".py", ".sh"))
ROWS = dict(re.findall(r"^\| `(\w+\.\w+)` \|(.*)$", (FOLDER / "README.md").read_text(), re.M))


def test_every_script_has_its_row():
    assert sorted(ROWS) == SCRIPTS


@pytest.mark.parametrize("script", ROWS)
def test_the_pages_that_a_script_feeds_name_it(script):
    for page in re.findall(r"\]\(([^)#]+)", ROWS[script]):
        text = (FOLDER / page).read_text()
        assert f"benchmarks/{script}" in text or f"make {script[:-3]}" in text, page


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name.endswith(".py")])
def test_every_script_starts(script, monkeypatch, capsys):
    """It starts in this process, where what the scripts import has to be loaded only once."""
    for extra in ("torch", "compressai", "sklearn", "skimage", "playwright", "matplotlib"):
        pytest.importorskip(extra, reason=f"{extra} is not installed: make setup")
    monkeypatch.setattr(sys, "argv", [str(FOLDER / script), "--help"])
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(FOLDER / script), run_name="__main__")
    assert stopped.value.code == 0
    assert "usage" in capsys.readouterr().out.lower()


def test_shell_scripts_can_be_read():
    for script in FOLDER.glob("*.sh"):
        subprocess.run(["bash", "-n", str(script)], check=True)
