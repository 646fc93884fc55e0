"""Whatever comes as an image ends in a typed outcome, and no worker dies or takes 600 MB of it."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw

from popq.errors import Outcome, Permanent, Transient
from popq.images.decode import LARGE, MAX_PIXELS, Decoded, crop, decode
from popq.images.phash import perceptual_hash
from popq.planted import plant, render

TYPED = {"decoded", "corrupt", "too_small", "too_large"}
#: Variants of photos that are tried.
FUZZED = int(os.environ.get("POPQ_TEST_FUZZED", "10000"))


def outcome(data):
    """What the download stage makes of these bytes: the decoded photo, or a typed outcome."""
    try:
        found = decode(io.BytesIO(data))
    except (Permanent, Transient) as error:
        return error.outcome
    crop(found.image).histogram()
    perceptual_hash(found.image)
    assert found.image.mode == "RGB"
    return found


def picture(size=(160, 120), mode="RGB"):
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    ImageDraw.Draw(image).ellipse((20, 20, 90, 100), fill=(200, 30, 40), outline=(0, 0, 0))
    return image.convert(mode)


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def sixteen_bit():
    return Image.fromarray(np.asarray(picture(mode="L")).astype(np.uint16) * 257)


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(picture(), "JPEG", exif=exif)


def frames(kind, **options):
    more = [picture().transpose(Image.Transpose.ROTATE_180)]
    return saved(picture(), kind, save_all=True, append_images=more, **options)


def with_segment(jpeg, marker, body):
    """Put a segment at the very front of a JPEG."""
    return b"\xff\xd8\xff" + struct.pack(">BH", marker, len(body) + 2) + body + jpeg[2:]


def much_exif():
    """As cameras write it: a maker's note of 60 kB."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x0132] = "Maker", 1, "2017:02:17 09:08:07"
    exif.get_ifd(0x8769)[0x927C] = bytes(range(256)) * 234
    return saved(picture(), "JPEG", exif=exif)


def icc():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return saved(picture(), "JPEG", icc_profile=profile)


GOOD = {
    "photoshop's block first": with_segment(
        saved(picture(), "JPEG"), 0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\0"
    ),
    "icc profile": icc(),
    "restart markers": saved(picture(), "JPEG", restart_marker_rows=1),
    "much exif": much_exif(),
    "baseline": saved(picture(), "JPEG"),
    "progressive": saved(picture(), "JPEG", progressive=True),
    "full chroma": saved(picture(), "JPEG", subsampling=0, optimize=True),
    "cmyk": saved(picture(mode="CMYK"), "JPEG"),
    "grey": saved(picture(mode="L"), "JPEG"),
    "rotated": turned(6),
    "orientation that is none": turned(77),
    "palette": saved(picture(mode="P"), "PNG", transparency=3),
    "one bit": saved(picture(mode="1"), "PNG"),
    "alpha": saved(picture(mode="RGBA"), "PNG"),
    "grey and alpha": saved(picture(mode="LA"), "PNG"),
    "sixteen bits": saved(sixteen_bit(), "PNG"),
    "gif": saved(picture(mode="P"), "GIF"),
    "animated gif": frames("GIF", duration=50),
    "animated png": frames("PNG", duration=50),
    "animated webp": frames("WEBP", duration=50),
    "webp": saved(picture(mode="RGBA"), "WEBP"),
    "bmp": saved(picture(), "BMP"),
}


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth=8, colour=2, data=b"\x00" * 100, *more):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + b"".join(more) + chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def jpeg_header(width, height):
    start = saved(picture(), "JPEG")
    at = start.index(b"\xff\xc0")
    return start[: at + 5] + struct.pack(">HH", height, width) + start[at + 9 :]


BAD = {
    "empty": (b"", Outcome.CORRUPT),
    "a page": (b"<html><body>429 Too Many Requests</body></html>", Outcome.CORRUPT),
    "text": (b"\xff\xd8\xff" + b"this is no JPEG" * 99, Outcome.CORRUPT),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', Outcome.CORRUPT),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", Outcome.CORRUPT),
    "tiff": (saved(picture(), "TIFF"), Outcome.CORRUPT),
    "1x1": (saved(picture((1, 1)), "PNG"), Outcome.TOO_SMALL),
    "63 high": (saved(picture((300, 63)), "JPEG"), Outcome.TOO_SMALL),
    "bomb of 20,000 x 20,000": (png(20_000, 20_000), Outcome.TOO_LARGE),
    "bomb of 2 billion pixels": (png(2**31 - 1, 64), Outcome.TOO_LARGE),
    "bomb in a JPEG's header": (jpeg_header(65_500, 65_500), Outcome.TOO_LARGE),
    "a size of nothing": (png(0, 0), Outcome.CORRUPT),
    "a short PNG": (png(400, 400), Outcome.CORRUPT),
    "text that unpacks to 100 MB": (
        png(400, 400, 8, 2, bytes(10), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))),
        Outcome.CORRUPT,
    ),
}


@pytest.mark.parametrize("kind", GOOD)
def test_every_kind_of_picture_is_decoded(kind):
    found = outcome(GOOD[kind])
    assert isinstance(found, Decoded)
    assert {found.width, found.height} == {160, 120}
    assert (found.width < found.height) == (kind == "rotated")


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_picture_has_a_reason(kind):
    data, expected = BAD[kind]
    assert outcome(data) == expected


@pytest.mark.parametrize("kind", GOOD)
def test_a_picture_that_is_cut_at_any_tenth_byte_is_corrupt(kind):
    """Or whole, where what is cut off are later frames, or bytes that say only that it ends."""
    data = GOOD[kind]
    needed = end_of_first_frame(data, kind)
    for length in range(0, len(data), 10):
        found = outcome(data[:length])
        if isinstance(found, Decoded):
            assert length > needed - 24
        else:
            assert found == Outcome.CORRUPT


def end_of_first_frame(data, kind):
    """Return how many bytes an animation's first frame takes, with all before it."""
    if kind == "animated gif":
        return data.index(b"\x21\xf9", data.index(b"\x2c"))  # the next frame's control block
    if kind == "animated png":
        return data.index(b"fcTL", data.index(b"IDAT")) - 4
    if kind == "animated webp":
        return data.index(b"ANMF", data.index(b"ANMF") + 4)
    return len(data)


def mutated(data, rng):
    """One variant of a file: bytes changed, cut out, doubled, swapped, or lengths made wild."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        # Mostly in the headers, where most of what is not pixels stands.
        at = rng.randrange(min(len(data), rng.choice((700, len(data)))))
        length = rng.randrange(1, 40)
        match rng.randrange(6):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                data[at : at + 2] = rng.choice((b"\xff\xff", b"\x00\x00", b"\x7f\xff", b"\x80\x00"))
            case 5:
                del data[max(1, len(data) - length) :]
        if len(data) < 2:
            break
    return bytes(data)


def fuzz(count, seed=7):
    """Try that many variants of photos of every kind; return how many came to what."""
    photos = [render(photo) for photo in plant(8, 4, seed=3)]
    sources = [*photos, *photos, *GOOD.values()]  # mostly JPEG, as Flickr serves
    rng = random.Random(seed)
    counts: dict[str, int] = {}
    for _ in range(count):
        found = outcome(mutated(rng.choice(sources), rng))
        name = "decoded" if isinstance(found, Decoded) else str(found)
        counts[name] = counts.get(name, 0) + 1
    return counts


@pytest.mark.filterwarnings("ignore:::PIL")  # workers do not make warnings errors
def test_fuzzed_photos_end_in_typed_outcomes():
    counts = fuzz(FUZZED)
    assert sum(counts.values()) == FUZZED
    assert set(counts) <= TYPED
    assert counts["decoded"] > 100
    assert counts["corrupt"] > 100


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_large_photo_is_what_it_is_but_smaller(kind):
    """Its recorded size is its own; what training sees hardly differs from the whole's."""
    large = picture((3000, 2000)).resize((3000, 2000), Image.Resampling.BICUBIC)
    assert LARGE < 3000 * 2000
    found = decode(io.BytesIO(saved(large, kind, quality=95)))
    assert (found.width, found.height) == (3000, 2000)
    assert found.image.width * found.image.height <= LARGE
    seen = np.asarray(crop(found.image), dtype=int)
    whole = np.asarray(crop(large), dtype=int)
    assert np.abs(seen - whole).mean() < 1


MEASURE = """
import io, json, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from PIL import Image
import popq.tasks  # all that a worker loads
from popq.images.budget import give_back_large_blocks
give_back_large_blocks()
from popq.errors import Permanent, Transient
from popq.images.decode import crop, decode
from popq.images.phash import perceptual_hash

def handle(name):
    data = Path(sys.argv[1], name).read_bytes()
    try:
        found = decode(io.BytesIO(data))
    except (Permanent, Transient) as error:
        return name, str(error.outcome)
    crop(found.image).histogram()
    perceptual_hash(found.image)
    return name, f"{found.width}x{found.height}"

names = sorted(path.name for path in Path(sys.argv[1]).iterdir())
with ThreadPoolExecutor(8) as pool:
    found = dict(pool.map(handle, names * 2))
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1]
print(json.dumps({"found": found, "mb": int(peak) * 1024 / 1e6}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's account of memory")
def test_eight_threads_of_50_megapixels_stay_below_600_mb(tmp_path):
    """The largest of each kind, two of each, in one worker's eight threads at a time."""
    side = (8192, 6144)
    assert side[0] * side[1] <= MAX_PIXELS
    grey = Image.linear_gradient("L").resize(side, Image.Resampling.NEAREST)
    rgb = Image.merge("RGB", (grey, grey, grey))
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(tmp_path / "progressive.jpg", progressive=True, subsampling=0)
    rgb.save(tmp_path / "rotated.jpg", exif=exif)
    rgb.convert("CMYK").save(tmp_path / "cmyk.jpg")
    rgb.save(tmp_path / "rgb.png", compress_level=1)
    Image.merge("LA", (grey, grey)).save(tmp_path / "la.png", compress_level=1)
    grey.convert("P").save(tmp_path / "palette.png", transparency=3, compress_level=1)
    grey.convert("P").save(tmp_path / "still.gif")
    Image.new("RGBA", (3400, 3400), (9, 9, 9, 99)).save(tmp_path / "alpha.webp", lossless=True)
    for number in range(8):
        small = Image.new("RGBA", (1400, 1400), (number, 9, 9, 99))
        small.save(tmp_path / f"small-{number}.png", compress_level=1)
    (tmp_path / "bomb.png").write_bytes(png(20_000, 20_000))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    measured = json.loads(done.stdout)
    assert measured["found"].pop("bomb.png") == "too_large"
    assert measured["found"]["rotated.jpg"] == "6144x8192"
    assert all("x" in size for size in measured["found"].values())
    assert measured["mb"] < 600
