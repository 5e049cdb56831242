"""An ffmpeg that has a given encoder: the system's if it has, else the one that imageio-ffmpeg brings."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache

import numpy as np

RAW = ("-f", "rawvideo", "-pix_fmt", "rgb24")


@cache
def executable(encoder: str) -> str | None:
    """The path of an ffmpeg that has `encoder`, or None."""
    return next((path for path in _candidates() if encoder in _encoders(path)), None)


def missing(encoder: str) -> str | None:
    if executable(encoder) is None:
        return f"no ffmpeg with {encoder} is on the path, and imageio-ffmpeg, of the 'bench' extra, is not installed"
    return None


def version(encoder: str) -> str:
    shown = subprocess.run([executable(encoder), "-version"], stdout=subprocess.PIPE, check=True).stdout.decode()
    return shown.split(" Copyright")[0]


def encode(encoder: str, pixels: np.ndarray, options: list[str]) -> bytes:
    """What one frame becomes; `options` end with the output's format. One thread: the bench runs many at once."""
    height, width = pixels.shape[:2]
    frame = [*RAW, "-s", f"{width}x{height}", "-i", "-", "-frames:v", "1", "-c:v", encoder, *options, "-"]
    return _run(executable(encoder), frame, pixels.tobytes())


def decode(encoder: str, data: bytes, kind: str, shape: tuple[int, int]) -> np.ndarray:
    """The frame in a file of format `kind`, uint8 (H, W, 3)."""
    pixels = _run(executable(encoder), ["-f", kind, "-i", "-", *RAW, "-"], data)
    return np.frombuffer(pixels, np.uint8).reshape(*shape, 3)


def _run(path: str, arguments: list[str], data: bytes) -> bytes:
    command = [path, "-v", "error", "-threads", "1", *arguments]
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"ffmpeg: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _candidates() -> list[str]:
    system = shutil.which("ffmpeg")
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return [path for path in (system, get_ffmpeg_exe()) if path]
    except (ImportError, RuntimeError):
        return [system] if system else []


@cache
def _encoders(path: str) -> set[str]:
    listed = subprocess.run([path, "-v", "error", "-encoders"], stdout=subprocess.PIPE, check=False).stdout.decode()
    return {words[1] for words in map(str.split, listed.splitlines()) if len(words) > 1}
