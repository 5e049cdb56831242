"""Faces: detection and landmarks, five-point alignment, recognition networks. For training and measuring alone."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where landmarks are kept, and recognisers looked for, under $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "facecodec"
