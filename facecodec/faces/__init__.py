"""Faces: detection and landmarks, five-point alignment, recognition networks. For training and measuring alone."""

from __future__ import annotations

import os
from pathlib import Path

# facenet-pytorch pins old releases in its metadata, and works with current ones.
INSTALL = "pip install --no-deps 'facenet-pytorch>=2.6,<2.7'"


def cache_folder() -> Path:
    """Where landmarks are kept, and recognisers looked for, under $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "facecodec"
