"""Make what `encode --effort` needs for models that are frozen already: weights/search/.

    .venv/bin/python benchmarks/freeze_search.py

`facecodec freeze` writes a new model's file itself; that of faces is made here alone.
"""

from __future__ import annotations

from pathlib import Path

from facecodec import frozen
from facecodec.training.config import load_config
from facecodec.training.gradients import write_faces, write_model

ROOT = Path(__file__).parents[1]
MODELS = ("l2-ipr", "l2-rec", "hq-ipr")


def main() -> None:
    """Write one file for each of MODELS and one for faces, and tell their sizes."""
    for name in MODELS:
        model = ROOT / "weights" / f"{name}.safetensors"
        path = write_model(model, load_config(ROOT / "configs" / f"{name}.toml"))
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")
    path = frozen.search_file(model).with_name(frozen.FACES)
    write_faces(path)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
