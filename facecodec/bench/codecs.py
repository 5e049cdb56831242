"""Codecs to measure, each from pixels to the bytes of a real file and back, by name and setting."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

Coded = tuple[bytes, np.ndarray]  # the file, and the pixels that it decodes to, uint8 (H, W, 3)


def original(pixels: np.ndarray, setting: float) -> Coded:
    """No coding at all: what recognition gives at best."""
    return b"", pixels


def jpeg(pixels: np.ndarray, quality: float) -> Coded:
    """Pillow's JPEG with optimised Huffman tables, 4:2:0."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=int(quality), optimize=True)
    return buffer.getvalue(), np.asarray(Image.open(buffer).convert("RGB"))


def hevc(pixels: np.ndarray, crf: float) -> Coded:
    """libx265 intra, preset medium, 4:2:0, without the text x265 writes about its settings; the raw stream."""
    height, width = pixels.shape[:2]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24"]
    ffmpeg = [_ffmpeg(), "-v", "error", "-threads", "1"]
    settings = f"crf={crf:g}:info=0:log-level=none:pools=none:frame-threads=1"
    encode = [*ffmpeg, *raw, "-s", f"{width}x{height}", "-i", "-", "-pix_fmt", "yuv420p", "-c:v", "libx265"]
    encode += ["-preset", "medium", "-x265-params", settings, "-f", "hevc", "-"]
    data = subprocess.run(encode, input=pixels.tobytes(), stdout=subprocess.PIPE, check=True).stdout
    decode = [*ffmpeg, "-f", "hevc", "-i", "-", *raw, "-"]
    back = subprocess.run(decode, input=data, stdout=subprocess.PIPE, check=True).stdout
    return data, np.frombuffer(back, np.uint8).reshape(height, width, 3)


@cache
def _ffmpeg() -> str:
    from imageio_ffmpeg import get_ffmpeg_exe

    return get_ffmpeg_exe()


REFERENCES: dict[str, Callable[[np.ndarray, float], Coded]] = {"original": original, "jpeg": jpeg, "hevc": hevc}


@cache
def _model(name: str) -> Callable[[np.ndarray, float], Coded]:
    from facecodec.checkpoint import model_path
    from facecodec.codec import Codec

    codec = Codec(model_path(name), threads=1)

    def code(pixels: np.ndarray, quality: float) -> Coded:
        data = codec.encode(pixels, quality)
        return data, np.asarray(codec.decode(data))

    return code


def code(name: str, pixels: np.ndarray, setting: float, file: Path) -> tuple[int, np.ndarray]:
    """Bytes of the file that codec `name`, a reference or a model of ours, writes to `file`; decoded pixels."""
    data, decoded = (REFERENCES.get(name) or _model(name))(pixels, setting)
    file.write_bytes(data)
    return file.stat().st_size, decoded
