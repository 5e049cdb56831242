"""Puts a face into a QR code of 1,024 bytes, and reads it back from a picture of the code.

pip install segno zxing-cpp
python examples/qr.py write face.jpg code.png
python examples/qr.py read code.png face.png
"""

from __future__ import annotations

import sys

import segno
import zxingcpp
from PIL import Image

import facecodec

LIMIT = 1024  # bytes; a QR code of binary data takes at most 2,953
SIDE = 250  # pixels; larger faces would need more bytes at the lowest quality
MODEL = "l2-ip"  # it gives the most recognisable face in so few bytes (docs/budget.md)


def write(picture: str, code: str) -> None:
    face = Image.open(picture)
    face.thumbnail((SIDE, SIDE))
    data = facecodec.open_model(MODEL).encode_within(face, LIMIT)
    qr = segno.make_qr(data, mode="byte", error="l")
    qr.save(code, scale=4)
    print(f"{len(data)} bytes of face in a QR code of version {qr.version}")


def read(code: str, picture: str) -> None:
    found = zxingcpp.read_barcodes(Image.open(code))
    if not found:
        raise SystemExit(f"{code}: no QR code found; take the picture straight and in focus")
    facecodec.decode(found[0].bytes).save(picture)


if __name__ == "__main__":
    action, source, target = sys.argv[1:]
    {"write": write, "read": read}[action](source, target)
