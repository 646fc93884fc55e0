"""One recipe: whatever a file holds, it becomes an upright RGB image or a named error."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from popq.errors import Outcome, Permanent, Transient
from popq.images.decode import MAX_PIXELS, crop, decode

WIDTH, HEIGHT = 96, 72


def scene(width=WIDTH, height=HEIGHT):
    """Make red grow to the right, green downwards, blue to the left."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 255 * x // (width - 1), 255 * y // (height - 1)
    return Image.fromarray(np.stack([red, green, 255 - red], axis=-1).astype(np.uint8))


def encoded(image, name="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def decoded(data):
    return decode(io.BytesIO(data))


def difference(image, other):
    return np.abs(np.asarray(image, dtype=int) - np.asarray(other, dtype=int)).max()


def with_exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def png_of_size(width, height):
    """Make a PNG whose header promises much and whose body holds nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 95}, 12),
        ("JPEG", {"quality": 95, "progressive": True}, 12),
    ],
)
def test_a_picture_comes_out_as_it_went_in(name, options, tolerance):
    result = decoded(encoded(scene(), name, **options))
    assert (result.width, result.height, result.format) == (WIDTH, HEIGHT, name)
    assert (result.image.mode, result.image.size) == ("RGB", (WIDTH, HEIGHT))
    assert difference(result.image, scene()) <= tolerance


@pytest.mark.parametrize(
    ("mode", "name"),
    [("L", "JPEG"), ("L", "PNG"), ("1", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("P", "GIF")],
)
def test_every_mode_becomes_rgb(mode, name):
    image = scene().convert(mode)
    result = decoded(encoded(image, name))
    assert result.image.mode == "RGB"
    assert difference(result.image, image.convert("RGB")) <= 4


def test_cmyk_becomes_rgb():
    result = decoded(encoded(scene().convert("CMYK"), quality=95))
    assert result.image.mode == "RGB"
    assert difference(result.image, scene()) <= 16


def test_alpha_lies_on_white():
    image = Image.new("RGBA", (80, 80), (255, 0, 0, 255))
    image.paste((0, 0, 255, 0), (0, 0, 40, 80))
    image.paste((0, 0, 0, 128), (40, 0, 80, 40))
    result = decoded(encoded(image, "PNG")).image
    assert result.getpixel((10, 10)) == (255, 255, 255)
    assert result.getpixel((60, 10)) == (127, 127, 127)
    assert result.getpixel((60, 60)) == (255, 0, 0)


def test_a_transparent_colour_of_a_palette_or_of_rgb_is_white():
    palette = Image.new("P", (80, 80), 1)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    assert decoded(encoded(palette, "GIF", transparency=1)).image.getpixel((5, 5)) == (255,) * 3
    green = Image.new("RGB", (80, 80), (0, 255, 0))
    data = encoded(green, "PNG", transparency=(0, 255, 0))
    assert decoded(data).image.getpixel((5, 5)) == (255,) * 3


def test_sixteen_bit_grey_keeps_its_high_byte():
    values = np.arange(80 * 80, dtype=np.uint16).reshape(80, 80) * 10
    result = decoded(encoded(Image.fromarray(values), "PNG")).image
    assert (np.asarray(result)[..., 1] == values >> 8).all()


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.new("RGB", (80, 80), colour) for colour in ("red", "blue")]
    for name in ("GIF", "PNG", "WEBP"):
        data = encoded(frames[0], name, save_all=True, append_images=frames[1:])
        assert difference(decoded(data).image, frames[0]) <= 4, name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_upright(orientation):
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    lying = scene().transpose(undo[orientation]) if orientation in undo else scene()
    for name in ("JPEG", "PNG"):
        result = decoded(encoded(lying, name, exif=with_exif(orientation)))
        assert (result.width, result.height) == (WIDTH, HEIGHT)
        assert difference(result.image, scene()) <= 40


@pytest.mark.parametrize("orientation", [0, 9, 60_000])
def test_an_orientation_that_means_nothing_is_ignored(orientation):
    data = encoded(scene(), "PNG", exif=with_exif(orientation))
    assert difference(decoded(data).image, scene()) == 0


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
@pytest.mark.parametrize("exif", [b"MM\x00\x2b" + b"\xff" * 9, b"no TIFF header at all", b"MM"])
def test_broken_exif_does_not_spoil_the_picture(exif):
    data = encoded(scene(), "PNG", exif=b"Exif\x00\x00" + exif)
    assert difference(decoded(data).image, scene()) == 0


def test_a_photoshop_segment_may_come_before_jfif():
    data = encoded(scene())
    body = b"Photoshop 3.0\x00" + b"8BIM\x04\x04\x00\x00\x00\x00\x00\x00"
    segment = b"\xff\xed" + struct.pack(">H", len(body) + 2) + body
    assert difference(decoded(data[:2] + segment + data[2:]).image, decoded(data).image) == 0


def test_a_path_serves_as_well_as_an_open_file(tmp_path):
    path = tmp_path / "photo"
    path.write_bytes(encoded(scene(), "PNG"))
    assert difference(decode(path).image, scene()) == 0


def test_the_image_outlives_its_file(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(scene(), "PNG"))
    with path.open("rb") as file:
        result = decode(file)
    path.unlink()
    assert difference(result.image.rotate(0), scene()) == 0


# Pillow warns of EXIF that is cut; the picture is refused for what else is missing.
@pytest.mark.filterwarnings("ignore:.*EXIF|Truncated:UserWarning")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"exif": with_exif(6)}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {}),
        ("BMP", {}),
    ],
)
def test_cut_anywhere_it_is_corrupt_unless_every_pixel_is_there(name, options):
    data = encoded(scene(), name, **options)
    whole = decoded(data).image
    outcomes = []
    for length in [*range(0, len(data), 10), len(data) - 1]:
        try:
            result = decoded(data[:length])
        except Transient as error:
            outcomes.append(error.outcome)
        else:
            # What may be missing is what stands after the pixels: a PNG's IEND, a GIF's end.
            assert len(data) - length < 32
            assert difference(result.image, whole) == 0
    assert set(outcomes) == {Outcome.CORRUPT}
    assert len(outcomes) > len(data) // 20


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff",
        b"<!DOCTYPE html><html><body>This photo is no longer available</body></html>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n",
        bytes(range(256)) * 40,
    ],
)
def test_what_is_no_picture_is_corrupt(data, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(Transient) as caught:
        decode(path)
    assert caught.value.outcome == Outcome.CORRUPT


@pytest.mark.parametrize(
    ("name", "options"), [("JPEG", {}), ("PNG", {}), ("GIF", {}), ("WEBP", {}), ("BMP", {})]
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of metadata that is damaged
def test_damaged_bytes_give_a_picture_or_a_named_error(name, options):
    rng = np.random.default_rng(5)
    data = encoded(scene(), name, **options)
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(0, min(len(data), 400), 3):
            damaged[place] = rng.integers(0, 256)
        try:
            assert decoded(bytes(damaged)).image.mode == "RGB"
        except (Permanent, Transient) as error:
            outcomes.add(error.outcome)
    assert Outcome.CORRUPT in outcomes
    assert outcomes <= {Outcome.CORRUPT, Outcome.TOO_LARGE, Outcome.TOO_SMALL}


@pytest.mark.parametrize("size", [(1, 1), (63, 200), (200, 63)])
def test_a_side_below_64_is_too_small(size):
    with pytest.raises(Permanent, match=f"{size[0]}x{size[1]}") as caught:
        decoded(encoded(Image.new("RGB", size), "PNG"))
    assert caught.value.outcome == Outcome.TOO_SMALL


def test_64_pixels_are_enough():
    assert decoded(encoded(Image.new("RGB", (64, 64)), "PNG")).width == 64


# One row too many, where Pillow warns; and twice too many, where Pillow raises.
@pytest.mark.parametrize("height", [MAX_PIXELS // 1000 + 1, 120_000, 2_000_000])
@pytest.mark.parametrize("what_warnings_do", ["error", "ignore"])
def test_too_many_pixels_are_refused_by_the_header_alone(height, what_warnings_do):
    with warnings.catch_warnings():
        warnings.simplefilter(what_warnings_do)
        with pytest.raises(Permanent) as caught:
            decoded(png_of_size(1000, height))
    assert caught.value.outcome == Outcome.TOO_LARGE


def test_just_few_enough_pixels_are_tried():
    with pytest.raises(Transient):
        decoded(png_of_size(1000, MAX_PIXELS // 1000))


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(Permanent) as caught:
        decode(tmp_path / "nowhere.jpg")
    assert caught.value.outcome == Outcome.FILE_MISSING


def test_a_fault_of_the_store_is_no_fault_of_the_photo(tmp_path):
    with pytest.raises(Transient) as caught:
        decode(tmp_path)
    assert caught.value.outcome == Outcome.TRANSIENT


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (256, 256), (64, 3000), (70, 64)])
def test_the_crop_is_the_centre_square(size):
    result = crop(scene(*size))
    assert (result.mode, result.size) == ("RGB", (256, 256))
    # The scene is linear and symmetric, so the centre keeps its colour and the edges theirs.
    side = min(size)
    left = 255 * (size[0] - side) / 2 / size[0]
    corner, centre = result.getpixel((0, 128)), result.getpixel((128, 128))
    assert corner[0] == pytest.approx(left, abs=5)
    assert centre == pytest.approx((127, 127, 127), abs=5)


def test_the_crop_is_what_resizing_the_short_side_and_cutting_gives():
    rng = np.random.default_rng(3)
    photo = Image.fromarray(rng.integers(0, 256, (512, 1024, 3), dtype=np.uint8))
    usual = photo.resize((512, 256), Image.Resampling.BILINEAR).crop((128, 0, 384, 256))
    # Only at the cut do they differ: the square alone has no pixels beyond its edge.
    inside = (1, 1, 255, 255)
    assert difference(crop(photo).crop(inside), usual.crop(inside)) <= 1


def test_many_threads_decode_alike():
    data = [encoded(scene(200 + 10 * i, 150)) for i in range(8)]
    alone = [crop(decoded(one).image).tobytes() for one in data]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda one: crop(decoded(one).image).tobytes(), data * 5))
    assert together == alone * 5


def test_messages_name_no_objects_of_python():
    with pytest.raises(Transient) as told:
        decode(io.BytesIO(b"<html>not a picture</html>"))
    assert str(told.value) == "26 bytes that are no picture of JPEG, PNG, GIF, WEBP, BMP"
