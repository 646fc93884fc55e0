"""A picture has the same numbers from a file and from memory, and is refused for the same."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from popq.errors import Outcome, Permanent, Transient
from popq.images import decode
from popq.learn import exported
from popq.learn.config import Config
from popq.learn.model import build
from popq.learn.objectives import Scale
from popq.learn.predict import Card
from popq.learn.scorer import Scorer, read

CONFIG = Config(arch="resnet18", weights="none", image_size=32)
CARD = Card(CONFIG, Scale((2.0, 4.0), (1.0, 3.0, 5.0), 3.0, 1.5), (0.5,) * 3, (0.2,) * 3, 3, "beef")


@pytest.fixture(scope="module")
def scorer():
    return Scorer(build("resnet18", 3, "none").eval(), CARD, torch.device("cpu"))


def picture(width, height):
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def saved(folder, image, name, **options):
    path = folder / f"picture.{name}"
    image.save(path, **options)
    return path


def seen(given):
    return np.asarray(decode.crop(read(given)))


@pytest.mark.parametrize("name", ["jpg", "png", "gif", "webp", "bmp"])
@pytest.mark.parametrize("size", [(300, 200), (2400, 1600)])
def test_an_opened_picture_is_seen_as_its_file_is(tmp_path, name, size):
    path = saved(tmp_path, picture(*size), name)
    with Image.open(path) as opened:
        assert np.array_equal(seen(opened), seen(path))
        assert opened.size == size
        assert opened.convert("RGB").getpixel((0, 0))  # it is still to be used
    if name != "jpg":
        loaded = Image.open(io.BytesIO(path.read_bytes()))
        loaded.load()
        assert np.array_equal(seen(loaded), seen(path))


def test_a_large_jpeg_that_was_loaded_is_seen_nearly_as_its_file_is(tmp_path):
    path = saved(tmp_path, picture(2400, 1600), "jpg", quality=95)
    with Image.open(path) as opened:
        opened.load()
        assert np.abs(seen(opened).astype(int) - seen(path)).max() <= 8


def test_what_turns_a_file_upright_turns_an_opened_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, picture(2400, 1600), "jpg", exif=exif)
    with Image.open(path) as opened:
        assert np.array_equal(seen(opened), seen(path))


def test_pixels_that_were_changed_are_those_that_are_seen(tmp_path):
    path = saved(tmp_path, picture(300, 200), "png")
    with Image.open(path) as opened:
        opened.paste((255, 255, 255), (0, 0, 300, 200))
        assert (seen(opened) == 255).all()


def test_a_file_and_what_was_opened_of_it_are_refused_alike(tmp_path, scorer):
    small = saved(tmp_path, picture(100, 63), "png")
    with Image.open(small) as opened:
        for given in (small, opened, picture(100, 63)):
            with pytest.raises(Permanent, match="at least 64") as caught:
                scorer.score([given])
            assert caught.value.outcome == Outcome.TOO_SMALL
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(saved(tmp_path, picture(300, 200), "jpg").read_bytes()[:2000])
    with Image.open(cut) as opened:
        for given in (cut, opened):
            with pytest.raises(Transient, match="no whole picture") as caught:
                scorer.score([given])
            assert caught.value.outcome == Outcome.CORRUPT
    with pytest.raises(Transient) as caught:
        scorer.score([picture(300, 200), cut])
    assert f"{cut} (picture 2 of those given)" in caught.value.__notes__[0]
    with pytest.raises(Permanent, match="at most"):
        scorer.score([Image.new("1", (decode.MAX_PIXELS // 64 + 1, 64))])


def test_a_picture_that_was_closed_too_early_is_named(tmp_path, scorer):
    with Image.open(saved(tmp_path, picture(100, 80), "png")) as opened:
        pass
    with pytest.raises(Transient, match="open it again"):
        scorer.score([opened])


def test_an_exported_card_says_what_becomes_of_large_photos(tmp_path):
    exported.write(tmp_path, build("resnet18", 3, "none"), CARD, {})
    steps = json.loads((tmp_path / "card.json").read_text())["preprocessing"]["steps"]
    assert f"over {decode.LARGE:,} pixels: shrink by 2, 4 or 8" in steps[1]
