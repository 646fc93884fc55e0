"""The CSV of failed tries: longer than is read at a time, and whatever stands in its cells."""

from __future__ import annotations

import csv
import io

from popq.catalogue.batches import Failed
from popq.errors import Outcome
from popq.export import failures

ODD = ["=1+2", '"quoted", with a comma', "two\nlines", "Ünïcode 🌍", "-", "\t@SUM(A1)"]


def test_cells_come_back_as_they_went_in_however_many_there_are(scene):
    photos = scene.photos(len(ODD))
    job = scene.enqueue(size=100).job
    lease = scene.claim(job)
    said = zip(photos, ODD, strict=True)
    notes = [Failed(photo, Outcome.TRANSIENT, text) for photo, text in said]
    many = 5_000 // len(ODD) + 1
    for _ in range(2):
        scene.settle(lease, failures=notes * many)
    out = io.StringIO()
    assert failures.write(scene.catalogue, out) == 2 * many * len(ODD)
    rows = list(csv.DictReader(io.StringIO(out.getvalue(), newline="")))
    assert [row["message"] for row in rows] == ODD * many * 2
    assert {row["stage"] for row in rows} == {"resolve"}


def test_a_file_is_replaced_whole(scene, tmp_path):
    target = tmp_path / "failures.csv"
    target.write_text("old")
    assert failures.save(scene.catalogue, target) == 0
    assert target.read_text().startswith("photo_id,")
    assert [path.name for path in tmp_path.glob("*.csv")] == ["failures.csv"]
    assert not list(tmp_path.glob(".*.popq"))
