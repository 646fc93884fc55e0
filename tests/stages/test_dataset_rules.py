"""Tiers and splits by every rule, what they come to, and what is refused."""

from __future__ import annotations

import pytest
from catalogue.scene import Scene
from sqlalchemy import insert

from popq.catalogue import datasets
from popq.catalogue.models import Photo, PhotoMoments
from popq.errors import BadInput
from popq.stages import plan
from popq.stages.dataset import RANK_RULE, Spec, create, describe

HASHES = {"far": "00ff00ff00ff00ff", "also far": "0f0f0f0f0f0f0f0f"}


def put(catalogue, photos):
    """Write stored photos; each is a dict of what matters about it."""
    rows = []
    for number, photo in enumerate(photos, 1):
        flickr = {} if "source_key" in photo else {"flickr_id": 10_000_000 * number}
        rows.append(
            {
                "page_url": "u",
                "owner": f"{number}@N00",
                "label": float(number),
                "state": "stored",
                "image_url": "i",
                "file_key": f"{number}.jpg",
                "sha256": f"{number:064x}",
                "phash": f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}",
            }
            | flickr
            | photo
        )
    with catalogue.begin() as tx:
        for number, row in enumerate(rows):
            photo = tx.execute(insert(Photo).values(row).returning(Photo.id)).scalar_one()
            if row["state"] == "stored":
                sums = dict.fromkeys(("sum_r", "sum_g", "sum_b"), 1000 + number)
                squares = dict.fromkeys(("square_r", "square_g", "square_b"), 90000)
                moments = {"photo_id": photo, "pixels": 100, **sums, **squares}
                tx.execute(insert(PhotoMoments).values(moments))


def members(catalogue, name="d", columns="m.label, m.tier, m.split"):
    query = f"SELECT {columns} FROM members m JOIN datasets d ON d.id = dataset_id"
    query += " JOIN photos p ON p.id = photo_id WHERE d.name = :name ORDER BY p.id"
    return Scene(catalogue).rows(query, name=name)


def test_cuts_are_fitted_on_training_photos_or_on_all(catalogue):
    put(catalogue, [{"label": float(n % 30)} for n in range(300)])
    made = create(catalogue, Spec("d", tiers=5, fit="all"))
    assert made["fit"] == "all"
    assert made["cuts"] == [6, 12, 18, 24]
    assert made["ties"] == [10] * 4
    assert made["photos_by_tier"] == dict.fromkeys(range(1, 6), 60)
    trained = create(catalogue, Spec("t", tiers=5))
    labels = [label for label, _, split in members(catalogue, "t") if split == "train"]
    assert trained["ties"] == [labels.count(cut) for cut in trained["cuts"]]


def test_given_cuts_are_taken_as_they_are(catalogue):
    put(catalogue, [{"label": float(n)} for n in range(40)])
    made = create(catalogue, Spec("d", tiers=3, fit="given", cuts=(10.0, 30.0)))
    assert (made["cuts"], made["fit"]) == ([10, 30], "given")
    assert all(tier == 1 + (label >= 10) + (label >= 30) for label, tier, _ in members(catalogue))


def test_the_seeds_thirds_go_by_rank_and_drop_the_highest_leftovers(catalogue):
    labels = [5.0] * 20 + [6.0] * 10 + [7.0] * 10 + [9.0]
    put(catalogue, [{"label": label} for label in labels])
    made = create(catalogue, Spec("d", fit="rank", split="photo"))
    assert made["count"] == 39
    assert made["photos_by_tier"] == {1: 13, 2: 13, 3: 13}
    assert made["tie_rule"] == RANK_RULE
    found = {(label, tier) for label, tier, _ in members(catalogue)}
    assert found == {(5.0, 1), (5.0, 2), (6.0, 2), (6.0, 3), (7.0, 3)}


def test_copies_by_bytes_or_looks_stay_on_one_side_across_owners(catalogue):
    same = {"sha256": "f" * 64}
    near = [{"phash": "00ff00ff00ff00ff"}, {"phash": "00ff00ff00ff00f0"}]
    put(catalogue, [same, *({} for _ in range(60)), same, *near])
    for split in ("owner", "photo", "time"):
        made = create(catalogue, Spec(split, split=split, val=0.4))
        sides = [side for _, _, side in members(catalogue, split)]
        assert sides[0] == sides[61]
        assert sides[62] == sides[63]
        assert made["crossing"]["duplicates"] == 0
        assert made["near_bits"] == 4


def test_the_seed_tears_copies_and_owners_apart_and_is_told_so(catalogue):
    twins = [{"sha256": f"{n % 30:064x}", "owner": f"{n % 30}@N00"} for n in range(60)]
    put(catalogue, [t | {"flickr_id": 5_000 * (n % 30) + n} for n, t in enumerate(twins)])
    made = create(catalogue, Spec("d", fit="rank", split="photo", val=0.4))
    torn = {}
    for owner, split in members(catalogue, columns="p.owner, m.split"):
        torn.setdefault(owner, set()).add(split)
    crossing = sum(len(sides) > 1 for sides in torn.values())
    assert crossing > 0
    assert made["crossing"] == {
        "owners": crossing,
        "duplicates": crossing,
        "neighbours": crossing,
    }
    assert len(made["warnings"]) == 3
    assert f"{crossing} owners have photos on several sides" in made["warnings"][0]


def test_by_owner_nothing_crosses_and_nothing_is_warned_of(catalogue):
    put(catalogue, [{"owner": f"{n % 12}@N00", "flickr_id": 100 + n} for n in range(60)])
    made = create(catalogue, Spec("d", val=0.4))
    assert made["crossing"] == {"owners": 0, "duplicates": 0, "neighbours": 0}
    assert made["warnings"] == []


def test_owners_whom_copies_chain_together_are_warned_of(catalogue):
    put(catalogue, [{"sha256": "f" * 64} if n < 20 else {} for n in range(60)])
    assert "belong to owners who share pictures" in create(catalogue, Spec("d"))["warnings"][0]


def test_photos_without_a_hash_are_told(catalogue):
    put(catalogue, [{"phash": None if n < 3 else f"{n << 40:016x}"} for n in range(60)])
    assert any(
        "3 photos have no perceptual hash" in w for w in create(catalogue, Spec("d"))["warnings"]
    )


FEW = [{} for _ in range(2)]


@pytest.mark.parametrize(
    ("photos", "spec", "words"),
    [
        ([], Spec("x"), "no photo is stored yet: `popq download`"),
        ([{"state": "resolved"}], Spec("x"), "no photo is stored yet"),
        ([{"label": None}] * 5, Spec("x"), "none of the 5 stored photos has a label"),
        (FEW, Spec("x"), "2 photos are stored and labelled"),
        (FEW, Spec("x", fit="rank", split="photo"), "2 photos are stored and labelled"),
        ([{"owner": "1@N00"}] * 9, Spec("x"), "use `--split photo`"),
        ([{"label": 1.0}] * 50, Spec("x"), "1 distinct values make no 3 tiers"),
        (
            [{"label": 1.0}] * 50,
            Spec("x", fit="rank", split="photo"),
            "50 labels with 1 distinct values make no 3 tiers; ask for fewer tiers or give more",
        ),
        ([{}] * 50, Spec("x", fit="given", cuts=(60.0,), tiers=2), "tier 2 of 2 has no photo"),
        ([{}] * 50, Spec("x", fit="given", cuts=(9.0, 3.0)), "each above the one before"),
        ([{}] * 50, Spec(" "), "needs a name"),
        (
            [{"source_key": f"{n}.jpg"} for n in range(50)],
            Spec("x", split="time"),
            "needs each photo's upload time",
        ),
    ],
)
def test_what_makes_no_data_set_is_refused_in_words_and_leaves_nothing(
    catalogue, photos, spec, words
):
    put(catalogue, photos)
    with pytest.raises(BadInput, match=words):
        create(catalogue, spec)
    with catalogue.read() as tx:
        assert datasets.list_all(tx) == []


def test_a_frozen_set_stays_when_all_around_it_changes(catalogue):
    put(catalogue, [{"owner": f"{n % 12}@N00"} for n in range(60)])
    made = create(catalogue, Spec("d", val=0.4))
    before = members(catalogue)
    scene = Scene(catalogue)
    scene.do("UPDATE photos SET label = 99, phash = NULL, sha256 = 'x' WHERE id < 9")
    put(catalogue, [{"flickr_id": 7 + n} for n in range(3)])
    assert describe(catalogue, "d") == made
    assert members(catalogue) == before
    other = create(catalogue, Spec("e", val=0.4))
    assert other["count"] == 63
    assert describe(catalogue, "d") == made


def test_cuts_by_rank_through_one_label_are_not_for_a_regression(catalogue):
    labels = [1.0] * 4 + [5.0] * 16 + [9.0] * 4
    put(catalogue, [{"label": label} for label in labels])
    assert create(catalogue, Spec("d", fit="rank", split="photo", val=0.4))["cuts"] == [5.0, 5.0]
    small = {"arch": "resnet18", "weights": "none", "image_size": 32}
    with pytest.raises(BadInput, match=r"cut by rank, .*tier 2 has no range.*popq dataset c"):
        plan.create_run(catalogue, "d", "default", objective="regress", **small)
    assert Scene(catalogue).rows("SELECT count(*) FROM runs") == [(0,)]
    # Members of one label that stand in two tiers are what whoever wants the seed's thirds gets.
    assert plan.create_run(catalogue, "d", "default", objective="classify", **small) == 1
