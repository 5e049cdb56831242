"""docs/format.md is enough to write another reader: tests/plain_reader.py was written from that page alone."""

import ast
import json
import sys
from pathlib import Path

import plain_reader
import pytest
from conftest import DATA, TINY

GOLDEN = json.loads((DATA / "golden.json").read_text())


@pytest.fixture(scope="module")
def model() -> dict:
    return plain_reader.read_model(TINY)


def test_the_plain_reader_is_plain():
    tree = ast.parse(Path(plain_reader.__file__).read_text())
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imports |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imports} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files_read_plainly(model, name):
    read = plain_reader.read_symbols((DATA / f"{name}.fic").read_bytes(), model)
    assert read["z"] == GOLDEN[name]["z"]
    assert read["y"] == GOLDEN[name]["y"]


def test_the_fingerprint_is_computed_plainly(model, tiny):
    assert plain_reader.fingerprint(model) == tiny.card.fingerprint


def test_golden_files_hold_what_readers_get_wrong():
    """Escapes in both streams, several bands, and chunks."""
    assert sum(entry["escapes"]["z"] for entry in GOLDEN.values()) > 10
    assert sum(entry["escapes"]["y"] for entry in GOLDEN.values()) > 100
    assert max(len(entry["y"][0]) for entry in GOLDEN.values()) > 16
    assert (DATA / "chunks-q1.fic").read_bytes()[2] & 1
