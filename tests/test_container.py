import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecodec.container import MAX_SIDE, Container, pack, unpack
from facecodec.errors import FormatError

PLAIN = Container(b"\x01\x02\x03\x04", 96, 250, 250, [b"hyper", b"latent" * 100])
DOUBLED = replace(PLAIN, doubled=True)
CHUNKED = replace(PLAIN, chunks=[("ICCP", b"profile"), ("EXIF", b"")])

containers = st.builds(
    Container,
    fingerprint=st.binary(min_size=4, max_size=4),
    quality_byte=st.integers(0, 224),
    width=st.integers(1, MAX_SIDE),
    height=st.integers(1, MAX_SIDE),
    streams=st.lists(st.binary(max_size=300), min_size=1, max_size=7),
    chunks=st.lists(
        st.tuples(st.sampled_from(["ICCP", "EXIF", "abcd"]), st.binary(max_size=300)), max_size=3
    ),
)


def sealed(data: bytes) -> bytes:
    """Returns the same bytes with a valid checksum, as a hostile writer would make them."""
    return data[:8] + struct.pack("<I", zlib.crc32(data[12:], zlib.crc32(data[:8]))) + data[12:]


@pytest.mark.parametrize("wrong", [{"quality_byte": 47}, {"width": 257}, {"height": 257}], ids=str)
def test_a_picture_that_cannot_be_doubled_is_refused(wrong):
    fits = replace(DOUBLED, quality_byte=48, width=256, height=256)
    assert unpack(pack(fits)).coded[1:] == ((512, 512), 0)
    with pytest.raises(FormatError, match="cannot be doubled"):
        unpack(pack(replace(fits, **wrong)))


@given(containers)
def test_what_is_packed_is_unpacked(container):
    assert unpack(pack(container)) == container


def test_header_sizes_are_what_the_format_promises():
    streams = [bytes(100), bytes(6000)]
    assert len(pack(replace(PLAIN, streams=streams))) - 6100 == 17
    large = Container(bytes(4), 224, 16383, 16383, [bytes(1 << 20), bytes(1 << 24)])
    assert len(pack(large)) - (1 << 20) - (1 << 24) <= 22


@pytest.mark.parametrize("container", [PLAIN, CHUNKED, DOUBLED])
def test_a_file_cut_anywhere_is_refused(container):
    data = pack(container)
    for length in range(len(data)):
        with pytest.raises(FormatError):
            unpack(data[:length])


@pytest.mark.parametrize("container", [PLAIN, CHUNKED, DOUBLED])
def test_any_flipped_bit_is_refused(container):
    data = pack(container)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            unpack(bytes(damaged))


def test_added_bytes_are_refused():
    with pytest.raises(FormatError, match="checksum"):
        unpack(pack(PLAIN) + b"\0")


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, 0x89, "not a .fic file"),
        (1, 0x11, "not a .fic file"),
        (1, 0xC2, "format version 2"),
        (2, 0x24, "unknown flags 0x20"),
        (2, 0x84, "unknown flags 0x80"),
        (2, 0x00, "no streams"),
        (7, 225, "quality byte 225"),
    ],
)
def test_what_version_1_does_not_define_is_named_and_refused(position, value, message):
    data = bytearray(pack(PLAIN))
    data[position] = value
    with pytest.raises(FormatError, match=message):
        unpack(sealed(bytes(data)))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\x00\x05\x01ab", "impossible size"),
        (b"\x85\x00\x05\x01ab", "shortest form"),
        (b"\xff\xff\xff\xff\xff\xff\x01", "too long"),
        (b"\xff\xff\xff\x7f\x01\x01ab", "impossible size"),
        (b"\x05\x05\x7fab", "past its end"),
        (b"\x05\x05", "past its end"),
    ],
)
def test_a_hostile_body_with_a_good_checksum_is_refused(body, message):
    with pytest.raises(FormatError, match=message):
        unpack(sealed(pack(PLAIN)[:12] + body))


def test_a_chunk_reaching_past_the_end_or_of_a_strange_type_is_refused():
    data = pack(CHUNKED)
    with pytest.raises(FormatError, match="past its end"):
        unpack(sealed(data[:-1]))
    with pytest.raises(FormatError, match="four letters"):
        unpack(sealed(data.replace(b"ICCP", b"\0CCP")))


def test_declared_chunks_must_be_there():
    data = pack(replace(PLAIN, chunks=[("ICCP", b"")]))
    with pytest.raises(FormatError, match="declares chunks"):
        unpack(sealed(data[:-5]))


def test_an_empty_file_is_named_so():
    with pytest.raises(FormatError, match="empty"):
        unpack(b"")
