"""Joining what files say to a list: every row is accounted for, and order does not matter."""

from __future__ import annotations

import json
import random
import shutil

import pytest
from catalogue.scene import Scene
from catalogue.test_imports import file, row
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from popq.catalogue import imports, metadata
from popq.catalogue.db import Catalogue
from popq.catalogue.metadata import Fact
from popq.catalogue.models import PhotoMetadata
from popq.errors import Outcome


def fact(line, pid="1", uid=None, **said):
    return Fact(line, uid, pid, **said)


def join(scene, rows, *, files=False, labels=None, **kinds):
    """Import a list with files about its photos; gives what was merged, each file, and notes."""
    done = {}
    with scene.catalogue.begin() as tx, imports.incoming(tx, files=files) as incoming:
        incoming.stage(rows)
        with metadata.notes(tx, incoming) as notes:
            if labels is not None:
                with notes.facts() as facts:
                    facts.stage(labels)
                    done["labels"] = facts.give_labels()
            incoming.settle()
            for kind, said in kinds.items():
                with notes.facts() as facts:
                    facts.stage(said)
                    done[kind] = facts.give_remarks(kind)
            merged = incoming.merge()
            done["noted"] = notes.write()
    return merged, done


def noted(scene):
    """Return {(flickr_id or source_key, kind): data}."""
    query = select(PhotoMetadata.photo_id, PhotoMetadata.kind, PhotoMetadata.data)
    with scene.catalogue.read() as tx:
        return {(photo, kind): data for photo, kind, data in tx.execute(query)}


def reasons(joined):
    assert joined.read == joined.joined + joined.refused.counts.total()
    return {str(reason): count for reason, count in joined.refused.counts.items()}


def test_columns_and_notes_go_to_the_photo_with_that_pid(scene):
    text = [fact(1, "2", title="Two"), fact(2, "1", title="One", data='{"Mediatype":"photo"}')]
    merged, done = join(scene, [row(1, 1), row(2, 2)], text=text)
    assert (merged.new, done["text"].joined, done["noted"]) == (2, 2, 1)
    assert scene.rows("SELECT title FROM photos ORDER BY id") == [("One",), ("Two",)]
    assert noted(scene) == {(1, "text"): {"Mediatype": "photo"}}


def test_again_changes_nothing_and_another_word_is_an_update(scene):
    rows, said = [row(1, 1)], [fact(1, title="One", data='{"a":1}')]
    join(scene, rows, text=said)
    before = scene.everything()
    merged, done = join(scene, rows, text=said)
    assert (merged.unchanged, done["noted"]) == (1, 0)
    assert scene.everything() == before
    merged, done = join(scene, rows, text=[fact(1, title="Uno", data='{"a":2}')])
    assert (merged.updated, done["noted"]) == (1, 1)
    assert noted(scene) == {(1, "text"): {"a": 2}}


def test_a_row_about_nobody_is_refused_and_named(scene):
    _, done = join(scene, [row(1, 1)], text=[fact(1, title="t"), fact(2, "99"), fact(3, "98")])
    assert reasons(done["text"]) == {Outcome.NOT_JOINED: 2}
    assert [line for line, _, _ in done["text"].refused.first] == [2, 3]


@pytest.mark.parametrize(
    ("owner", "uid", "joins"),
    [
        ("1@N00", "1@N00", True),
        ("1@N00", "2@N00", False),
        ("1@N00", None, True),
        (None, "2@N00", True),
        ("an-alias", "2@N00", True),  # a path alias says nothing of the uid
    ],
)
def test_uids_must_agree_where_both_are_known(scene, owner, uid, joins):
    _, done = join(scene, [row(1, 1, owner=owner)], text=[fact(1, uid=uid, title="t")])
    assert done["text"].joined == joins


def test_files_of_a_folder_join_by_their_folder_and_name(scene):
    rows = [file(1, "train/1@N00/7.jpg"), file(2, "train/2@N00/7.jpg")]
    said = [fact(1, "7", "2@N00", title="second"), fact(2, "7", "1@N00", title="first")]
    join(scene, rows, files=True, text=said)
    assert scene.rows("SELECT title FROM photos ORDER BY id") == [("first",), ("second",)]


def test_rows_that_contradict_each_other_are_all_refused_and_equal_ones_are_one(scene):
    said = [
        fact(1, "1", title="a"),
        fact(2, "1", title="b"),
        fact(3, "2", title="c", data='{"x":1}'),
        fact(4, "2", title="c", data='{"x":1}'),
    ]
    _, done = join(scene, [row(1, 1), row(2, 2)], text=said)
    assert reasons(done["text"]) == {Outcome.CONFLICTING_METADATA: 2}
    assert scene.rows("SELECT title FROM photos ORDER BY id") == [(None,), ("c",)]
    assert noted(scene) == {(2, "text"): {"x": 1}}


def test_a_row_without_uid_may_repeat_what_another_says_with_it(scene):
    rows = [file(1, "train/1@N1/775.jpg"), file(2, "train/2@N1/775.jpg")]
    said = [fact(1, "775", "1@N1", data='{"x":1}'), fact(2, "775", None, data='{"x":1}')]
    _, done = join(scene, rows, files=True, text=said)
    assert done["text"].read == done["text"].joined + done["text"].refused.counts.total()
    assert noted(scene) == {(2, "text"): {"x": 1}}


def test_labels_of_another_table_are_joined_before_the_list_is_settled(scene):
    rows = [row(1, 1, None), row(2, 2, None), row(3, 3, None)]
    labels = [fact(1, "2", label=2.0), fact(2, "1", label=1.0), fact(3, "9", label=9.0)]
    merged, done = join(scene, rows, labels=labels)
    assert scene.rows("SELECT label FROM photos ORDER BY id") == [(1.0,), (2.0,), (None,)]
    assert merged.unlabelled == 1
    assert reasons(done["labels"]) == {Outcome.NOT_JOINED: 1}


def test_two_labels_for_one_pid_are_refused(scene):
    labels = [fact(1, "1", label=1.0), fact(2, "1", label=2.0), fact(3, "2", label=3.0)]
    _, done = join(scene, [row(1, 1, None), row(2, 2, None)], labels=labels)
    assert reasons(done["labels"]) == {Outcome.CONFLICTING_LABEL: 2}
    assert scene.rows("SELECT label FROM photos ORDER BY id") == [(None,), (3.0,)]


def test_several_files_are_kept_apart(scene):
    merged, done = join(
        scene,
        [row(1, 1)],
        category=[fact(1, data='{"Category":"Animal"}')],
        text=[fact(1, title="t")],
        user=[fact(1, data='{"ispro":1}')],
    )
    assert (merged.new, done["noted"]) == (1, 2)
    assert noted(scene) == {(1, "category"): {"Category": "Animal"}, (1, "user"): {"ispro": 1}}


one_fact = st.builds(
    fact,
    line=st.just(0),
    pid=st.sampled_from(["1", "2", "3", "9"]),
    uid=st.sampled_from([None, "1@N00", "2@N00"]),
    title=st.sampled_from([None, "a", "b"]),
    views=st.sampled_from([None, 1]),
    data=st.sampled_from([None, json.dumps({"x": 1}), json.dumps({"x": 2})]),
)


@pytest.fixture(scope="module")
def databases(empty_sqlite, migrated_postgres, tmp_path_factory):
    path = tmp_path_factory.mktemp("metadata") / "popq.db"
    opened = [
        Catalogue(f"sqlite:///{shutil.copy(empty_sqlite, path)}"),
        Catalogue(migrated_postgres),
    ]
    yield [Scene(catalogue) for catalogue in opened]
    for catalogue in opened:
        catalogue.close()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    owners=st.lists(st.sampled_from([None, "1@N00", "2@N00"]), min_size=3, max_size=3),
    said=st.lists(one_fact, max_size=8),
    seed=st.integers(0, 1000),
)
def test_order_and_database_do_not_matter(databases, owners, said, seed):
    rows = [row(n, n, owner=owner) for n, owner in enumerate(owners, 1)]
    shuffled = list(said)
    random.Random(seed).shuffle(shuffled)
    outcomes = []
    for scene in databases:
        for order in (said, shuffled):
            scene.do("DELETE FROM metadata")
            scene.do("DELETE FROM photos")
            numbered = [f._replace(line=n) for n, f in enumerate(order, 1)]
            _, done = join(scene, rows, text=numbered)
            found = scene.rows(
                "SELECT flickr_id, owner, title, views FROM photos ORDER BY flickr_id"
            )
            data = sorted(repr(value) for value in noted(scene).values())
            outcomes.append((reasons(done["text"]), found, data))
            merged, again = join(scene, rows, text=numbered)
            assert (merged.new, merged.updated, again["noted"]) == (0, 0, 0)
    assert all(outcome == outcomes[0] for outcome in outcomes)
