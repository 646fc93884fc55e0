"""A data set's card: its numbers are SQL's, its head is YAML, and a name stays a name."""

from __future__ import annotations

import pytest
import yaml
from houses import house, quiet, small_world

from popq import api
from popq.catalogue import provenance, purge
from popq.errors import BadInput
from popq.export import card
from popq.flickr.fake.world import Fate
from popq.stages import dataset
from popq.stages.dataset import Spec

NAME = 'the "best" # | of <b>2017'


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    with house(folder, small_world(30, owners=15, fates=[Fate.REMOVED, Fate.PRIVATE])) as home:
        api.import_list(home.rooms, home.list_files(folder))
        for stage in ("resolve", "download"):
            api.work(home.rooms, stage, on_progress=quiet)
        dataset.create(home.rooms.catalogue, Spec(NAME, val=0.3))
        yield home


def test_its_head_is_yaml_with_the_name_as_it_is(home):
    _, head, _ = card.make(home.rooms.catalogue, NAME).split("---\n", 2)
    told = yaml.safe_load(head)
    assert told["pretty_name"] == NAME
    assert told["size_categories"] == ["n<1K"]


def test_its_numbers_are_those_of_sql(home):
    text = card.make(home.rooms.catalogue, NAME)
    stored = home.sql("SELECT count(*), sum(bytes) FROM photos WHERE state = 'stored'")[0]
    assert f"| photos | {stored[0]:,} |" in text
    assert f"| images | {stored[1] / 1e9:,.3f} GB |" in text
    assert "Of 30 photos that were listed:" in text
    for state, reason, count in home.sql(
        "SELECT state, reason, count(*) FROM photos WHERE reason IS NOT NULL GROUP BY 1, 2"
    ):
        assert f"| {state} | {reason} | {count} |" in text
    for split, count in home.sql("SELECT split, count(*) FROM members GROUP BY split"):
        assert f"| {split} | {count} |" in text
    with home.rooms.catalogue.read() as tx:
        assert sum(row.photos for row in provenance.licences(tx, 1)) == stored[0]


def test_a_name_can_make_neither_a_table_nor_a_tag(home):
    text = card.make(home.rooms.catalogue, NAME)
    assert '# the "best" \\# \\| of \\<b\\>2017' in text


def test_it_is_written_whole_and_the_same_each_time(home, tmp_path):
    first, second = tmp_path / "a.md", tmp_path / "b.md"
    for path in (first, second):
        assert card.save(home.rooms.catalogue, NAME, path) == path.stat().st_size
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(BadInput, match="no folder"):
        card.save(home.rooms.catalogue, NAME, tmp_path / "no" / "where.md")
    with pytest.raises(BadInput, match="nowhere"):
        card.make(home.rooms.catalogue, "nowhere")


def test_a_set_whose_photos_are_all_purged_has_none(scene):
    ids = scene.photos(3, "stored")
    scene.dataset("d1", [(photo, 1.0, 1, "train", f"{photo}.jpg") for photo in ids])
    with scene.catalogue.begin() as tx:
        purge.bury(tx, ids, "asked for")
    with pytest.raises(BadInput, match=r"All photos of the data set 'd1' were purged.*create"):
        card.make(scene.catalogue, "d1")
