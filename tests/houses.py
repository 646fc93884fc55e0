"""A whole popq on one machine for tests: rooms in a folder, and a Flickr to ask."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from popq import api
from popq.bootstrap import Rooms
from popq.flickr.fake.faults import Faults
from popq.flickr.fake.server import DEMO_KEY, DEMO_SECRET, FakeFlickr
from popq.flickr.fake.world import FakePhoto, Fate, World
from popq.settings import Settings
from popq.stages.dataset import Spec
from popq.stages.ingest import Source

FIRST_ID = 14_000_000_000


def jpeg(number, size=(300, 280)):
    """Return a small photo of its own: no two numbers give the same picture."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(out, "JPEG")
    return out.getvalue()


def static_urls(world):
    """Return the image URLs of a world's photos, which are imported without asking the API."""
    host = "https://live.staticflickr.com"
    return [
        f"{host}/{photo.server}/{photo.flickr_id}_{photo.secret}_z.jpg"
        for photo in world.photos.values()
    ]


def small_world(photos, owners=None, fates=()):
    """Return a Flickr of `photos` photos; `fates` are those of the first ones.

    By default no owner has more than four: each photo is asked for by itself.
    """
    owners = owners or max(6, -(-photos // 4))
    world = World()
    for number in range(photos):
        world.add(
            FakePhoto(
                flickr_id=FIRST_ID + 7 * number,
                owner=f"{10000000 + number % owners}@N00",
                server="65535",
                secret=f"{number:010x}",
                image=lambda number=number: jpeg(number),
                title=f"Photo {number}",
                posted_at=1_400_000_000 + 3600 * number,
                fate=fates[number] if number < len(fates) else Fate.LIVE,
            )
        )
    return world


@dataclass
class House:
    """One popq and the Flickr that it asks."""

    rooms: Rooms
    flickr: FakeFlickr

    def list_files(self, folder):
        """Write the list of the world's photos with made-up scores; return it as a source."""
        links, labels = folder / "links.txt", folder / "labels.txt"
        urls = self.flickr.world.page_urls()
        links.write_text("\n".join(urls) + "\n")
        labels.write_text("\n".join(f"{1 + (37 * n % 101) / 10:.2f}" for n in range(len(urls))))
        return Source(links, labels)

    def let_pass(self):
        """Let all waits be over: of batches that are due later, and pauses of hosts."""
        with self.rooms.catalogue.begin() as tx:
            tx.exec_driver_sql("UPDATE hosts SET paused_until = 0")
            tx.exec_driver_sql("UPDATE batches SET due = 0")

    def sql(self, query, **values):
        """Return the rows of a query, as a person with a SQL prompt would see them."""
        with self.rooms.catalogue.read() as tx:
            return [tuple(row) for row in tx.exec_driver_sql(query, values or None)]

    def settings(self):
        """Return the settings as variables, for processes."""
        given = self.rooms.settings.model_dump(exclude_unset=True)
        shown = {}
        for name, value in given.items():
            secret = getattr(value, "get_secret_value", None)
            shown[f"POPQ_{name.upper()}"] = str(secret() if secret else value)
        return shown


@contextlib.contextmanager
def house(folder, world, faults=None, **settings):
    """Open a house whose Flickr serves `world`; waits are short and rates high."""
    with FakeFlickr(world, faults=faults or Faults()) as flickr:
        values = {
            "data_dir": folder / "popq-data",
            "flickr_api_url": flickr.api_url,
            "flickr_oembed_url": flickr.oembed_url,
            "flickr_image_url": flickr.image_url,
            "flickr_keys": f"{DEMO_KEY}:{DEMO_SECRET}",
            "flickr_calls_per_hour": 3_600_000,
            "images_per_second": 1000,
            "retry_wait_s": 0.05,
            "throttle_pause_s": 0.2,
            "io_threads": 3,
            "device": "cpu",
        } | settings
        with Rooms(Settings(**values)) as rooms:
            api.init(rooms)
            yield House(rooms, flickr)


@contextlib.contextmanager
def stored_house(folder, photos=48, owners=12):
    """Yield a house with so many photos stored, and the data set "main" of them."""
    with house(folder, small_world(photos, owners=owners)) as home:
        api.import_list(home.rooms, home.list_files(folder))
        for stage in ("resolve", "download"):
            api.work(home.rooms, stage, on_progress=quiet)
        api.make_dataset(home.rooms, Spec("main", val=0.3))
        yield home


def quiet(phase, done, total):
    """Take progress and say nothing."""
