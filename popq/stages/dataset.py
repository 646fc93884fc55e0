"""Dataset: cut stored photos into tiers, split them, and freeze the result under a name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import compress, islice
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from popq.catalogue import datasets
from popq.catalogue.datasets import Candidates
from popq.catalogue.db import Catalogue
from popq.errors import BadInput
from popq.stats import duplicates, splits, tiers
from popq.stats.moments import Moments, mean_std

#: Where the cuts come from: the training split's labels, all labels, the user, or ranks.
Fit = Literal["train", "all", "given", "rank"]
#: How equal scores fare: stored with each data set.
TIE_RULE: Final = "label >= cut is the upper tier; equal labels share a tier"
RANK_RULE: Final = (
    "tiers of equal size by rank, so equal labels may stand in two of them; of equal labels the"
    " photo imported first is the lower, and what is left over is dropped from the top"
)
#: Flickr ids so near that photos of one owner were uploaded in one go.
NEAR_IDS: Final = 1000
#: Owners whom copies link are warned of when they have so large a share of the photos.
_LARGE: Final = 0.1

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Spec:
    """What a data set is asked to be; `val` and `test` are shares of the whole.

    `cuts`, when given, are the scores from which the next tier begins, and `tiers` is one more
    than there are of them.
    """

    name: str
    tiers: int = 3
    split: splits.Rule = "owner"
    val: float = 0.2
    test: float = 0.0
    seed: int = 0
    fit: Fit = "train"
    cuts: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class _Photos:
    """The candidates by column; `ids` are Flickr's or else negative, `copies` number pictures."""

    known: Candidates
    ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.float64]
    copies: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.known.id)


def check(spec: Spec) -> None:
    """Raise `BadInput` for a spec of which no photos whatever could make a data set."""
    if not spec.name.strip():
        raise BadInput("A data set needs a name, to be trained on and found again.")
    if len(spec.cuts) != (spec.tiers - 1 if spec.fit == "given" else 0):
        message = f"{len(spec.cuts)} cuts for {spec.tiers} tiers with fit {spec.fit!r}"
        raise BadInput(f"{message}: fit 'given' takes one cut fewer than tiers, others take none.")
    if spec.cuts:
        tiers.checked_cuts(spec.cuts)
    splits.check_shares(spec.val, spec.test)


def create(catalogue: Catalogue, spec: Spec) -> dict[str, Any]:
    """Freeze every stored, labelled photo into a data set and describe it; see `describe`.

    Cuts are fitted on the training split unless the spec says otherwise, mean and standard
    deviation come from its exact moments by SQL. One transaction: there is a whole data set or
    none. Raises `BadInput` for a name that is taken or empty, for too few photos or distinct
    labels, for cuts that leave a tier without training photos, and for a split that comes out
    empty.
    """
    check(spec)
    with catalogue.begin() as tx:
        datasets.hold_still(tx)
        if datasets.find(tx, spec.name) is not None:
            message = f"There is a data set {spec.name!r} already, and data sets are frozen"
            raise BadInput(f"{message}; choose another name.")
        photos = _candidates(datasets.candidates(tx), spec)
        if len(photos) < spec.tiers:
            raise _too_few(len(photos), datasets.readiness(tx), spec.tiers)
        values, members = _freeze(spec, photos)
        dataset = datasets.create(tx, values, members)
        pixels, *sums = datasets.training_sums(tx, dataset)
        red, green, blue, *squares = sums
        mean, std = mean_std(
            Moments(pixels, (red, green, blue), (squares[0], squares[1], squares[2]))
        )
        datasets.set_channels(tx, dataset, mean, std)
    return describe(catalogue, spec.name)


def _too_few(learnable: int, ready: tuple[int, int], wanted: int) -> BadInput:
    stored, labelled = ready
    if stored == 0:
        why = "no photo is stored yet: `popq download` fetches them, `popq status` shows where"
        why += " they are"
    elif labelled == 0:
        why = f"none of the {stored} stored photos has a label: import the list with its scores"
    else:
        why = f"{learnable} photos are stored and labelled; `popq status` shows where the others"
        why += " are"
    return BadInput(f"{wanted} tiers need at least as many photos, and {why}.")


def _candidates(known: Candidates, spec: Spec) -> _Photos:
    if spec.fit == "rank" and len(known.id) >= spec.tiers:
        # What is left over after ranks of equal size is in no tier, and so not in the set.
        kept = (tiers.by_rank(np.array(known.label), spec.tiers) > 0).tolist()
        columns = [list(compress(getattr(known, column.name), kept)) for column in fields(known)]
        known = Candidates(*columns)
    # Photos from elsewhere have no Flickr id: their catalogue ids, negative, cannot collide.
    ids = [number or -place for number, place in zip(known.flickr_id, known.id, strict=True)]
    return _Photos(
        known=known,
        ids=np.array(ids, dtype=np.int64),
        labels=np.array(known.label, dtype=np.float64),
        copies=duplicates.groups(known.sha256, known.phash),
    )


def _freeze(spec: Spec, photos: _Photos) -> tuple[dict[str, Any], Iterator[tuple[Any, ...]]]:
    salt = f"popq:{spec.seed}"
    apart = np.arange(len(photos))
    split = splits.assign(
        spec.split,
        ids=photos.ids,
        owners=photos.known.owner,
        times=_times(spec, photos),
        # The seed drew photo by photo, copies or not.
        copies=apart if spec.fit == "rank" else photos.copies,
        val=spec.val,
        test=spec.test,
        salt=salt,
    )
    training = split == "train"
    tier, cuts, ties = _tiers(spec, photos.labels, training)
    present = np.bincount(tier[training], minlength=spec.tiers + 1)[1:]
    if not present.all():
        empty = int(np.argmin(present)) + 1
        message = f"tier {empty} of {spec.tiers} has no photo in the training split"
        raise BadInput(f"{message} (cuts {', '.join(f'{c:g}' for c in cuts)}); choose other cuts.")
    tier_of, split_of = tier.tolist(), split.tolist()
    members = zip(photos.known.id, tier_of, split_of, strict=True)
    values = {
        "name": spec.name,
        "count": len(photos),
        "tiers": spec.tiers,
        "cuts": list(cuts),
        "fit": spec.fit,
        "ties": list(ties),
        "near_bits": duplicates.NEAR_BITS,
        "crossing": _crossing(photos, split),
        "tier_labels": [
            float(photos.labels[training & (tier == t)].mean()) for t in range(1, spec.tiers + 1)
        ],
        "tie_rule": RANK_RULE if spec.fit == "rank" else TIE_RULE,
        "split_rule": spec.split,
        "val": spec.val,
        "test": spec.test,
        "seed": spec.seed,
        "salt": salt,
        "fingerprint": _fingerprint(photos, tier_of, split_of),
    }
    return values, members


def _tiers(
    spec: Spec, labels: npt.NDArray[np.float64], training: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], tuple[float, ...], tuple[int, ...]]:
    """Return each photo's tier, the cuts, and how many of the labels they were fitted on tie."""
    if spec.fit == "rank":
        tier = tiers.by_rank(labels, spec.tiers)
        cuts = tuple(float(labels[tier == t].min()) for t in range(2, spec.tiers + 1))
        return tier, cuts, tiers.tie_counts(labels, cuts)
    fitted = labels[training] if spec.fit == "train" else labels
    if spec.fit == "given":
        cuts = tiers.checked_cuts(spec.cuts)
    else:
        cuts = tiers.fit_cuts(fitted, spec.tiers)
    return tiers.assign(labels, cuts), cuts, tiers.tie_counts(fitted, cuts)


def _times(spec: Spec, photos: _Photos) -> Array:
    """Return upload times when all are known, else ids, which Flickr gives out in that order."""
    if spec.split != "time" or None in photos.known.posted:
        if spec.split == "time" and photos.ids.min() < 0:
            message = "A split by time needs each photo's upload time, and files of a folder have"
            raise BadInput(f"{message} none but from metadata: import it, or use --split owner.")
        return photos.ids
    return np.array(photos.known.posted, dtype=np.int64)


def _crossing(photos: _Photos, split: npt.NDArray[np.str_]) -> dict[str, Any]:
    """Count what stands on more than one side of the split, and what that cannot tell."""
    owners = photos.known.owner
    numbers = {name: place for place, name in enumerate(dict.fromkeys(owners))} | {None: -1}
    owner = np.array([numbers[name] for name in owners], dtype=np.int64)
    known = owner >= 0
    return {
        "owners": _torn(owner[known], split[known]),
        "duplicates": _torn(photos.copies, split),
        "neighbours": _neighbours(photos.ids, owner, split == "train"),
        "without_owner": owners.count(None),
        "without_hash": photos.known.phash.count(None),
        "largest_share": splits.largest_share(owners, photos.copies),
    }


def _neighbours(
    ids: npt.NDArray[np.int64], owner: npt.NDArray[np.int64], training: npt.NDArray[np.bool_]
) -> int:
    """Count photos that judge and have a training photo of their owner within `NEAR_IDS` ids.

    Photos whose owners are unknown count as one person's: they may be.
    """
    order = np.lexsort((ids, owner))
    order = order[ids[order] > 0]
    near = np.zeros(len(order), dtype=np.bool_)
    for step in (1, -1):  # the training photo before each, then the one after
        along = order[::step]
        teaches = np.where(training[along], np.arange(len(along)), -1)
        last = np.maximum.accumulate(teaches) if len(along) else teaches
        teacher = along[last]
        close = np.abs(ids[teacher] - ids[along]) <= NEAR_IDS
        near[::step] |= (last >= 0) & (owner[teacher] == owner[along]) & close
    return int(np.count_nonzero(near & ~training[order]))


def _torn(groups: npt.NDArray[np.int64], split: npt.NDArray[np.str_]) -> int:
    """Return how many groups, numbered from 0, stand on more than one side."""
    stands = np.zeros((groups.max(initial=-1) + 1, 3), dtype=np.bool_)
    stands[groups, (split == "val") + 2 * (split == "test")] = True
    return int(np.count_nonzero(stands.sum(axis=1) > 1))


def _fingerprint(photos: _Photos, tier: list[int], split: list[str]) -> str:
    """Return a sha256 of who is in the set, with which bytes, label, tier and split, in order."""
    known = photos.known
    rows = zip(photos.ids.tolist(), known.sha256, known.label, tier, split, strict=True)
    digest = hashlib.sha256()
    # Not all at once: the text is several times as large as what it is made of.
    while part := "".join([f"{i},{s},{y!r},{t},{p}\n" for i, s, y, t, p in islice(rows, 20_000)]):
        digest.update(part.encode())
    return digest.hexdigest()


def describe(catalogue: Catalogue, name: str) -> dict[str, Any]:
    """Return what a data set is, JSON-able: counts, cuts, mean, std, splits, crossing, warnings.

    Photos are counted as they are in the set now, purged ones no longer; what crosses, when the
    set was made: `crossing` counts owners and pictures that stand on several sides of the split,
    and photos that judge and have a training photo of their owner within `NEAR_IDS` ids. Raises
    `BadInput` for an unknown name.
    """
    with catalogue.read() as tx:
        row = datasets.get(tx, name)
        counts = datasets.counts(tx, row.id)
    sizes = {"train": 0, "val": 0, "test": 0}
    by_tier = dict.fromkeys(range(1, row.tiers + 1), 0)
    for split, tier, photos in counts:
        sizes[split] += photos
        by_tier[tier] += photos
    crossed = ("owners", "duplicates", "neighbours")
    return {
        "dataset": row.name,
        "count": sum(sizes.values()),
        "tiers": row.tiers,
        "fit": row.fit,
        "cuts": row.cuts,
        "ties": row.ties,
        "mean": row.mean,
        "std": row.std,
        "splits": sizes,
        "photos_by_tier": by_tier,
        "split_rule": row.split_rule,
        "crossing": {name: row.crossing[name] for name in crossed if name in row.crossing},
        "near_bits": row.near_bits,
        "tie_rule": row.tie_rule,
        "seed": row.seed,
        "fingerprint": row.fingerprint,
        "warnings": _warnings(row, sizes),
    }


def _warnings(row: Any, sizes: dict[str, int]) -> list[str]:
    found = row.crossing
    judged, purged = sizes["val"] + sizes["test"], row.count - sum(sizes.values())
    warnings = []
    if purged > 0:
        warnings.append(
            f"{purged} of its {row.count} photos were purged since it was made: its cuts,"
            " fingerprint and channels are those of all of them, and so are the figures of runs"
            " that were judged before (`popq evaluate` judges by what is left)"
        )
    if row.split_rule == "owner" and found.get("without_owner"):
        warnings.append(
            f"the owners of {found['without_owner']} of {row.count} photos are unknown: photos of"
            " one owner may stand on both sides of the split, so a model may look better than it is"
        )
    if found.get("owners"):
        warnings.append(
            f"split by {row.split_rule}: {found['owners']} owners have photos on several sides, so"
            " a model looks better than it is on new owners"
        )
    if found.get("duplicates"):
        warnings.append(
            f"{found['duplicates']} pictures stand on several sides of the split in copies, so a"
            " model is judged on what it has learnt by heart"
        )
    if found.get("neighbours"):
        warnings.append(
            f"{found['neighbours']} of {judged} photos that judge have a training photo of the same"
            f" (or an unknown) owner within {NEAR_IDS} ids: often the same subject"
        )
    if found.get("without_hash"):
        warnings.append(
            f"{found['without_hash']} photos have no perceptual hash (one colour, or stored before"
            " popq kept it): only equal bytes tell their copies"
        )
    if row.split_rule == "owner" and found.get("largest_share", 0) > _LARGE:
        share = f"{found['largest_share']:.0%}"
        warnings.append(
            f"{share} of the photos belong to owners who share pictures, and stand on one side: the"
            " shares of the split may be far from what was asked"
        )
    return warnings
