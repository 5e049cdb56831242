import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecodec.entropy import LARGEST, PRECISION, Decoder, Encoder, Tables
from facecodec.errors import FormatError


@pytest.fixture(scope="module")
def tables(tiny) -> Tables:
    return tiny.family.tables


def round_trip(
    tables: Tables, bands: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[bytes, list[np.ndarray], Decoder]:
    encoder = Encoder(tables)
    for symbols, indices in reversed(bands):
        encoder.band(symbols, indices)
    data = encoder.finish()
    decoder = Decoder(tables, data)
    return data, [decoder.band(indices) for _, indices in bands], decoder


def test_constriction_codes_with_exactly_our_counts(tables):
    """Reads back each entry's width in the 24-bit range by decoding chosen states of the coder."""
    for index in range(len(tables)):
        counts = tables.counts[tables.starts[index] : tables.starts[index + 1]]
        edges = np.cumsum(counts)
        model = tables.model(index)
        for entry in {0, 1, len(counts) // 2, len(counts) - 2, len(counts) - 1}:
            for quantile in (edges[entry] - counts[entry], edges[entry] - 1):
                words = np.array([quantile, 1 << 20], np.uint32)
                coder = constriction.stream.stack.AnsCoder(words)
                assert coder.decode(model) == entry


def test_tables_sum_to_the_precision_and_keep_an_escape(tables):
    sums = np.add.reduceat(tables.counts, tables.starts[:-1])
    assert (sums == 1 << PRECISION).all()
    assert (tables.counts[tables.starts[1:] - 1] > 0).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_symbols_round_trip_escapes_included(tables, data):
    seed = data.draw(st.integers(0, 2**32 - 1))
    spread = data.draw(st.sampled_from([1, 30, 5000, LARGEST]))
    rng = np.random.default_rng(seed)
    bands = []
    for _ in range(data.draw(st.integers(1, 3))):
        shape = (3, data.draw(st.integers(0, 5)), data.draw(st.integers(1, 5)))
        bands.append(
            (rng.integers(-spread, spread + 1, shape), rng.integers(0, len(tables), shape))
        )
    _, decoded, decoder = round_trip(tables, bands)
    for (symbols, _), back in zip(bands, decoded, strict=True):
        np.testing.assert_array_equal(symbols, back)
    decoder.finish()


def test_the_largest_symbols_round_trip_and_larger_ones_are_refused(tables):
    symbols = np.array([LARGEST, -LARGEST, 0])
    indices = np.array([0, len(tables) - 1, 40])
    _, (back,), _ = round_trip(tables, [(symbols, indices)])
    np.testing.assert_array_equal(symbols, back)
    with pytest.raises(OverflowError):
        Encoder(tables).band(np.array([LARGEST + 1]), np.array([0]))


def test_the_size_is_the_information_of_the_symbols(tables):
    rng = np.random.default_rng(1)
    indices = rng.integers(20, 60, 41_000)
    scale = 0.11 * 2 ** (indices / 8)
    symbols = np.rint(rng.normal(0, scale)).astype(np.int64)
    inside = np.abs(symbols) <= tables.reach[indices]
    symbols, indices = symbols[inside], indices[inside]
    counts = tables.counts[tables.starts[indices] + symbols + tables.reach[indices]]
    ideal = (PRECISION - np.log2(counts)).sum() / 8
    data, _, _ = round_trip(tables, [(symbols, indices)])
    assert ideal - 1 < len(data) < ideal + 8


def test_a_stream_that_does_not_end_with_its_symbols_is_refused(tables):
    indices = np.full(200, 40)
    data, _, _ = round_trip(tables, [(np.arange(200) % 7 - 3, indices)])
    for broken in (data[:-1], data[:-4], data + b"\1", data[4:]):
        decoder = Decoder(tables, broken)
        decoder.band(indices)
        with pytest.raises(FormatError, match="does not end"):
            decoder.finish()
    with pytest.raises(FormatError, match="zero byte"):
        Decoder(tables, data + b"\0")


def test_malformed_tables_are_refused(tables):
    counts, starts = tables.counts.copy(), tables.starts.copy()
    with pytest.raises(ValueError, match="malformed"):
        Tables(counts, starts[:-1])
    counts[0] -= 1
    with pytest.raises(ValueError, match="malformed"):
        Tables(counts, starts)


def test_what_symbols_take_is_what_the_coder_writes(tables):
    rng = np.random.default_rng(3)
    indices = rng.integers(0, len(tables), 20000)
    symbols = np.rint(rng.normal(0, 0.3 * tables.reach[indices])).astype(
        np.int64
    )  # now and then beyond the table
    within = np.abs(symbols) <= tables.reach[indices]
    data, _, _ = round_trip(tables, [(symbols[within], indices[within])])
    assert tables.bits(symbols[within], indices[within]).sum() == pytest.approx(
        8 * len(data), rel=0.002
    )
    assert (tables.bits(symbols, indices)[~within] > 5).all()


def test_a_band_of_many_blocks_is_the_same_stream_and_is_skipped_as_it_is_read(tables, monkeypatch):
    """Sorting by blocks gives the order of docs/format.md, which has no blocks."""
    rng = np.random.default_rng(4)
    indices = rng.integers(0, len(tables), 3000)
    symbols = rng.integers(-300, 300, 3000)  # many beyond their table
    whole, _, _ = round_trip(tables, [(symbols, indices)])
    monkeypatch.setattr("facecodec.entropy.BLOCK", 64)
    parts, (back,), decoder = round_trip(tables, [(symbols, indices)])
    assert parts == whole
    np.testing.assert_array_equal(symbols, back)
    skipper = Decoder(tables, whole)
    skipper.skip(indices)
    skipper.finish()
    assert skipper.escapes == decoder.escapes > 100
