"""Merging a list: every row is accounted for, in any order, as often as one likes."""

from __future__ import annotations

import datetime as dt
import random
import shutil
import tracemalloc

import pytest
from catalogue.scene import Scene, at_once
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from popq.catalogue import imports, purge
from popq.catalogue.db import Catalogue
from popq.catalogue.imports import IncomingPhoto
from popq.catalogue.models import Photo
from popq.errors import Outcome

COLUMNS = "flickr_id, page_url, owner, label, state, server, secret, image_url, title, posted_at"


def row(line, photo=1, label=1.0, *, owner=None, secret=None, **remarks):
    server = None if secret is None else "65535"
    url = None if secret is None else f"https://live.staticflickr.com/65535/{photo}_{secret}.jpg"
    page = f"https://www.flickr.com/photos/{owner or 'anyone'}/{photo}"
    uid = owner if owner and "@" in owner else None
    return IncomingPhoto(
        line, photo, None, page, owner, label, server, secret, url, uid, str(photo), **remarks
    )


def file(line, key="train/1@N00/7.jpg", label=1.0, *, place="/photos"):
    uid, pid = key.removesuffix(".jpg").split("/")[-2:]
    url = f"file://{place}/{key}"
    return IncomingPhoto(line, None, key, key, uid, label, None, None, url, uid, pid)


def merged(scene, rows, chunk=3, *, files=False):
    with scene.catalogue.begin() as tx, imports.incoming(tx, files=files) as incoming:
        for at in range(0, len(rows), chunk):
            incoming.stage(rows[at : at + chunk])
        incoming.settle()
        return incoming.merge()


def merge(scene, rows, chunk=3, *, files=False):
    done = merged(scene, rows, chunk, files=files)
    counts = (done.new, done.updated, done.unchanged, done.refused.counts.total())
    assert sum(counts) == len(rows)
    assert all(type(count) is int for count in counts)
    return counts


def photos(scene):
    return sorted(scene.rows(f"SELECT {COLUMNS} FROM photos"), key=repr)


def test_new_photos_get_ids_in_the_order_of_their_lines(scene):
    assert merge(scene, [row(n, photo=100 - n) for n in range(1, 8)]) == (7, 0, 0, 0)
    assert [p for (p,) in scene.rows("SELECT flickr_id FROM photos ORDER BY id")] == list(
        range(99, 92, -1)
    )


def test_an_empty_list_and_an_empty_chunk_change_nothing(scene):
    assert merge(scene, []) == (0, 0, 0, 0)
    with scene.catalogue.begin() as tx, imports.incoming(tx) as incoming:
        for rows in ([], [row(1)], []):
            incoming.stage(rows)
        incoming.settle()
        assert incoming.merge().new == 1


def test_importing_again_changes_nothing(scene):
    rows = [row(1, 1), row(2, 2, None), row(3, 3, secret="s"), row(4, 3, secret="s")]
    assert merge(scene, rows) == (3, 0, 1, 0)
    before = scene.everything()
    assert merge(scene, rows) == (0, 0, 4, 0)
    assert scene.everything() == before


def test_a_photo_under_several_shapes_of_url_is_one_photo(scene):
    rows = [row(1, 5), row(2, 5, owner="1@N00"), row(3, 5, secret="s"), row(4, 5)]
    assert merge(scene, rows) == (1, 0, 3, 0)
    assert scene.rows("SELECT state, label FROM photos") == [("resolved", 1.0)]


def test_what_several_rows_say_of_one_photo_is_all_kept(scene):
    page = row(1, 5, owner="1@N00", title="t")
    image, labelled = row(2, 5, None, secret="s"), row(3, 5, 2.0, views=7)
    for order in ([page, image, labelled], [labelled, image, page]):
        scene.do("DELETE FROM photos")
        lines = [r._replace(line=n, label=2.0) for n, r in enumerate(order, 1)]
        assert merge(scene, [*lines[:1], lines[1]._replace(label=None), lines[2]]) == (1, 0, 2, 0)
        assert scene.rows("SELECT owner, label, state, secret, title, views FROM photos") == [
            ("1@N00", 2.0, "resolved", "s", "t", 7)
        ]


def test_conflicting_labels_are_refused_on_every_line_and_change_no_known_photo(scene):
    merge(scene, [row(1, 7, 1.0)])
    rows = [row(1, 7, 2.0), row(2, 8, 1.0), row(3, 8, 1.5), row(4, 8), row(5, 7, 3.0), row(6, 9)]
    refused = merged(scene, rows).refused
    assert [(line, why) for line, why, _ in refused.first] == [
        (line, Outcome.CONFLICTING_LABEL) for line in (1, 2, 3, 4, 5)
    ]
    assert "labels 1 and 1.5" in {line: text for line, _, text in refused.first}[2]
    assert scene.rows("SELECT flickr_id, label FROM photos ORDER BY id") == [(7, 1.0), (9, 1.0)]


def test_what_was_purged_is_refused_on_every_line(scene):
    scene.do("INSERT INTO tombstones (flickr_id, reason) VALUES (7, 'asked')")
    scene.do("INSERT INTO tombstones (source_key, reason) VALUES ('train/7.jpg', 'asked')")
    assert merge(scene, [row(1, 7, 1.0), row(2, 7, 2.0), row(3, 8)]) == (1, 0, 0, 2)
    assert scene.rows("SELECT flickr_id FROM photos") == [(8,)]


def test_a_static_url_resolves_a_listed_photo_and_only_that(scene):
    merge(scene, [row(1, 1), row(2, 2)])
    scene.do("UPDATE photos SET state = 'gone', reason = 'private' WHERE flickr_id = 2")
    assert merge(scene, [row(1, 1, secret="s"), row(2, 2, secret="s")]) == (0, 1, 1, 0)
    found = scene.rows("SELECT state, server, secret, resolved_at IS NULL FROM photos ORDER BY id")
    assert found == [("resolved", "65535", "s", False), ("gone", None, None, True)]


def test_a_label_is_updated_and_never_erased(scene):
    merge(scene, [row(1, 1, 1.0), row(2, 2, None)])
    assert merge(scene, [row(1, 1, None), row(2, 2, 5.0)]) == (0, 1, 1, 0)
    assert merge(scene, [row(1, 1, 4.0), row(2, 2, 5.0)]) == (0, 1, 1, 0)
    assert scene.rows("SELECT label FROM photos ORDER BY id") == [(4.0,), (5.0,)]


def test_a_list_of_other_labels_takes_no_memory_a_photo(scene):
    rows = [row(n, n) for n in range(1, 10_001)]
    merge(scene, rows, chunk=len(rows))
    with scene.catalogue.begin() as tx, imports.incoming(tx) as incoming:
        incoming.stage([one._replace(label=2.0) for one in rows])
        incoming.settle()
        tracemalloc.start()
        done = incoming.merge()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert done.updated == len(rows)
    assert peak < 50 * len(rows)  # bytes: an id and its row take more


def test_an_owner_is_learnt_and_never_changed(scene):
    merge(scene, [row(1, 1)])
    assert merge(scene, [row(1, 1, owner="1@N00")]) == (0, 1, 0, 0)
    assert merge(scene, [row(1, 1, owner="2@N00")]) == (0, 0, 1, 0)
    assert scene.rows("SELECT owner FROM photos") == [("1@N00",)]


def test_text_of_any_kind_survives_as_it_is(scene):
    url = "https://www.flickr.com/photos/café\t\\N\n%s?'\"/1"
    merge(scene, [row(1)._replace(page_url=url)])
    assert scene.rows("SELECT page_url, owner FROM photos") == [(url, None)]


def test_files_of_a_folder_are_known_by_their_path_and_never_by_a_flickr_id(scene):
    merge(scene, [row(1, 7)])
    assert merge(scene, [file(1), file(2, "test/1@N00/7.jpg")], files=True) == (2, 0, 0, 0)
    assert merge(scene, [file(1), file(2, "test/1@N00/7.jpg", 3.0)], files=True) == (0, 1, 1, 0)
    assert scene.rows("SELECT flickr_id, source_key, state, label FROM photos ORDER BY id") == [
        (7, None, "listed", 1.0),
        (None, "train/1@N00/7.jpg", "resolved", 1.0),
        (None, "test/1@N00/7.jpg", "resolved", 3.0),
    ]


def test_a_file_that_lies_elsewhere_now_is_looked_for_there_until_it_is_stored(scene):
    merge(scene, [file(1)], files=True)
    assert merge(scene, [file(1, place="/moved")], files=True) == (0, 1, 0, 0)
    assert scene.rows("SELECT image_url FROM photos") == [("file:///moved/train/1@N00/7.jpg",)]
    scene.do("UPDATE photos SET state = 'stored', file_key = 'k', sha256 = 's'")
    assert merge(scene, [file(1, place="/again")], files=True) == (0, 0, 1, 0)


def test_purged_files_stay_out(scene):
    scene.do("INSERT INTO tombstones (source_key, reason) VALUES ('train/1@N00/7.jpg', 'asked')")
    assert merge(scene, [file(1), file(2, "train/1@N00/8.jpg")], files=True) == (1, 0, 0, 1)


@pytest.mark.parametrize("files", [False, True])
def test_what_is_purged_while_a_list_comes_in_stays_out_and_is_counted(postgres, files):
    """SQLite lets nobody purge meanwhile."""
    scene = Scene(postgres)
    make = file if files else row
    keys = [f"train/1@N00/{n}.jpg" for n in range(4)] if files else [7, 8, 9, 10]
    merge(scene, [make(n, key) for n, key in enumerate(keys[:3], 1)], files=files)
    rows = [make(n, key, 2.0) for n, key in enumerate(keys, 1)]
    rows += [make(5, keys[1], 2.0), make(6, keys[2], 2.0)]
    with postgres.begin() as tx, imports.incoming(tx, files=files) as incoming:
        incoming.stage(rows)
        incoming.settle()
        with postgres.begin() as other:
            purge.bury(other, [2, 3], "asked")
        done = incoming.merge()
    assert (done.new, done.updated, done.unchanged) == (1, 1, 2)  # two are repeats
    assert done.refused.counts == {Outcome.PURGED: 2}
    assert [(line, words) for line, _, words in done.refused.first] == [
        (line, f"{rows[line - 1].page_url} was purged from this catalogue") for line in (2, 3)
    ]
    kept = scene.rows("SELECT coalesce(source_key, CAST(flickr_id AS text)) FROM photos ORDER BY 1")
    assert sorted(key for (key,) in kept) == sorted(map(str, (keys[0], keys[3])))
    assert merge(scene, rows, files=files) == (0, 0, 2, 4)


SAID = {"title": "A", "tags": "b c", "views": 3, "posted_at": 1490376472, "licence": 4}


def test_remarks_of_a_list_come_in_with_new_photos_and_again_change_nothing(scene):
    rows = [row(1, 1, **SAID, taken_at="2017-02-17 00:00:00"), row(2, 2)]
    assert merge(scene, rows) == (2, 0, 0, 0)
    assert scene.rows("SELECT title, tags, views, licence, taken_at FROM photos ORDER BY id") == [
        ("A", "b c", 3, 4, "2017-02-17 00:00:00"),
        (None,) * 5,
    ]
    with scene.catalogue.read() as tx:
        assert tx.execute(select(Photo.posted_at)).first() == (
            dt.datetime(2017, 3, 24, 17, 27, 52, tzinfo=dt.UTC),
        )
    assert merge(scene, rows) == (0, 0, 2, 0)


def test_a_remark_is_corrected_until_flickr_was_asked_and_only_filled_in_afterwards(scene):
    merge(scene, [row(1, 1, title="old", views=1), row(2, 2, title="Flickr's")])
    scene.do("UPDATE photos SET state = 'resolved', image_url = 'u' WHERE flickr_id = 2")
    again = [row(1, 1, title="new"), row(2, 2, title="new", views=9)]
    assert merge(scene, again) == (0, 2, 0, 0)
    assert scene.rows("SELECT title, views FROM photos ORDER BY id") == [
        ("new", 1),
        ("Flickr's", 9),
    ]
    assert merge(scene, again) == (0, 0, 2, 0)


def test_imports_at_the_same_moment_make_each_photo_once(scene):
    rows = [row(n, photo=n) for n in range(1, 200)]
    counts = at_once(*[lambda: merge(scene, rows, chunk=50)] * 3)
    assert sorted(counts) == [(0, 0, 199, 0), (0, 0, 199, 0), (199, 0, 0, 0)]


@pytest.fixture(scope="module")
def one_file(empty_sqlite, tmp_path_factory):
    path = tmp_path_factory.mktemp("imports") / "popq.db"
    catalogue = Catalogue(f"sqlite:///{shutil.copy(empty_sqlite, path)}")
    yield Scene(catalogue)
    catalogue.close()


rows_of_lists = st.lists(
    st.builds(
        row,
        line=st.just(0),
        photo=st.integers(1, 4),
        label=st.sampled_from([None, 1.0, 1.0, 2.0]),
        owner=st.sampled_from([None, "1@N00", "2@N00"]),
        secret=st.sampled_from([None, "a", "b"]),
        title=st.sampled_from([None, "t", "u"]),
        posted_at=st.sampled_from([None, 1490376472, 5]),
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(known=rows_of_lists, rows=rows_of_lists, seed=st.integers(0, 1000))
def test_the_order_of_the_rows_does_not_matter(one_file, known, rows, seed):
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    outcomes = []
    for listed in (rows, shuffled):
        one_file.do("DELETE FROM photos")
        merge(one_file, [r._replace(line=n) for n, r in enumerate(known, 1)])
        counts = merge(one_file, [r._replace(line=n) for n, r in enumerate(listed, 1)])
        outcomes.append((counts, photos(one_file)))
        again = merge(one_file, [r._replace(line=n) for n, r in enumerate(listed, 1)])
        assert again[:2] == (0, 0)
        assert photos(one_file) == outcomes[-1][1]
    assert outcomes[0] == outcomes[1]
