"""Where a data set's photos come from: the same numbers from each database."""

from __future__ import annotations

from popq.catalogue import provenance


def test_the_bytes_of_a_set_are_a_whole_number_on_each_database(scene):
    ids = scene.photos(3, "stored")
    scene.do("UPDATE photos SET bytes = 3000000000")
    dataset = scene.dataset("d1", [(photo, 1.0, 1, "train", "a.jpg") for photo in ids])
    with scene.catalogue.read() as tx:
        extent = provenance.extent(tx, dataset)
    assert extent.bytes / 1e9 == 9.0
    assert (extent.photos, extent.owners) == (3, 3)
