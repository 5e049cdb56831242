"""Short runs of the fuzzers, and proof that each would find something."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import facecodec
from facecodec.errors import FormatError, ImageError

FUZZ = Path(__file__).parent / "fuzz"

UNTIL_FOUND = "-runs=20000"  # a run ends at its first finding, mostly after a few hundred inputs


def run(folder, *command: str) -> subprocess.CompletedProcess:
    # The peak of memory that libFuzzer looks at is, here, that of the process that started it.
    options = ("-seed=1", "-rss_limit_mb=0", "-artifact_prefix=" + str(folder) + "/")
    return subprocess.run(
        [sys.executable, *command, *options], capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def atheris():
    return pytest.importorskip("atheris", reason="atheris has no wheel for this Python")


# For each fuzzer, the executions for which a test has time, and how many must reach each stage.
FUZZERS = {
    "fuzz": (2000, {"whole": 100, "decoded": 50}),
    "fuzz_models": (300, {"loaded": 10, "coded": 5, "embedded": 0}),
}


def short_run(folder, name: str) -> None:
    runs, least = FUZZERS[name]
    done = run(folder, str(FUZZ / f"{name}.py"), f"-runs={runs}")
    assert done.returncode == 0, done.stderr[-2000:]
    counts = ast.literal_eval(
        [line for line in done.stderr.splitlines() if line.startswith("{")][-1]
    )
    assert counts["executions"] == runs
    for far, count in least.items():
        assert counts[far] > count


def test_hostile_files_raise_our_own_errors_alone(atheris, tmp_path):
    short_run(tmp_path, "fuzz")


def test_hostile_models_raise_our_own_errors_alone(atheris, tmp_path):
    short_run(tmp_path, "fuzz_models")


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        # The check that counts the streams, and that of types, shapes and ranges.
        ("fuzz", "fuzz.codec.Codec._check = lambda self, parsed: None"),
        ("fuzz_models", "fuzz_models.codec.check = lambda tensors, expected: None"),
    ],
)
def test_a_fuzzer_finds_a_check_that_is_missing(atheris, tmp_path, name, missing):
    code = f"import sys; sys.path.insert(0, {str(FUZZ)!r}); import {name}; {missing}; {name}.main()"
    done = run(tmp_path, "-c", code, UNTIL_FOUND)
    assert done.returncode != 0
    assert "Uncaught Python exception" in done.stdout


@pytest.mark.parametrize(
    "path", sorted((FUZZ / "regressions").glob("*")), ids=lambda path: path.name
)
def test_what_the_fuzzer_once_found_is_refused(monkeypatch, path):
    monkeypatch.setenv("FACECODEC_MODELS", str(FUZZ.parent / "data"))
    with pytest.raises((FormatError, ImageError)):  # the model is there
        facecodec.decode(path.read_bytes())
