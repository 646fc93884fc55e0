"""What is told of a data set's photos stays what it was frozen with."""

from __future__ import annotations

import csv
import io

import pytest

from popq.catalogue import scores
from popq.catalogue.scores import Scored
from popq.export import photos
from popq.export import scores as score_export

FROZEN, NEW = "a" * 64, "b" * 64


@pytest.fixture
def scored(scene):
    """Two scored photos, one of them in a data set; since then both have other labels and bytes."""
    inside, outside = scene.photos(2, "stored")
    key = f"aa/{FROZEN}.jpg"
    run = scene.run(scene.dataset("d1", [(inside, 1.0, 2, "val", key)]), done=True)
    with scene.catalogue.begin() as tx:
        scores.record(tx, run, [Scored(photo, 0.5, 1, None) for photo in (inside, outside)])
    scene.do(f"UPDATE photos SET label = 16.0, sha256 = '{NEW}', file_key = 'bb/{NEW}.jpg'")
    return scene.catalogue


def test_a_score_stands_beside_the_label_that_its_tier_was_cut_from(scored):
    out = io.StringIO()
    score_export.write(scored, 1, out, "csv")
    rows = csv.DictReader(out.getvalue().splitlines())
    assert [(row["label"], row["tier"]) for row in rows] == [("1.0", "2"), ("16.0", "")]


def test_a_manifest_names_the_bytes_that_the_set_was_frozen_with(scored):
    out = io.StringIO()
    photos.write_manifest(scored, "d1", out, "csv")
    (row,) = csv.DictReader(out.getvalue().splitlines())
    assert (row["label"], row["tier"], row["sha256"]) == ("1.0", "2", FROZEN)
