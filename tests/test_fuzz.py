"""A short run of the fuzzer, and proof that it would find something."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import facecodec
from facecodec.errors import FormatError, ImageError

FUZZ = Path(__file__).parent / "fuzz"

UNTIL_FOUND = "-runs=20000"  # a run ends with what it finds, mostly within some hundreds

PLANTED = """
import sys
sys.path.insert(0, {folder!r})
import fuzz
fuzz.codec.Codec._check = lambda self, parsed: None  # which counts the streams
fuzz.main()
"""


def run(folder, *command: str) -> subprocess.CompletedProcess:
    # The peak of memory that libFuzzer looks at is, here, that of the process that started it.
    options = ("-seed=1", "-rss_limit_mb=0", "-artifact_prefix=" + str(folder) + "/")
    return subprocess.run(
        [sys.executable, *command, *options], capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def atheris():
    return pytest.importorskip("atheris", reason="atheris has no wheel for this Python")


def test_hostile_files_raise_our_own_errors_alone(atheris, tmp_path):
    done = run(tmp_path, str(FUZZ / "fuzz.py"), "-runs=2000")
    assert done.returncode == 0, done.stderr[-2000:]
    counts = ast.literal_eval(
        [line for line in done.stderr.splitlines() if line.startswith("{")][-1]
    )
    assert counts["executions"] == 2000
    assert counts["whole"] > 100  # passed the checksum
    assert counts["decoded"] > 50


def test_the_fuzzer_finds_a_check_that_is_missing(atheris, tmp_path):
    done = run(tmp_path, "-c", PLANTED.format(folder=str(FUZZ)), UNTIL_FOUND)
    assert done.returncode != 0
    assert "Uncaught Python exception" in done.stdout


PLANTED_IN_MODELS = """
import sys
sys.path.insert(0, {folder!r})
import fuzz_models
fuzz_models.codec.check = lambda tensors, expected: None  # of types, shapes and ranges
fuzz_models.main()
"""


def test_hostile_models_raise_our_own_errors_alone(atheris, tmp_path):
    done = run(tmp_path, str(FUZZ / "fuzz_models.py"), "-runs=300")
    assert done.returncode == 0, done.stderr[-2000:]
    counts = ast.literal_eval(
        [line for line in done.stderr.splitlines() if line.startswith("{")][-1]
    )
    assert counts["executions"] == 300
    assert counts["loaded"] > 10
    assert counts["coded"] > 5
    assert counts["embedded"] > 0


def test_the_fuzzer_of_models_finds_a_check_that_is_missing(atheris, tmp_path):
    done = run(tmp_path, "-c", PLANTED_IN_MODELS.format(folder=str(FUZZ)), UNTIL_FOUND)
    assert done.returncode != 0
    assert "Uncaught Python exception" in done.stdout


@pytest.mark.parametrize(
    "path", sorted((FUZZ / "regressions").glob("*")), ids=lambda path: path.name
)
def test_what_the_fuzzer_once_found_is_refused(monkeypatch, path):
    monkeypatch.setenv("FACECODEC_MODELS", str(FUZZ.parent / "data"))
    with pytest.raises((FormatError, ImageError)):  # the model is there
        facecodec.decode(path.read_bytes())
