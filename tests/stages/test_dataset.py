from __future__ import annotations

from decimal import Context
from fractions import Fraction

import numpy as np
import pytest
from catalogue.scene import Scene
from houses import house, quiet, small_world
from servers import postgres_url
from sqlalchemy import Engine, event

from popq import api
from popq.catalogue import datasets, migrate
from popq.catalogue.db import Catalogue
from popq.errors import BadInput
from popq.stages.dataset import Spec, create, describe


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A house with 60 stored photos of 12 owners; tests only add data sets to it."""
    folder = tmp_path_factory.mktemp("house")
    with house(folder, small_world(60, owners=12)) as home:
        api.import_list(home.rooms, home.list_files(folder))
        for stage in ("resolve", "download"):
            api.work(home.rooms, stage, on_progress=quiet)
        yield home


def test_a_data_set_says_what_it_is(stored):
    made = create(stored.rooms.catalogue, Spec("thirds"))
    assert made["count"] == 60
    assert made["tiers"] == 3
    assert len(made["cuts"]) == 2
    assert sum(made["splits"].values()) == 60
    assert made["splits"]["test"] == 0
    assert sum(made["photos_by_tier"].values()) == 60
    assert made["warnings"] == []
    assert describe(stored.rooms.catalogue, "thirds") == made


def root(value):
    """Return the float nearest to a fraction's root."""
    many = Context(prec=60)
    return float(many.sqrt(many.divide(*map(many.create_decimal, value.as_integer_ratio()))))


def test_mean_and_std_are_the_floats_nearest_to_the_training_pixels_own(tmp_path):
    catalogue = Catalogue(f"sqlite:///{tmp_path}/popq.db")
    migrate.upgrade(catalogue)
    scene = Scene(catalogue)
    rng = np.random.default_rng(4)
    pixels = {}
    for photo in scene.photos(400, "stored"):
        values = rng.integers(0, 256, (int(rng.integers(1, 60)), 3))
        pixels[photo] = values
        sums, squares = values.sum(axis=0).tolist(), (values**2).sum(axis=0).tolist()
        for name, value in zip("rgb", zip(sums, squares, strict=True), strict=True):
            change = f"pixels = {len(values)}, sum_{name} = {value[0]}, square_{name} = {value[1]}"
            scene.do(f"UPDATE moments SET {change} WHERE photo_id = {photo}")
    made = create(catalogue, Spec("exact", split="photo"))
    trained = scene.rows("SELECT photo_id FROM members WHERE split = 'train'")
    catalogue.close()
    seen = np.concatenate([pixels[photo] for (photo,) in trained])
    for channel, values in enumerate(seen.T.tolist()):
        mean = Fraction(sum(values), 255 * len(values))
        variance = Fraction(sum(v * v for v in values), 255**2 * len(values)) - mean**2
        assert made["mean"][channel] == float(mean)
        assert made["std"][channel] == root(variance)


def test_what_others_commit_meanwhile_is_not_frozen():
    with postgres_url() as url:
        catalogue = Catalogue(url)
        migrate.upgrade(catalogue)
        scene = Scene(catalogue)
        ids = scene.photos(60, "stored")
        meddled = []

        @event.listens_for(Engine, "before_cursor_execute")
        def meddle(connection, cursor, statement, *rest):
            """Change every label once the candidates are read, before the members are written."""
            if statement.startswith("INSERT INTO datasets") and not meddled:
                meddled.append(scene.do("UPDATE photos SET label = 99, file_key = 'new.jpg'"))

        try:
            made = create(catalogue, Spec("still", split="photo", val=0.4))
        finally:
            event.remove(Engine, "before_cursor_execute", meddle)
        members = scene.rows("SELECT photo_id, label, tier, file_key FROM members ORDER BY 1")
        catalogue.close()
    assert meddled == [60]
    assert [row[:2] for row in members] == [(photo, n) for n, photo in enumerate(ids)]
    for _, label, tier, key in members:
        assert tier == 1 + sum(label >= cut for cut in made["cuts"])
        assert key == f"{label:.0f}.jpg"


def test_no_owner_is_on_two_sides(stored):
    create(stored.rooms.catalogue, Spec("owners", val=0.4))
    query = (
        "SELECT count(*) FROM (SELECT owner FROM photos JOIN members ON photo_id = photos.id"
        " JOIN datasets ON datasets.id = dataset_id WHERE name = 'owners'"
        " GROUP BY owner HAVING count(DISTINCT split) > 1) AS torn"
    )
    assert stored.sql(query) == [(0,)]


def test_cuts_are_fitted_on_the_training_split_and_equal_labels_share_a_tier(stored):
    made = create(stored.rooms.catalogue, Spec("cuts", tiers=4, split="photo"))
    rows = stored.sql(
        "SELECT m.label, tier, split FROM members m JOIN datasets d ON d.id = dataset_id"
        " WHERE name = 'cuts'"
    )
    for label, tier, _ in rows:
        assert tier == 1 + sum(label >= cut for cut in made["cuts"])
    training = {label for label, _, split in rows if split == "train"}
    assert set(made["cuts"]) <= training
    assert "split by photo" in made["warnings"][0]


def test_a_name_is_taken_for_good(stored):
    create(stored.rooms.catalogue, Spec("once"))
    with pytest.raises(BadInput, match="already, and data sets are frozen"):
        create(stored.rooms.catalogue, Spec("once", tiers=2))


def test_the_same_wish_gives_the_same_set_and_another_seed_another(stored):
    catalogue = stored.rooms.catalogue
    first = create(catalogue, Spec("a", split="photo", seed=1))
    same = create(catalogue, Spec("b", split="photo", seed=1))
    other = create(catalogue, Spec("c", split="photo", seed=2))
    assert first["fingerprint"] == same["fingerprint"] != other["fingerprint"]


def test_time_puts_the_newest_photos_into_validation(stored):
    create(stored.rooms.catalogue, Spec("time", split="time", val=0.25))
    latest, earliest = (
        stored.sql(
            f"SELECT {extreme}(p.posted_at) FROM photos p JOIN members m ON m.photo_id = p.id"
            f" JOIN datasets d ON d.id = m.dataset_id WHERE name = 'time' AND split = '{split}'"
        )[0][0]
        for extreme, split in (("max", "train"), ("min", "val"))
    )
    assert latest <= earliest


def test_more_photos_do_not_change_a_frozen_set(tmp_path):
    with house(tmp_path, small_world(40)) as home:
        source = home.list_files(tmp_path)
        api.import_list(home.rooms, source)
        api.work(home.rooms, "resolve", limit=30, on_progress=quiet)
        api.work(home.rooms, "download", on_progress=quiet)
        made = create(home.rooms.catalogue, Spec("frozen", split="photo"))
        for stage in ("resolve", "download"):
            api.work(home.rooms, stage, on_progress=quiet)
        assert describe(home.rooms.catalogue, "frozen") == made
        assert made["count"] == 30
        # `photo_status` shows the tier where there is one, and the others without.
        tiers = home.sql("SELECT count(*), count(tier) FROM photo_status")
        assert tiers == [(40, 30)]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (Spec("x", tiers=61), "61 tiers"),
        (Spec("x", val=1.5), "val 1.5"),
        (Spec("x", val=0.0), "val 0.0"),
        (Spec("x", val=0.5, test=0.5), "test 0.5"),
        (Spec("x", cuts=(3.0, 6.0)), "2 cuts for 3 tiers with fit 'train'"),
        (Spec("x", tiers=2, fit="given", cuts=(3.0, 6.0)), "2 cuts for 2 tiers"),
        (Spec("x", fit="given"), "0 cuts for 3 tiers"),
    ],
)
def test_what_cannot_be_cut_is_refused_in_words(stored, spec, words):
    with pytest.raises(BadInput, match=words):
        create(stored.rooms.catalogue, spec)
    with stored.rooms.catalogue.read() as tx:
        assert datasets.find(tx, "x") is None


def test_without_stored_photos_the_error_says_where_to_look(tmp_path):
    with house(tmp_path, small_world(3)) as home, pytest.raises(BadInput, match="popq status"):
        create(home.rooms.catalogue, Spec("none"))


def test_an_unknown_data_set_is_named(stored):
    with pytest.raises(BadInput, match="no data set 'nowhere'"):
        describe(stored.rooms.catalogue, "nowhere")


def test_unknown_owners_are_warned_of(tmp_path):
    with house(tmp_path, small_world(20)) as home:
        urls = [
            f"{home.flickr.image_url}/65535/{photo.flickr_id}_{photo.secret}_z.jpg".replace(
                home.flickr.image_url, "https://live.staticflickr.com"
            )
            for photo in home.flickr.world.photos.values()
        ]
        source = home.list_files(tmp_path)
        source.links.write_text("\n".join(urls))
        api.import_list(home.rooms, source)
        assert api.work(home.rooms, "resolve", on_progress=quiet) is None
        assert api.work(home.rooms, "download", on_progress=quiet).moved == 20
        made = create(home.rooms.catalogue, Spec("strangers"))
        assert "the owners of 20 of 20 photos are unknown" in made["warnings"][0]
        assert home.flickr.counters()["api_calls_per_photo"] == {}
        # A later list knows the owners: the set stays what it was.
        api.import_list(home.rooms, home.list_files(tmp_path))
        assert home.sql("SELECT count(owner) FROM photos") == [(20,)]
        assert describe(home.rooms.catalogue, "strangers") == made
