"""Every odd file that Flickr is known to serve comes to its one right end."""

from __future__ import annotations

import pytest
from houses import FIRST_ID, house, quiet, small_world
from images.test_bad_input import png

from popq import api
from popq.flickr.fake.faults import Fault, Faults, Host
from popq.flickr.fake.world import Fate, Look

SIZE = (300, 280)
#: What is not a stored JPEG of that size.
ODD = {
    Look.PNG: ("stored", None, "PNG", *SIZE),
    Look.PNG_16_BIT: ("stored", None, "PNG", *SIZE),
    Look.GIF: ("stored", None, "GIF", *SIZE),
    Look.HUGE: ("stored", None, "JPEG", 8660, 5775),
    Look.ONE_PIXEL: ("rejected", "too_small", None, None, None),
    "empty at first": ("stored", None, "JPEG", *SIZE),
    "always empty": ("rejected", "corrupt", None, None, None),
    "cut short": ("rejected", "corrupt", None, None, None),
    "a bomb": ("rejected", "too_large", None, None, None),
}
KINDS = (*Look, "empty at first", "always empty", "cut short", "a bomb")


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """What became of one photo of each kind, and of the job: (state, …) by kind, photos left."""
    folder = tmp_path_factory.mktemp("looks")
    world, faults = small_world(len(KINDS)), Faults()
    for photo, kind in zip(world.photos.values(), KINDS, strict=True):
        if isinstance(kind, Look):
            photo.look = kind
        elif kind == "empty at first":
            faults.fail_photo(photo.flickr_id, Fault.EMPTY, host=Host.IMAGE)
        elif kind == "always empty":
            photo.image = bytes
        elif kind == "cut short":
            photo.fate = Fate.CORRUPT
        else:
            photo.image = lambda: png(20_000, 20_000)
    with house(folder, world, faults) as home:
        api.import_list(home.rooms, home.list_files(folder))
        api.work(home.rooms, "resolve", on_progress=quiet)
        done = api.work(home.rooms, "download", on_progress=quiet)
        rows = home.sql("SELECT flickr_id, state, reason, format, width, height FROM photos")
        return {KINDS[(number - FIRST_ID) // 7]: end for number, *end in rows}, done.left


@pytest.mark.parametrize("kind", KINDS)
def test_an_odd_file_comes_to_its_end(ends, kind):
    ended, left = ends
    assert tuple(ended[kind]) == ODD.get(kind, ("stored", None, "JPEG", *SIZE))
    assert left == 0
