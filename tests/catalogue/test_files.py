from __future__ import annotations

from popq.catalogue import files


def test_keys_are_named_by_photos_and_by_members_of_data_sets(scene):
    first, second = scene.photos(2)
    scene.dataset(members=[(second, 0.5, 1, "train", "bb/member.jpg")])
    with scene.catalogue.begin() as tx:
        tx.exec_driver_sql(f"UPDATE photos SET file_key = 'aa/photo.jpg' WHERE id = {first}")
        asked = ["aa/photo.jpg", "bb/member.jpg", "cc/nobody.jpg"]
        assert files.named(tx, asked) == set(asked[:2])
        assert files.named(tx, []) == set()
