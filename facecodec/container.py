"""The bytes of a .fic file: header, streams, chunks and checksum, as docs/format.md specifies them.

This module knows nothing of models: it splits a file into its parts and joins them again, and
refuses whatever version 1 does not define.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

from facecodec.errors import FormatError, ImageError, UsageError

MAGIC = b"\xf1\xc1"  # "FIC" as far as hexadecimal goes; the last digit is the version
VERSION = 1
FLAG_CHUNKS = 0x01
STREAMS_SHIFT = 1
STREAMS_MASK = 0x0E
FLAG_DOUBLED = 0x10
KNOWN_FLAGS = FLAG_CHUNKS | STREAMS_MASK | FLAG_DOUBLED
FIXED = struct.Struct("<2sB4sBI")  # magic, flags, fingerprint, quality, checksum
CHECKSUM_AT = slice(8, 12)
MAX_SIDE = 1 << 24
MAX_STREAMS = 7
QUALITY_STEPS = 32  # per whole quality: q = 1 + byte / 32
MAX_QUALITY_BYTE = 7 * QUALITY_STEPS
DEFAULT_QUALITY = 4.0
MAX_DOUBLED_SIDE = 256
DOUBLED_STEPS = 48  # so much finer is the quality of a picture that is coded at twice its size
DEFAULT_MAX_PIXELS = 1 << 25
THINNEST = 64  # pixels; the transforms pad a narrower side to at most this


@dataclass(frozen=True)
class Container:
    """One parsed file. `fingerprint` is 4 bytes, `quality_byte` 0..224; sides are in pixels.

    `chunks` are optional (type, data) pairs; types are four ASCII letters. If `doubled`, the
    streams hold the picture at twice its size, and decoding halves it.
    """

    fingerprint: bytes
    quality_byte: int
    width: int
    height: int
    streams: list[bytes]
    chunks: list[tuple[str, bytes]] = field(default_factory=list)
    doubled: bool = False

    @property
    def q(self) -> float:
        return quality_of(self.quality_byte)

    @property
    def coded(self) -> tuple[list[bytes], tuple[int, int], int]:
        """Returns what a family decodes.

        These are the streams, the (height, width) of the picture in them, and its quality byte,
        0..224.
        """
        if not self.doubled:
            return self.streams, (self.height, self.width), self.quality_byte
        return self.streams, (2 * self.height, 2 * self.width), self.quality_byte - DOUBLED_STEPS


def quality_byte(quality: float) -> int:
    """Returns the byte that stores q, 1..8, rounded to the nearest 1/32.

    Raises UsageError for q outside 1..8.
    """
    if isinstance(quality, str):
        raise TypeError("a quality is a number")
    if not 1 <= quality <= 8:
        raise UsageError(f"quality {quality:g} is outside 1..8 (1 gives the smallest file)")
    return round((quality - 1) * QUALITY_STEPS)


def quality_of(byte: int) -> float:
    """Returns the quality q, 1..8, of a stored byte, 0..224."""
    return 1 + byte / QUALITY_STEPS


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raises ImageError for more than `max_pixels`, counted after a thin picture is padded."""
    if width * height > max_pixels or max(width, height) * THINNEST > max(max_pixels, 1 << 20):
        raise ImageError(
            f"{width}x{height} is more than {max_pixels} pixels",
            "raise {max_pixels} if you trust it",
        )


def pack(container: Container) -> bytes:
    """Returns the file's bytes."""
    streams, chunks = container.streams, container.chunks
    if not 1 <= len(streams) <= MAX_STREAMS:
        raise ValueError(f"{len(streams)} streams; a file holds 1 to {MAX_STREAMS}")
    flags = len(streams) << STREAMS_SHIFT
    flags |= (FLAG_CHUNKS if chunks else 0) | (FLAG_DOUBLED if container.doubled else 0)
    body = bytearray()
    body += _varint(container.width) + _varint(container.height)
    # Without chunks the last stream ends with the file, so its length is not written.
    for stream in streams if chunks else streams[:-1]:
        body += _varint(len(stream))
    for stream in streams:
        body += stream
    for kind, data in chunks:
        body += kind.encode("ascii") + _varint(len(data)) + data
    head = FIXED.pack(MAGIC, flags, container.fingerprint, container.quality_byte, 0)
    checksum = zlib.crc32(body, zlib.crc32(head[: CHECKSUM_AT.start]))
    return head[: CHECKSUM_AT.start] + struct.pack("<I", checksum) + bytes(body)


def unpack(data: bytes) -> Container:
    """Parses a whole file. Raises FormatError, which names what is wrong with it."""
    if not data:
        raise FormatError("the file is empty: fetch or copy it again")
    if data[0] != MAGIC[0] or (len(data) > 1 and data[1] >> 4 != MAGIC[1] >> 4):
        raise FormatError("not a .fic file: give one that encode has made")
    if len(data) < FIXED.size:
        raise FormatError("the file is cut short inside its header: fetch or copy it again")
    if data[1] != MAGIC[1]:
        raise FormatError(
            f"format version {data[1] & 15}; this program reads version {VERSION}: update it"
        )
    _, flags, fingerprint, byte, checksum = FIXED.unpack_from(data)
    if flags & ~KNOWN_FLAGS:
        raise FormatError(f"unknown flags 0x{flags & ~KNOWN_FLAGS:02x}: update this program")
    view = memoryview(data)  # not a copy
    if zlib.crc32(view[CHECKSUM_AT.stop :], zlib.crc32(view[: CHECKSUM_AT.start])) != checksum:
        raise FormatError(
            "the checksum does not match, the file is damaged or cut short: fetch or copy it again"
        )
    # The checksum excludes accidents, not hostile writers, so every value is still checked.
    if byte > MAX_QUALITY_BYTE:
        raise FormatError(f"quality byte {byte} is above {MAX_QUALITY_BYTE}")
    reader = _Reader(data, FIXED.size)
    width, height = reader.varint(), reader.varint()
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise FormatError(f"impossible size {width}x{height}")
    doubled = bool(flags & FLAG_DOUBLED)
    if doubled and (byte < DOUBLED_STEPS or max(width, height) > MAX_DOUBLED_SIDE):
        raise FormatError(f"{width}x{height} at quality byte {byte} cannot be doubled")
    count = (flags & STREAMS_MASK) >> STREAMS_SHIFT
    if count == 0:
        raise FormatError("the file declares no streams")
    has_chunks = bool(flags & FLAG_CHUNKS)
    lengths = [reader.varint() for _ in range(count if has_chunks else count - 1)]
    streams = [reader.take(length) for length in lengths]
    chunks = []
    if has_chunks:
        while not reader.at_end():
            kind = reader.take(4)
            if not kind.isalpha():
                raise FormatError("a chunk's type is not four letters")
            chunks.append((kind.decode("ascii"), reader.take(reader.varint())))
        if not chunks:
            raise FormatError("the file declares chunks and holds none")
    else:
        streams.append(reader.rest())
    return Container(fingerprint, byte, width, height, streams, chunks, doubled)


def _varint(value: int) -> bytes:
    """Returns a number as LEB128: seven bits per byte, lowest first.

    The top bit is set on all bytes but the last.
    """
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Reader:
    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position

    def at_end(self) -> bool:
        return self.position == len(self.data)

    def take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self.data):
            raise FormatError("a length in the file reaches past its end")
        part, self.position = self.data[self.position : end], end
        return part

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.position)

    def varint(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    raise FormatError("a number in the header is not in its shortest form")
                return value
        raise FormatError("a number in the header is too long")
