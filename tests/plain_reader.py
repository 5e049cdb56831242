"""An independent reader of .fic files, written from docs/format.md with the standard library only.

It shares no code with the facecodec package: it proves that the page suffices to write another
reader. It reads the symbols, which are integers, and omits the synthesis of the picture. Names
follow the page.
"""

import hashlib
import itertools
import json
import math
import struct
import zlib
from bisect import bisect_right
from pathlib import Path

FORMATS = {
    "U8": ("|u1", "B"),
    "I16": ("<i2", "h"),
    "I32": ("<i4", "i"),
    "I64": ("<i8", "q"),
    "F16": ("<f2", "e"),
    "F32": ("<f4", "f"),
}
FOR_ENCODERS = ("g_a", "h_a")
LARGEST = 2**24
TOTAL = 2**24

Array = list[list[list[int]]]  # channel, row, column


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


# The model


def read_model(path: str | Path) -> dict:
    """Returns `metadata`, `family` and `tensors`.

    A tensor is (dtype, shape, bytes, nested lists); for .onnx, None replaces the lists.
    """
    metadata, tensors = read_tensors(path)
    require(metadata.get("format") == "facecodec-2", "not a model of facecodec")
    family = json.loads(metadata["card"])["family"]
    for name in [name.removesuffix(".steps") for name in tensors if name.endswith(".steps")]:
        tensors[name] = whole_table(tensors.pop(f"{name}.first"), tensors.pop(f"{name}.steps"))
    return {"metadata": metadata, "family": family, "tensors": tensors}


def whole_table(first: tuple, steps: tuple) -> tuple:
    """Returns a table of int32 from its first row and the int16 steps between its rows."""
    require((first[0], steps[0]) == ("I32", "I16"), "a table of other types")
    rows = first[3]
    require(first[1] == (1, *steps[1][1:]), "a table of other shapes")
    for step in steps[3]:
        rows.append([a + b for a, b in zip(rows[-1], step, strict=True)])
    numbers = [number for row in rows for number in row]
    return "I32", (len(rows), *steps[1][1:]), struct.pack(f"<{len(numbers)}i", *numbers), rows


def read_head(path: str | Path, model: dict) -> dict:
    """Returns the head of a model, as `read_model` does. `card` has its space and classes."""
    metadata, tensors = read_tensors(path)
    require(metadata.get("format") == "facecodec-head-1", "not a head of facecodec")
    require(metadata["model"] == fingerprint(model), "the head of another model")
    require(metadata["hash"] == digest("head", tensors)[:8], "a damaged head")
    return {"metadata": metadata, "card": json.loads(metadata["card"]), "tensors": tensors}


def read_tensors(path: str | Path) -> tuple[dict, dict]:
    """Returns the metadata of a safetensors file, and its tensors as in `read_model`."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, info in header.items():
        begin, end = info["data_offsets"]
        raw, shape = data[start + begin : start + end], tuple(info["shape"])
        values = None if name.endswith(".onnx") else nested(raw, info["dtype"], shape)
        tensors[name] = (info["dtype"], shape, raw, values)
    return metadata, tensors


def nested(raw: bytes, dtype: str, shape: tuple[int, ...]) -> list:
    values = list(struct.unpack(f"<{math.prod(shape)}{FORMATS[dtype][1]}", raw))
    for size in reversed(shape[1:]):
        values = [values[i : i + size] for i in range(0, len(values), size)]
    return values


def fingerprint(model: dict) -> str:
    needed = {
        name: tensor
        for name, tensor in model["tensors"].items()
        if not name.startswith(FOR_ENCODERS)
    }
    return digest(model["family"], needed)[:8]


def digest(word: str, tensors: dict) -> str:
    found = hashlib.sha256(word.encode())
    for name, (dtype, shape, raw, _) in sorted(tensors.items()):
        found.update(
            b"\0"
            + b"\0".join([name.encode(), FORMATS[dtype][0].encode(), str(shape).encode(), raw])
        )
    return found.hexdigest()


# The file


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Returns the number at an offset, and the offset after it."""
    value = 0
    for i in range(5):
        require(at + i < len(data), "a number is cut off")
        byte = data[at + i]
        value |= (byte & 127) << 7 * i
        if byte < 128:
            require(byte > 0 or i == 0, "a number is not in its shortest form")
            return value, at + i + 1
    raise ValueError("a number is longer than five bytes")


def take(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    require(at + size <= len(data), "a length reaches past the end of the file")
    return data[at : at + size], at + size


def parse_file(data: bytes) -> dict:
    require(len(data) >= 12, "the header is cut off")
    require(data[0] == 0xF1 and data[1] >> 4 == 0xC, "not a .fic file")
    require(data[1] & 15 == 1, "another version of the format")
    flags, quality = data[2], data[7]
    chunked, count, doubled = flags & 1, flags >> 1 & 7, flags >> 4 & 1
    require(flags >> 5 == 0 and count >= 1, "unknown flags")
    require(quality <= 224, "the quality byte is out of range")
    require(
        zlib.crc32(data[:8] + data[12:]) == int.from_bytes(data[8:12], "little"),
        "the checksum does not match",
    )
    width, at = read_varint(data, 12)
    height, at = read_varint(data, at)
    require(1 <= width <= LARGEST and 1 <= height <= LARGEST, "the picture's size is out of range")
    require(not doubled or quality >= 48, "too low a quality byte for a doubled picture")
    require(not doubled or max(width, height) <= 256, "too large a picture to be doubled")
    lengths = []
    for _ in range(count if chunked else count - 1):
        length, at = read_varint(data, at)
        lengths.append(length)
    streams = []
    for length in lengths:
        stream, at = take(data, at, length)
        streams.append(stream)
    if not chunked:
        streams.append(data[at:])
    while chunked and at < len(data):  # every chunk is of a type unknown to this reader
        kind, at = take(data, at, 4)
        require(kind.isalpha(), "a chunk's type is not four letters")  # of bytes: ASCII letters
        length, at = read_varint(data, at)
        _, at = take(data, at, length)
    return {
        "fingerprint": data[3:7].hex(),
        "quality": quality,
        "width": width,
        "height": height,
        "doubled": doubled,
        "streams": streams,
    }


# Symbols in a stream


class Stream:
    """The entropy decoder: a stack of 32-bit words and a state of 64 bits."""

    def __init__(self, data: bytes) -> None:
        require(not data.endswith(b"\0"), "a stream ends in a zero byte")
        data += bytes(-len(data) % 4)
        self.words = list(struct.unpack(f"<{len(data) // 4}I", data))
        self.state = 0
        self.refill()
        self.refill()

    def refill(self) -> None:
        if self.state < 2**32 and self.words:
            self.state = self.state << 32 | self.words.pop()

    def entry(self, starts: list[int]) -> int:
        """Decodes one entry of a distribution.

        `starts` are the sums of the counts before each entry, and the total.
        """
        u = self.state % TOTAL
        k = bisect_right(starts, u) - 1
        self.state = (self.state >> 24) * (starts[k + 1] - starts[k]) + u - starts[k]
        self.refill()
        return k

    def finish(self) -> None:
        require(not self.words and self.state == 0, "a stream does not end cleanly")


def uniform(n: int) -> list[int]:
    return [k * (TOTAL // n) for k in range(n)] + [TOTAL]


def read_tables(tensors: dict) -> list[list[int]]:
    """Returns, for each table, the sums of the counts before each entry, and the total."""
    counts, begins = tensors["table_counts"][3], tensors["table_starts"][3]
    tables = [[0, *itertools.accumulate(counts[a:b])] for a, b in itertools.pairwise(begins)]
    for table in tables:
        require(
            len(table) >= 3 and len(table) % 2 == 1 and table[-1] == TOTAL,
            "a bad probability table",
        )
        require(all(a < b for a, b in itertools.pairwise(table)), "a count is not positive")
    return tables


def read_array(data: bytes, band_rows: int, which: Array, tables: list[list[int]]) -> Array:
    """Reads a whole stream. `which` has the table of each symbol, or None without a symbol."""
    stream = Stream(data)
    x = [[[0] * len(row) for row in rows] for rows in which]
    for top in range(0, len(x[0]), band_rows):
        read_band(stream, x, top, band_rows, which, tables)
    stream.finish()
    return x


def read_band(
    stream: Stream, x: Array, top: int, band_rows: int, which: Array, tables: list[list[int]]
) -> None:
    """Reads a band of a stream into x."""
    places: dict[int, list[tuple[int, int, int]]] = {}  # by table
    for c, rows in enumerate(which):
        for i in range(top, min(top + band_rows, len(rows))):
            for j, table in enumerate(rows[i]):
                if table is None:
                    continue
                places.setdefault(table, []).append((c, i, j))
    beyond = []  # places of escapes, to be sorted in the band's order, each with T
    for table in sorted(places):
        starts = tables[table]
        n = len(starts) - 1
        reach = (n - 2) // 2
        for c, i, j in places[table]:
            k = stream.entry(starts)
            if k < n - 1:
                x[c][i][j] = k - reach
            else:
                beyond.append((c, i, j, reach))
    beyond.sort()
    exponents = [stream.entry(uniform(20)) for _ in beyond]
    values = [1] * len(beyond)
    for bit in reversed(range(max(exponents, default=0))):
        for index, e in enumerate(exponents):
            if e > bit:
                values[index] = 2 * values[index] + stream.entry(uniform(2))
    for (c, i, j, reach), v in zip(beyond, values, strict=True):
        x[c][i][j] = -(reach + v) if stream.entry(uniform(2)) else reach + v


# Family lfic


def read_levels(data: bytes, h: int, w: int, counts: Array) -> list[list[int]]:
    """Returns the level of each region. The level above chooses its table."""
    stream = Stream(data)
    tables = [[0, *itertools.accumulate(each)] for each in counts]
    levels: list[list[int]] = []
    for _ in range(-(-h // 2)):
        above = levels[-1] if levels else [3] * -(-w // 2)
        x = [[[0] * len(above)]]
        read_band(stream, x, 0, 1, [[above]], tables)
        require(all(-1 <= v <= 1 for v in x[0][0]), "a level beyond the table")
        levels.append([v + 1 for v in x[0][0]])
    stream.finish()
    return levels


def left_out(which: Array, levels: list[list[int]]) -> Array:
    """Returns the tables of the coded symbols, and None elsewhere."""
    return [
        [
            [
                table
                if (level := levels[i // 2][j // 2]) == 0 or (level == 1 and i % 2 == j % 2 == 0)
                else None
                for j, table in enumerate(row)
            ]
            for i, row in enumerate(rows)
        ]
        for rows in which
    ]


def filled(y: Array, levels: list[list[int]]) -> Array:
    """Copies each symbol at level 1 to all positions of its region."""
    return [
        [
            [
                rows[i // 2 * 2][j // 2 * 2] if levels[i // 2][j // 2] == 1 else v
                for j, v in enumerate(row)
            ]
            for i, row in enumerate(rows)
        ]
        for rows in y
    ]


# Family hyperprior


def convolve(x: Array, weight: list[Array], bias: list[int], shift: int) -> Array:
    """Computes a layer. It is depthwise if there is one kernel per channel."""
    r = (len(weight[0][0]) - 1) // 2
    width = len(x[0][0])
    edge = [[0] * (width + 2 * r)] * r
    padded = [edge + [[0] * r + row + [0] * r for row in rows] + edge for rows in x]
    depthwise = len(weight) == len(x) > 1 == len(weight[0])
    rounding = 1 << shift >> 1
    result = []
    for out, (kernels, b) in enumerate(zip(weight, bias, strict=True)):
        taps = [
            (padded[out if depthwise else c], dy, dx, w)
            for c, kernel in enumerate(kernels)
            for dy, line in enumerate(kernel)
            for dx, w in enumerate(line)
        ]
        result.append(
            [
                [
                    sum(w * p[i + dy][j + dx] for p, dy, dx, w in taps) + b + rounding >> shift
                    for j in range(width)
                ]
                for i in range(len(x[0]))
            ]
        )
    return result


def upsample(x: Array) -> Array:
    rows, columns = range(2 * len(x[0])), range(2 * len(x[0][0]))
    return [
        [[x[4 * c + 2 * (i % 2) + j % 2][i // 2][j // 2] for j in columns] for i in rows]
        for c in range(len(x) // 4)
    ]


def integer_network(x: Array, name: str, tensors: dict) -> Array:
    x = [[[min(max(v, -(2**20)), 2**20) for v in row] for row in rows] for rows in x]
    shifts, upsamples = tensors[f"{name}.shifts"][3], tensors[f"{name}.upsample"][3]
    for i, (shift, up) in enumerate(zip(shifts, upsamples, strict=True)):
        x = convolve(x, tensors[f"{name}.{i}.weight"][3], tensors[f"{name}.{i}.bias"][3], shift)
        if i < len(shifts) - 1:
            x = [[[min(max(v, 0), 2**20) for v in row] for row in rows] for rows in x]
        if up:
            x = upsample(x)
    return x


def hyper_synthesis(z: Array, inverse_gain: list[int], tensors: dict) -> Array:
    z_hat = [
        [[v * gain + 2**5 >> 6 for v in row] for row in rows]
        for rows, gain in zip(z, inverse_gain, strict=True)
    ]
    return integer_network(z_hat, "h_s", tensors)


def quality_of_places(shifts: list[list[int]], b: int) -> list[list[int]]:
    return [[min(max(b + (d + 2**9 >> 10), 0), 224) for d in row] for row in shifts]


def choose_tables(scales: Array, places: list[list[int]], log_gain: Array, count: int) -> Array:
    """Returns the table of each symbol. `log_gain` has one row of channels per quality byte."""
    return [
        [
            [
                min(max(s + log_gain[p][c] + 2**9 >> 10, 0), count - 1)
                for s, p in zip(row, at, strict=True)
            ]
            for row, at in zip(rows, places, strict=True)
        ]
        for c, rows in enumerate(scales)
    ]


# Family sliced


def read_sliced(
    data: bytes, predicted: Array, h: int, w: int, b: int, tensors: dict, tables: list[list[int]]
) -> Array:
    """Returns y's symbols, read by block and slice. `predicted` is the prediction of all of y."""
    gains = {name: tensors[name][3] for name in ("y_log_gain", "y_gain", "y_inverse_gain")}
    stream = Stream(data)
    y = [[[0] * w for _ in range(h)] for _ in gains["y_gain"][0]]
    for top, left in itertools.product(range(0, h, 16), range(0, w, 64)):
        down, across = slice(top, min(top + 16, h)), slice(left, min(left + 64, w))
        here = [[row[across] for row in rows[down]] for rows in predicted]
        places = quality_of_places(here.pop(), b)
        scales, means_of_all, features = (
            here[: len(y)],
            here[len(y) : 2 * len(y)],
            here[2 * len(y) :],
        )
        seen, earlier = [*features, [[32 * p for p in row] for row in places]], []
        start = 0
        for i, size in enumerate(tensors["slices"][3]):
            log_gain, gain, inverse = (
                [of_byte[start : start + size] for of_byte in of_all] for of_all in gains.values()
            )
            out = scales[start : start + size] + means_of_all[start : start + size]
            if i > 0:
                added = integer_network([*seen, *out, *earlier], f"slice{i}", tensors)
                out = [
                    [
                        [a + b for a, b in zip(*rows, strict=True)]
                        for rows in zip(*both, strict=True)
                    ]
                    for both in zip(out, added, strict=True)
                ]
            which = choose_tables(out[:size], places, log_gain, len(tables))
            x = [[[0] * len(row) for row in places] for _ in range(size)]
            read_band(stream, x, 0, 16, which, tables)
            for c, means in enumerate(out[size:]):
                y_rows = y[start + c][down]
                values = []
                for symbols, m_row, p_row, y_row in zip(x[c], means, places, y_rows, strict=True):
                    y_row[across] = symbols
                    line = []
                    for symbol, m, p in zip(symbols, m_row, p_row, strict=True):
                        v = (symbol << 10) + (m * gain[p][c] + 2**15 >> 16)
                        v = min(max(v, -(2**31)), 2**31)
                        line.append(v * inverse[p][c] + 2**15 >> 16)
                    values.append(line)
                earlier.append(values)
            start += size
    stream.finish()
    return y


# Family compact-png


def read_compact(file: dict) -> Array:
    """Returns the values of the compact image."""
    step = round(file["quality"] / 32)
    k, n = 16 if step < 3 else 8, (5, 6, 8, 3, 4, 5, 6, 8)[step]
    w, h = -(-file["width"] // k), -(-file["height"] // k)
    values = {round(255 * v / (2**n - 1)): v for v in range(2**n)}
    rows = read_png(file["streams"][0], w, h)
    require(all(v in values for row in rows for v in row), "a value that there is not")
    return [[[values[v] for v in row[c::3]] for row in rows] for c in range(3)]


def read_png(data: bytes, w: int, h: int) -> list[bytearray]:
    """Returns the rows of a PNG file in 8-bit RGB, not interlaced."""
    packed, at = b"", 8
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        content = data[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            require(content == struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0), "another image")
        packed += content if kind == b"IDAT" else b""
        at += 12 + size
    raw, rows, above = zlib.decompress(packed), [], bytearray(3 * w)
    for y in range(h):
        method, *row = raw[y * (3 * w + 1) : (y + 1) * (3 * w + 1)]
        for x in range(3 * w):
            left, corner = (row[x - 3], above[x - 3]) if x >= 3 else (0, 0)
            p = left + above[x] - corner
            nearest = min((left, above[x], corner), key=lambda v, p=p: abs(p - v))
            guess = (0, left, above[x], (left + above[x]) // 2, nearest)[method]
            row[x] = (row[x] + guess) % 256
        above = bytearray(row)
        rows.append(above)
    return rows


def read_symbols(data: bytes, model: dict) -> dict:
    """Returns `width`, `height`, the `quality` byte, and symbols: `z`, `y` by channel and row."""
    file = parse_file(data)
    require(file["fingerprint"] == fingerprint(model), "the file was made with another model")
    streams = {"hyperprior": 2, "sliced": 2, "lfic": 3, "spic": 1, "compact-png": 1}
    require(model["family"] in streams, "an unknown family")
    require(len(file["streams"]) == streams[model["family"]], "another number of streams")
    output = {"width": file["width"], "height": file["height"], "quality": file["quality"]}
    if file["doubled"]:
        file["width"], file["height"] = 2 * file["width"], 2 * file["height"]
        file["quality"] -= 48
    tensors, b = model["tensors"], file["quality"]
    if model["family"] == "compact-png":
        return output | {"image": read_compact(file)}
    tables = read_tables(tensors)
    h, w = -(-file["height"] // 16), -(-file["width"] // 16)
    if model["family"] == "spic":
        which = [[[table] * w for _ in range(h)] for table in tensors["y_table"][3][b]]
        return output | {"y": read_array(file["streams"][0], 16, which, tables)}
    h_z, w_z = -(-h // 4), -(-w // 4)
    which = [[[table] * w_z for _ in range(h_z)] for table in tensors["z_table"][3][b]]
    z = read_array(file["streams"][0], 4, which, tables)
    predicted = hyper_synthesis(z, tensors["z_inverse_gain"][3][b], tensors)
    predicted = [[row[:w] for row in rows[:h]] for rows in predicted]
    if model["family"] == "sliced":
        y = read_sliced(file["streams"][1], predicted, h, w, b, tensors, tables)
        return output | {"z": z, "y": y}
    log_gain = tensors["y_log_gain"][3]
    channels = len(log_gain[b])
    places = [[b] * w for _ in range(h)]
    if len(predicted) > 2 * channels:
        places = quality_of_places(predicted[-1], b)
    which = choose_tables(predicted[:channels], places, log_gain, len(tables))
    if model["family"] == "lfic":
        levels = read_levels(file["streams"][1], h, w, tensors["level_counts"][3][b])
        y = read_array(file["streams"][2], 16, left_out(which, levels), tables)
        return output | {"z": z, "levels": levels, "y": filled(y, levels)}
    return output | {"z": z, "y": read_array(file["streams"][1], 16, which, tables)}
