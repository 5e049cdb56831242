"""Integer probability tables, escapes, and the rANS coder of constriction.

A table holds counts that sum to 2^24: one for each symbol -T..T and, last, one for the escape,
which stands for all other symbols. After an escape, the symbol follows in a bounded Exp-Golomb
code, so that every integer up to LARGEST can be coded losslessly. Symbols that share a table are
coded together; docs/format.md gives the order.
"""

from __future__ import annotations

from typing import TypeAlias

import constriction
import numpy as np

from facecodec.errors import FormatError

PRECISION = 24
BLOCK = 1 << 16  # symbols that are sorted by table at a time, so that positions fit into 16 bits
MAX_EXPONENT = 20
LARGEST = (1 << MAX_EXPONENT) - 1  # symbols are within -LARGEST..LARGEST

AnsCoder: TypeAlias = constriction.stream.stack.AnsCoder
_uniform = constriction.stream.model.Uniform


class Tables:
    """Probability tables: table i is counts[starts[i]:starts[i + 1]], of -T..T and the escape."""

    def __init__(self, counts: np.ndarray, starts: np.ndarray) -> None:
        self.counts = counts.astype(np.int64)
        self.starts = starts.astype(np.int64)
        lengths = np.diff(self.starts)
        # The counts are checked before their sums: when each is within 2^24, no sum overflows.
        well_formed = (
            len(lengths) > 0
            and self.starts[0] == 0
            and self.starts[-1] == len(self.counts)
            and (lengths >= 2).all()
            and (lengths % 2 == 0).all()
            and (self.counts > 0).all()
            and (self.counts <= 1 << PRECISION).all()
            and (np.add.reduceat(self.counts, self.starts[:-1]) == 1 << PRECISION).all()
        )
        if not well_formed:
            raise ValueError("the probability tables are malformed")
        self.reach = ((lengths - 2) // 2).astype(np.int32)  # T of each table
        self._models: dict[int, constriction.stream.model.Categorical] = {}

    def __len__(self) -> int:
        return len(self.reach)

    def bits(self, symbols: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Returns the bits of each symbol by its table, without the bits after an escape."""
        return PRECISION - np.log2(self.counts[self.entries(symbols, indices)])

    def entries(self, symbols: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Returns the index in `counts` of each symbol, or of its table's escape."""
        reach = self.reach[indices]
        entry = np.where(np.abs(symbols) > reach, 2 * reach + 1, symbols + reach).astype(np.int64)
        return self.starts[indices] + entry

    def model(self, index: int) -> constriction.stream.model.Categorical:
        """Returns constriction's model of a table, with exactly its counts, by `perfect`."""
        if index not in self._models:
            counts = self.counts[self.starts[index] : self.starts[index + 1]]
            probabilities = counts / (1 << PRECISION)
            self._models[index] = constriction.stream.model.Categorical(
                probabilities, lazy=False, perfect=True
            )
        return self._models[index]


def as_integers(symbols: np.ndarray) -> np.ndarray:
    """Returns whole numbers of any type as int32.

    Raises OverflowError for a magnitude above LARGEST, and for NaN.
    """
    if symbols.size and not -LARGEST <= symbols.min() <= symbols.max() <= LARGEST:
        raise OverflowError(f"a latent beyond {LARGEST} cannot be coded")
    return symbols.astype(np.int32)


class Encoder:
    """Codes bands of symbols. rANS writes backwards, so the last band of the stream comes first."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._coder = AnsCoder()

    def band(self, symbols: np.ndarray, indices: np.ndarray) -> None:
        """Codes integers of any shape, each by its table. Raises OverflowError above LARGEST."""
        symbols, indices = symbols.ravel(), indices.ravel()
        symbols = as_integers(symbols)
        reach = self.tables.reach[indices]
        outside = np.abs(symbols) > reach
        _encode_escapes(self._coder, symbols[outside], reach[outside])
        entries = np.where(outside, 2 * reach + 1, symbols + reach).astype(np.int32)
        order, runs = _by_table(indices, len(self.tables))
        for block in _blocks(entries.size):
            entries[block] = entries[block][order[block]]
        for table, start, stop in reversed(runs):
            self._coder.encode_reverse(entries[start:stop], self.tables.model(table))

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
        self._coder = AnsCoder(np.frombuffer(data + bytes(-len(data) % 4), "<u4").astype(np.uint32))

    def band(self, indices: np.ndarray) -> np.ndarray:
        """Returns the symbols of one band, int32. `indices` has their shape and gives each table.

        Raises FormatError.
        """
        flat = indices.ravel()
        symbols = np.empty(flat.size, np.int32)
        order, runs = _by_table(flat, len(self.tables))
        for table, start, stop in runs:
            symbols[start:stop] = self._coder.decode(self.tables.model(table), stop - start)
        escaped = []
        for block in _blocks(flat.size):
            entries = np.empty_like(symbols[block])
            entries[order[block]] = symbols[block]
            reach = self.tables.reach[flat[block]]
            places = np.flatnonzero(entries > 2 * reach)
            if places.size:
                escaped.append(block.start + places)
            np.subtract(entries, reach, out=symbols[block])
        if escaped:
            places = np.concatenate(escaped)
            self.escapes += places.size
            excess, negative = _decode_escapes(self._coder, places.size)
            magnitudes = excess + self.tables.reach[flat[places]]
            symbols[places] = np.where(negative, -magnitudes, magnitudes)
        return symbols.reshape(indices.shape)

    def skip(self, indices: np.ndarray) -> None:
        """Reads one band as `band` does, and keeps nothing."""
        flat = indices.ravel()
        totals = np.zeros(len(self.tables), np.int64)
        for block in _blocks(flat.size):
            totals += np.bincount(flat[block], minlength=len(self.tables))
        escapes = 0
        for table in np.flatnonzero(totals):
            model, last = self.tables.model(int(table)), 2 * self.tables.reach[table] + 1
            for block in _blocks(int(totals[table])):
                entries = self._coder.decode(model, block.stop - block.start)
                escapes += int(np.count_nonzero(entries == last))
        if escapes:
            self.escapes += escapes
            _decode_escapes(self._coder, escapes)

    def finish(self) -> None:
        """Raises FormatError unless the stream ends after the last symbol that was read."""
        if not self._coder.is_empty():
            raise FormatError("a stream does not end where its symbols do")


def _blocks(size: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK)]


def _by_table(indices: np.ndarray, tables: int) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Sorts the symbols of each block by table; symbols of one table keep their order.

    Returns the positions of each block's symbols in sorted order (uint16), and (table, start, stop)
    of every run of one table. Runs are in coding order: by table, then by block.
    """
    blocks = _blocks(indices.size)
    order = np.empty(indices.size, np.uint16)
    lengths = np.zeros((len(blocks), tables), np.int64)
    for at, block in enumerate(blocks):
        order[block] = np.argsort(indices[block], kind="stable")
        lengths[at] = np.bincount(indices[block], minlength=tables)
    stops = np.cumsum(lengths, axis=1) + BLOCK * np.arange(len(blocks))[:, None]
    table, number = np.nonzero(lengths.T)
    stop = stops[number, table]
    return order, np.stack([table, stop - lengths[number, table], stop], axis=1).tolist()


def _encode_escapes(coder: AnsCoder, symbols: np.ndarray, reach: np.ndarray) -> None:
    """Writes the bit length and the lower bits of v = |symbol| - T >= 1, and the symbol's sign."""
    if not symbols.size:
        return
    excess = np.abs(symbols) - reach
    exponents = np.frexp(excess.astype(np.float64))[1] - 1
    coder.encode_reverse((symbols < 0).astype(np.int32), _uniform(2))
    for bit in range(int(exponents.max())):
        longer = exponents > bit
        coder.encode_reverse((excess[longer] >> bit & 1).astype(np.int32), _uniform(2))
    coder.encode_reverse(exponents.astype(np.int32), _uniform(MAX_EXPONENT))


def _decode_escapes(coder: AnsCoder, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads `count` escapes.

    Returns how far each symbol lies beyond its table, int32, and whether it is negative.
    """
    exponents = coder.decode(_uniform(MAX_EXPONENT), count).astype(np.uint8)
    excess = np.left_shift(np.int32(1), exponents, dtype=np.int32)
    for bit in range(int(exponents.max()) - 1, -1, -1):
        longer = exponents > bit
        excess[longer] |= coder.decode(_uniform(2), np.count_nonzero(longer)) << bit
    return excess, coder.decode(_uniform(2), count).astype(bool)
