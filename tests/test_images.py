"""Tests the conversion of every kind of picture that Pillow opens."""

import io
import warnings

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from facecodec import images, plugins
from facecodec.errors import ImageError
from facecodec.images import info_of, read, write

LIMIT = 1 << 20


def reread(image: Image.Image, format: str = "PNG", **options) -> tuple[np.ndarray, list[str]]:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return read(io.BytesIO(buffer.getvalue()), LIMIT)[:2]


def test_rgb_is_untouched(picture):
    pixels, dropped = reread(Image.fromarray(picture))
    np.testing.assert_array_equal(pixels, picture)
    assert dropped == []


def test_grey_and_palette_are_converted_without_a_word(picture):
    grey, dropped = reread(Image.fromarray(picture[..., 0]))
    np.testing.assert_array_equal(grey, np.repeat(picture[..., :1], 3, axis=2))
    assert dropped == []
    palette = Image.fromarray(picture).quantize(16)
    pixels, dropped = reread(palette)
    np.testing.assert_array_equal(pixels, np.asarray(palette.convert("RGB")))
    assert dropped == []


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_and_said(picture, mode):
    image = Image.fromarray(picture).convert(mode)
    image.putalpha(100)
    pixels, dropped = reread(image)
    assert dropped == ["alpha"]
    np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))


def test_palette_transparency_is_said(picture):
    image = Image.fromarray(picture).quantize(16)
    _, dropped = reread(image, transparency=3)
    assert dropped == ["alpha"]


def test_16_bit_grey_is_scaled_and_said():
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    pixels, dropped = reread(Image.fromarray(values))
    np.testing.assert_array_equal(pixels[..., 0].ravel(), np.arange(256))
    assert dropped == ["depth beyond 8 bits"]


def test_16_bit_rgb_is_said():
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    row = b"\0" + struct.pack(">6H", 65535, 0, 257, 0, 65535, 257)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", 2, 1, 16, 2, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    pixels, dropped, _ = read(io.BytesIO(png), LIMIT)
    assert pixels.tolist() == [[[255, 0, 1], [0, 255, 1]]]
    assert dropped == ["depth beyond 8 bits"]


def test_cmyk_jpeg_is_converted_as_pillow_does(picture):
    image = Image.fromarray(picture).convert("CMYK")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    pixels, dropped, _ = read(io.BytesIO(buffer.getvalue()), LIMIT)
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(buffer).convert("RGB")))
    assert dropped == []


def test_exif_orientation_is_applied(picture):
    image = Image.fromarray(picture)
    exif = image.getexif()
    exif[0x0112] = 6
    pixels, _ = reread(image, exif=exif)
    np.testing.assert_array_equal(pixels, np.rot90(picture, -1))


def test_an_embedded_srgb_profile_changes_nothing(picture):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels, dropped = reread(Image.fromarray(picture), icc_profile=srgb)
    assert np.abs(pixels.astype(int) - picture).max() <= 1
    assert dropped == []


def test_a_linear_profile_changes_the_pixels_as_it_should(picture):
    pixels, dropped = reread(Image.fromarray(picture), icc_profile=linear_rgb_profile())
    assert dropped == []
    linear = picture / 255
    expected = 255 * np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    assert np.abs(pixels - expected).max() < 4


def linear_rgb_profile() -> bytes:
    """sRGB's own profile with its tone curves replaced by gamma 1."""
    import struct

    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", data, 128)[0]
    for i in range(count):
        tag, offset, _ = struct.unpack_from(">4s2I", data, 132 + 12 * i)
        if tag in (b"rTRC", b"gTRC", b"bTRC"):
            struct.pack_into(">4sIHHi", data, offset, b"para", 0, 0, 0, 1 << 16)
    return bytes(data)


def test_a_profile_that_does_not_fit_is_said(picture):
    pixels, dropped = reread(Image.fromarray(picture), icc_profile=b"not a profile at all")
    np.testing.assert_array_equal(pixels, picture)
    assert dropped == ["a colour profile that does not fit the image"]


def test_further_frames_are_said(picture):
    frames = [Image.fromarray(np.roll(picture, i, axis=0)) for i in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    _, dropped, _ = read(io.BytesIO(buffer.getvalue()), LIMIT)
    assert dropped == ["2 further frames"]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_a_file_cut_anywhere_is_an_image_error(picture, format):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format)
    data = buffer.getvalue()
    messages = []
    for length in range(0, len(data) * 9 // 10, len(data) // 25):
        try:
            read(io.BytesIO(data[:length]), LIMIT)
        except ImageError as error:
            messages.append(str(error))
    assert len(messages) >= 15
    assert "\n" not in "".join(messages)


def test_too_many_pixels_are_refused_before_they_are_decoded():
    buffer = io.BytesIO()
    Image.new("1", (2000, 2000)).save(buffer, "PNG")
    with pytest.raises(ImageError, match="2000x2000 is more than 1048576 pixels"):
        read(buffer, LIMIT)


def test_written_formats_are_what_they_say(picture):
    for format, name in (("png", "PNG"), ("jpg", "JPEG"), ("ppm", "PPM")):
        image = Image.open(io.BytesIO(write(Image.fromarray(picture), format)))
        assert (image.format, image.size) == (name, (61, 45))


def written_as(kind: str, picture: np.ndarray, **options: object) -> bytes:
    """Returns a file in a format that an extra's package writes."""
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    else:
        pytest.importorskip("pillow_jxl")
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, quality=95, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["HEIF", "JXL"])
def test_formats_of_the_extra_are_read(picture, kind):
    data = written_as(kind, picture)
    pixels = read(io.BytesIO(data), LIMIT).pixels
    assert pixels.shape == picture.shape
    assert np.abs(pixels.astype(int) - picture).mean() < 12
    with pytest.raises(ImageError, match="more than 100 pixels"):
        read(io.BytesIO(data), 100)
    for end in (13, len(data) // 2):
        with pytest.raises(ImageError):
            read(io.BytesIO(data[:end]), LIMIT)


@pytest.mark.parametrize("kind", ["HEIF", "JXL"])
def test_a_format_whose_package_is_missing_is_named(picture, kind, monkeypatch):
    data = written_as(kind, picture)
    monkeypatch.setattr(plugins, "find_spec", lambda name: None)
    with pytest.raises(ImageError, match=r"pip install 'facecodec\[formats\]'"):
        read(io.BytesIO(data), LIMIT)
    assert images.suffixes() == images.SUFFIXES


@pytest.mark.parametrize(
    "size", [(8, 8), (256, 256), (61, 45), (300, 200), (1920, 1080), (9000, 7)]
)
@pytest.mark.parametrize("contained", [False, True])
def test_the_size_of_jpeg_xl_is_read_from_its_header(size, contained):
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    data = written_as("JXL", picture, effort=1, use_container=contained)
    assert data.startswith(plugins.JXL_CONTAINER if contained else plugins.JXL_CODESTREAM)
    assert plugins.jpegxl_size(data) == size


@pytest.mark.parametrize("format", [each for each in images.WRITTEN if each != "ppm"])
def test_the_inner_tables_of_exif_are_written(format, picture):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2026:01:02 03:04:05"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    image = Image.fromarray(picture)
    image.info["exif"] = exif.tobytes()
    read = Image.open(io.BytesIO(write(image, format))).getexif()
    assert read.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal].startswith("2026")
    assert read.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"


@pytest.mark.parametrize("format", images.WRITTEN)
@pytest.mark.parametrize(
    "exif", [b"\x8d\n\x1b", b"II*\0\x08\0\0\0\x09\0\x0f\x01", b"MM\0*\0\0\0\x08" + bytes(range(80))]
)
def test_metadata_that_a_stranger_wrote_is_an_error_or_a_picture(format, exif, picture):
    """Nor does Pillow's warning reach the terminal."""
    image = Image.fromarray(picture)
    image.info.update(info_of([("EXIF", exif), ("ICCP", exif)]))
    data, refusal = b"", ""
    with warnings.catch_warnings(record=True) as warned:
        try:
            data = write(image, format)
        except ImageError as error:
            refusal = str(error)
    assert not warned
    if refusal:
        assert format in ("avif", "tiff")
        assert refusal.isprintable()
        assert refusal.endswith("decode to png")
    else:
        with warnings.catch_warnings(record=True):
            assert Image.open(io.BytesIO(data)).size == image.size
