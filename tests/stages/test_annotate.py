"""What files and Flickr say of photos meets in the catalogue, and is what splits go by."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace

import pytest
from houses import house, jpeg, quiet, small_world

from popq import api
from popq.flickr.fake.world import Dialect
from popq.stages.dataset import Spec, create
from popq.stages.ingest import Source

SAID = "owner, title, tags, views, posted_at, taken_at, licence"


@pytest.mark.parametrize("dialect", Dialect)
def test_what_flickr_says_is_preferred_and_what_it_leaves_out_is_kept(tmp_path, dialect):
    world = small_world(2)
    world.dialect = dialect
    first, second = world.photos.values()
    first.title, first.tags, first.views, first.licence = "T &amp; U", ("a", "b"), 15, 4
    second.title, second.taken_at = "", "0000-00-00 00:00:00"
    with house(tmp_path, world) as home:
        source = home.list_files(tmp_path)
        noted = [
            {"Pid": photo.flickr_id, "Title": "of the file", "Alltags": "x y", "Postdate": "86400"}
            for photo in (first, second)
        ]
        text = tmp_path / "train_text.json"
        text.write_text(json.dumps(noted))
        api.import_list(home.rooms, replace(source, metadata=(text,)))
        assert (
            home.sql("SELECT title, tags, posted_at FROM photos")
            == [("of the file", "x y", "1970-01-02 00:00:00.000000")] * 2
        )
        api.work(home.rooms, "resolve", on_progress=quiet)
        posted = [
            dt.datetime.fromtimestamp(photo.posted_at, dt.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
            for photo in (first, second)
        ]
        assert home.sql(f"SELECT {SAID} FROM photos ORDER BY id") == [
            (first.owner, "T & U", "a b", 15, posted[0], "2015-01-01 00:00:00", 4),
            (second.owner, "of the file", "x y", 0, posted[1], None, 0),
        ]


def test_files_of_a_folder_are_checked_measured_and_split_by_what_metadata_says(tmp_path):
    """Without a key, and without asking Flickr: the folder and the files are all there is."""
    paths = [f"train/{n // 4}@N75/{770 + n}.jpg" for n in range(24)]
    for n, path in enumerate(paths):
        place = tmp_path / "images" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(jpeg(n) if n else jpeg(n)[:500])
    listed = tmp_path / "train_img_filepath.txt"
    listed.write_text("\n".join(paths))
    labels = tmp_path / "train_label.txt"
    labels.write_text("\n".join(f"{n}.5" for n in range(24)))
    dates = tmp_path / "train_temporalspatial_information.json"
    # The later in the list, the older.
    said = [{"Uid": f"{n // 4}@N75", "Pid": str(770 + n), "Postdate": 10**9 - n} for n in range(24)]
    dates.write_text(json.dumps(said))
    with house(tmp_path, small_world(1), flickr_keys=None) as home:
        source = Source(listed, labels, images_dir=tmp_path / "images", metadata=(dates,))
        assert api.import_list(home.rooms, source).new == 24
        done = api.work(home.rooms, "download", on_progress=quiet)
        assert (done.moved, done.exited) == (23, 1)
        assert home.sql("SELECT source_key, reason FROM photos WHERE state <> 'stored'") == [
            (paths[0], "corrupt")
        ]
        assert home.sql("SELECT count(*), min(pixels) FROM moments") == [(23, 256 * 256)]
        assert home.flickr.counters()["api_calls_per_photo"] == {}
        create(home.rooms.catalogue, Spec("by time", split="time", val=0.5))
        made = create(home.rooms.catalogue, Spec("by owner", val=0.4))
        assert made["crossing"]["owners"] == 0
        sides = home.sql(
            "SELECT split, max(photo_id), min(photo_id) FROM members JOIN datasets"
            " ON datasets.id = dataset_id WHERE name = 'by time' GROUP BY split ORDER BY split"
        )
        (train, _, first), (val, last, _) = sides
        assert (train, val) == ("train", "val")
        assert last < first  # what validates is newer, and stands before
