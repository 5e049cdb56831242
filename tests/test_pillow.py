"""`.fic` as a format of Pillow, and metadata that is kept on request."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

import facecodec
from conftest import TINY
from facecodec.container import unpack
from facecodec.images import to_rgb
from facecodec.pillow_plugin import FORMAT
from test_images import linear_rgb_profile

GPS = {1: "N", 2: (52.0, 31.0, 0.0)}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setenv("FACECODEC_MODELS", str(TINY.parent))
    facecodec.register_pillow_opener()


@pytest.fixture
def tagged(picture) -> Image.Image:
    """A picture stored on its side, with a position and a colour profile."""
    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Model] = "camera"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(GPS)
    image.save(buffer, "PNG", exif=exif, icc_profile=linear_rgb_profile())
    return Image.open(buffer)


def test_pillow_opens_and_saves(picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "x.fic", quality=3, model=str(TINY))
    assert (tmp_path / "x.fic").read_bytes() == facecodec.encode(picture, 3, str(TINY))
    with Image.open(tmp_path / "x.fic") as image:
        assert (image.format, image.mode, image.size, image.info) == (
            FORMAT,
            "RGB",
            (61, 45),
            {"quality": 3},
        )
        assert image.get_format_mimetype() == "image/x-facecodec"
        decoded = facecodec.decode((tmp_path / "x.fic").read_bytes())
        np.testing.assert_array_equal(np.asarray(image), np.asarray(decoded))
        assert image.convert("L").resize((8, 8)).getpixel((3, 3)) > 0


def test_pillow_tells_what_is_wrong_with_a_file(picture, tmp_path):
    data = facecodec.encode(picture, 3, str(TINY))
    for kind in (OSError, facecodec.FacecodecError):
        with pytest.raises(kind, match="checksum"):
            Image.open(io.BytesIO(data[:-1]))
        with pytest.raises(kind, match="more than"):
            Image.open(io.BytesIO(facecodec_of_size(1 << 20, 1 << 20)))
        with (
            Image.open(io.BytesIO(facecodec_of_size(16, 16))) as image,
            pytest.raises(kind, match="00000000"),
        ):
            image.load()


def facecodec_of_size(width: int, height: int) -> bytes:
    from facecodec.container import Container, pack

    return pack(Container(bytes(4), 0, width, height, [b"", b""]))


def test_metadata_is_dropped_unless_asked_for(tagged):
    data = facecodec.encode(tagged, 3, str(TINY))
    assert unpack(data).chunks == []
    assert facecodec.decode(data).info == {}
    data = io.BytesIO()
    tagged.save(data, FORMAT, model=str(TINY))
    assert unpack(data.getvalue()).chunks == []


def test_metadata_that_is_kept_comes_back_but_for_the_orientation(tagged):
    data = facecodec.encode(tagged, 8, str(TINY), keep_metadata=True)
    image = facecodec.decode(data)
    assert image.size == (45, 61)  # upright
    assert image.info["icc_profile"] == tagged.info["icc_profile"]
    exif = image.getexif()
    assert exif[ExifTags.Base.Model] == "camera"
    assert ExifTags.Base.Orientation not in exif
    assert exif.get_ifd(ExifTags.IFD.GPSInfo) == GPS
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.getexif()[ExifTags.Base.Model] == "camera"


def test_with_its_profile_a_picture_keeps_its_own_values(tagged, picture):
    np.testing.assert_array_equal(to_rgb(tagged, keep_metadata=True).pixels, np.rot90(picture, -1))
    assert np.abs(to_rgb(tagged).pixels.astype(int) - np.rot90(picture, -1)).mean() > 5


def test_pillow_keeps_what_it_is_given(picture, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(picture).save(tmp_path / "x.fic", model=str(TINY), icc_profile=profile)
    with Image.open(tmp_path / "x.fic") as image:
        assert image.info["icc_profile"] == profile
        assert "exif" not in image.info


def test_bytes_that_are_no_exif_are_refused_in_words(picture, tmp_path):
    with pytest.raises(facecodec.ImageError, match=r"malformed EXIF \(.*\): leave it out"):
        Image.fromarray(picture).save(tmp_path / "x.fic", model=str(TINY), exif=b"x")


def test_pillow_stores_exif_without_its_orientation(picture, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Model] = "camera"
    for given in (exif, exif.tobytes()):
        Image.fromarray(picture).save(tmp_path / "x.fic", model=str(TINY), exif=given)
        with Image.open(tmp_path / "x.fic") as image:
            assert dict(image.getexif()) == {ExifTags.Base.Model: "camera"}


def test_the_command_line_keeps_metadata_on_request(run_cli, tagged, tmp_path):
    (tmp_path / "face.png").write_bytes(tagged.fp.getvalue())
    assert run_cli("encode", "face.png", "--keep-metadata").returncode == 0
    for suffix in ("png", "jpg"):
        assert run_cli("decode", "face.fic", "-o", f"back.{suffix}").returncode == 0
        with Image.open(tmp_path / f"back.{suffix}") as image:
            assert image.getexif()[ExifTags.Base.Model] == "camera"
            assert image.info["icc_profile"] == tagged.info["icc_profile"]
    assert run_cli("decode", "face.fic", "-o", "back.ppm").returncode == 0
    assert run_cli("encode", "face.png", "-f").returncode == 0
    assert run_cli("decode", "face.fic", "-o", "bare.png").returncode == 0
    with Image.open(tmp_path / "bare.png") as image:
        assert not image.getexif()
        assert "icc_profile" not in image.info


def test_imageio_goes_through_pillow(picture, tmp_path):
    iio = pytest.importorskip("imageio.v3", reason="imageio comes with scikit-image")
    facecodec.register_pillow_opener()
    iio.imwrite(tmp_path / "x.fic", picture, quality=3)
    assert iio.imread(tmp_path / "x.fic").shape == picture.shape
