"""JPEG 2000 by Pillow's OpenJPEG, irreversible; the setting is the compression ratio."""

from __future__ import annotations

import numpy as np

from facecodec.bench.codecs import pillow

RATIOS = tuple(np.geomspace(500, 5, 200))


def options(ratio: float) -> dict[str, object]:
    return {
        "quality_mode": "rates",
        "quality_layers": [float(ratio)],
        "irreversible": True,
        "no_jp2": True,
    }


CODECS = (
    pillow.codec(
        "jpeg2000", "JPEG 2000", (160, 110, 80, 56, 40, 28), RATIOS, "JPEG2000", options, "jpg_2000"
    ),
)
