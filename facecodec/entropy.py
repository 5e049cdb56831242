"""Integer probability tables, escapes, and the rANS coder (constriction) behind them.

A table holds counts that sum to 2^24 for the symbols -T..T and, last, for "beyond". What is beyond
follows in a bounded Exp-Golomb code, so that every integer up to LARGEST can be coded losslessly.
Symbols that share a table are coded together; docs/format.md gives the order.
"""

from __future__ import annotations

import constriction
import numpy as np

from facecodec.errors import FormatError

PRECISION = 24
MAX_EXPONENT = 20
LARGEST = (1 << MAX_EXPONENT) - 1  # symbols are within -LARGEST..LARGEST

_ans = constriction.stream.stack.AnsCoder
_uniform = constriction.stream.model.Uniform


class Tables:
    """Probability tables: table i is counts[starts[i]:starts[i + 1]], of odd-sized support plus escape."""

    def __init__(self, counts: np.ndarray, starts: np.ndarray) -> None:
        self.counts = counts.astype(np.int64)
        self.starts = starts.astype(np.int64)
        lengths = np.diff(self.starts)
        well_formed = (
            len(lengths) > 0
            and self.starts[0] == 0
            and self.starts[-1] == len(self.counts)
            and (lengths >= 2).all()
            and (lengths % 2 == 0).all()
            and (self.counts > 0).all()
            and (np.add.reduceat(self.counts, self.starts[:-1]) == 1 << PRECISION).all()
        )
        if not well_formed:
            raise ValueError("the probability tables are malformed")
        self.reach = (lengths - 2) // 2  # T of each table
        self._models: dict[int, constriction.stream.model.Categorical] = {}

    def __len__(self) -> int:
        return len(self.reach)

    def bits(self, symbols: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """What symbols take, each by its table, in the shape of both; what follows an escape is not counted."""
        reach = self.reach[indices]
        entry = np.where(np.abs(symbols) > reach, 2 * reach + 1, symbols + reach).astype(np.int64)
        return PRECISION - np.log2(self.counts[self.starts[indices] + entry])

    def model(self, index: int) -> constriction.stream.model.Categorical:
        """constriction's model of one table. `perfect` keeps our counts as they are (a test reads them back)."""
        if index not in self._models:
            counts = self.counts[self.starts[index] : self.starts[index + 1]]
            probabilities = counts / (1 << PRECISION)
            self._models[index] = constriction.stream.model.Categorical(
                probabilities, lazy=False, perfect=True
            )
        return self._models[index]


class Encoder:
    """Codes bands of symbols. rANS writes backwards, so the last band of the stream comes first."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._coder = _ans()

    def band(self, symbols: np.ndarray, indices: np.ndarray) -> None:
        """Integers of any shape, and the table of each. Raises OverflowError beyond LARGEST."""
        symbols, indices = symbols.ravel(), indices.ravel()
        if symbols.size and np.abs(symbols).max() > LARGEST:
            raise OverflowError(f"a latent beyond {LARGEST} cannot be coded")
        symbols = symbols.astype(np.int64)
        order, groups = _group(indices)
        reach = self.tables.reach[indices]
        outside = np.abs(symbols) > reach
        _encode_escapes(self._coder, symbols[outside], reach[outside])
        coded = np.where(outside, 2 * reach + 1, symbols + reach).astype(np.int32)[order]
        for table, start, stop in reversed(groups):
            self._coder.encode_reverse(coded[start:stop], self.tables.model(table))

    def finish(self) -> bytes:
        # The last word is never zero, so the zero bytes above its top one need not be stored.
        return self._coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")


class Decoder:
    """Reads back, band by band, what an Encoder with the same tables and indices wrote."""

    def __init__(self, tables: Tables, data: bytes) -> None:
        self.tables = tables
        self.escapes = 0  # symbols so far that lay beyond their table
        if data.endswith(b"\0"):
            raise FormatError("a stream ends in a zero byte")
        self._coder = _ans(np.frombuffer(data + bytes(-len(data) % 4), "<u4").astype(np.uint32))

    def band(self, indices: np.ndarray) -> np.ndarray:
        """The symbols of one band, int64, in the shape of `indices`."""
        flat = indices.ravel()
        order, groups = _group(flat)
        coded = np.empty(flat.size, np.int64)
        for table, start, stop in groups:
            coded[start:stop] = self._coder.decode(self.tables.model(table), stop - start)
        table, start, stop = np.array(groups, np.int64).reshape(-1, 3).T
        reach = np.repeat(self.tables.reach[table], stop - start)
        outside = coded > 2 * reach
        coded -= reach
        symbols = np.empty_like(coded)
        symbols[order] = coded
        if outside.any():
            places = np.sort(order[outside])
            self.escapes += places.size
            symbols[places] = _decode_escapes(self._coder, self.tables.reach[flat[places]])
        return symbols.reshape(indices.shape)

    def finish(self) -> None:
        """Check that the stream held what was read and nothing more. Raises FormatError."""
        if not self._coder.is_empty():
            raise FormatError("a stream does not end where its symbols do")


def _group(indices: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Positions sorted by table, order kept within one; and (table, start, stop) of each that occurs."""
    order = np.argsort(indices, kind="stable")
    counts = np.bincount(indices)
    stops = np.cumsum(counts)
    return order, [
        (int(t), int(stops[t] - counts[t]), int(stops[t])) for t in np.flatnonzero(counts)
    ]


def _encode_escapes(coder: _ans, symbols: np.ndarray, reach: np.ndarray) -> None:
    """What lies beyond the tables: v = |symbol| - T >= 1 as its bit length, its lower bits, its sign."""
    if not symbols.size:
        return
    excess = np.abs(symbols) - reach
    exponents = np.frexp(excess.astype(np.float64))[1] - 1
    coder.encode_reverse((symbols < 0).astype(np.int32), _uniform(2))
    for bit in range(int(exponents.max())):
        longer = exponents > bit
        coder.encode_reverse((excess[longer] >> bit & 1).astype(np.int32), _uniform(2))
    coder.encode_reverse(exponents.astype(np.int32), _uniform(MAX_EXPONENT))


def _decode_escapes(coder: _ans, reach: np.ndarray) -> np.ndarray:
    exponents = coder.decode(_uniform(MAX_EXPONENT), reach.size).astype(np.int64)
    excess = np.left_shift(1, exponents)
    for bit in range(int(exponents.max()) - 1, -1, -1):
        longer = exponents > bit
        excess[longer] |= coder.decode(_uniform(2), int(longer.sum())).astype(np.int64) << bit
    negative = coder.decode(_uniform(2), reach.size).astype(bool)
    magnitude = excess + reach
    return np.where(negative, -magnitude, magnitude)
