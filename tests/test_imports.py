"""Imports of facecodec go one way: down the list in docs/architecture.md, and never in a circle."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIST = re.findall(r"^      (\w+)(?:\.py|/) ", (ROOT / "docs/architecture.md").read_text(), re.M)
FILES = sorted((ROOT / "facecodec").rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Returns the facecodec modules that a file imports, except those only for type hints."""
    found = set()
    nodes = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= inner or {node.module}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        nodes += ast.iter_child_nodes(node)
    return found & MODULES.keys()


MODULES = {name_of(path): path for path in FILES}
IMPORTS = {name: imports_of(path) for name, path in MODULES.items()}


def test_imports_go_down_the_list():
    """A module is listed by its own name or its folder's; that of the package is __init__."""
    place = {name: LIST.index((name.split(".") + ["__init__"])[1]) for name in MODULES}
    up = [
        (name, other) for name in MODULES for other in IMPORTS[name] if place[other] < place[name]
    ]
    assert up == []


def test_no_imports_go_in_a_circle():
    TopologicalSorter(IMPORTS).prepare()  # raises CycleError
