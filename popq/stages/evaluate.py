"""Evaluate: how well scores, from a file or from the catalogue, agree with the labels of a set."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from popq.catalogue import exports, runs
from popq.catalogue.db import Catalogue, Tx
from popq.errors import BadInput
from popq.stats import metrics
from popq.stats.figures import in_labels_unit

#: What a table's column of ids and of scores may be called.
_IDS: Final = ("post_id", "flickr_id")
_SCORES: Final = ("popularity_score", "score")
#: Splits that training has not seen.
_UNSEEN: Final = ("val", "test")


def evaluate(catalogue: Catalogue, run: int, file: Path | None) -> dict[str, Any]:
    """Judge scores by the labels of the run's data set: Spearman's rho and mean absolute error.

    The scores are those of a submission (`popularity_score` by `post_id`, JSON or CSV), or without
    a file those that the run wrote. Returns `n`, `spearman` and `mae` over the splits that training
    has not seen and for each split, how many photos of the unseen splits have no score, and how
    many scores are of no photo of the set. Scores of a run that ranks have no unit, and so no
    `mae`. Raises `BadInput` for a file that is no submission, and when no score is of a photo of
    the set.
    """
    given = None if file is None else read_submission(file)
    with catalogue.read() as tx:
        row = runs.get(tx, run)
        found: Mapping[Any, float] = _ours(tx, run) if given is None else given
        if not found:
            if row.state != "done":
                message = f"Run {run} is {row.state}: it has no scores to judge"
                raise BadInput(f"{message}. `popq runs {run}` says where it stands.")
            message = f"Run {run} has scored no photo"
            raise BadInput(f"{message}; `popq score --run {run}` scores what is stored.")
        unit = given is not None or in_labels_unit(row.config)
        labels, scores, splits, used = [], [], [], set()
        missing = 0
        for about in _members(tx, row.dataset_id):
            post = exports.post_id(about["flickr_id"], about["source_key"])
            key = about["photo_id"] if given is None else post
            if key not in found:
                missing += about["split"] in _UNSEEN
                continue
            used.add(key)
            labels.append(about["label"])
            scores.append(found[key])
            splits.append(about["split"])
    if not used:
        message = f"None of the {len(found):,} scores is of a photo of the data set {row.dataset!r}"
        raise BadInput(f"{message}; posts are known by their Flickr id or pid.")
    return {
        "run": run,
        "dataset": row.dataset,
        "scores": "the run's own" if file is None else str(file),
        "missing": missing,
        "unknown": len(found) - len(used),
        **_judged(np.array(labels), np.array(scores), np.array(splits), unit=unit),
    }


def _judged(labels: Any, scores: Any, splits: Any, *, unit: bool) -> dict[str, Any]:
    def judge(here: Any) -> dict[str, Any]:
        if not here.any():
            return {"n": 0, "spearman": None, "mae": None}
        judged = metrics.agreement(labels[here], scores[here])
        return judged if unit else {**judged, "mae": None}

    there = {split: splits == split for split in ("train", *_UNSEEN)}
    by_split = {split: judge(here) for split, here in there.items() if here.any()}
    return {**judge(np.isin(splits, _UNSEEN)), "by_split": by_split}


def _ours(tx: Tx, run: int) -> dict[int, float]:
    """Return the run's own scores by photo: two files of one name have one post id."""
    photo, score = (exports.SCORE_COLUMNS.index(name) for name in ("photo_id", "score"))
    return {row[photo]: row[score] for part in exports.scores(tx, run) for row, _ in part}


def _members(tx: Tx, dataset: int) -> Iterator[dict[str, Any]]:
    for part in exports.members(tx, dataset):
        for row, _ in part:
            yield dict(zip(exports.MEMBER_COLUMNS, row, strict=True))


def read_submission(file: Path) -> dict[str, float]:
    """Return a submission's scores by post id; `BadInput` for one that cannot be read.

    JSON as the Social Media Prediction challenge has it, or CSV with the columns `post_id` (or
    `flickr_id`) and `popularity_score` (or `score`).
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        if text.lstrip()[:1] in {"{", "["}:
            told = json.loads(text)
            rows = told["result"] if isinstance(told, dict) else told
        else:
            rows = list(csv.DictReader(text.splitlines()))
        found: dict[str, float] = {}
        for number, row in enumerate(rows, start=1):
            post, score = _post(row), float(_first(row, _SCORES))
            if not np.isfinite(score):
                raise BadInput(f"{file}: the score of entry {number} is not finite.")
            if found.setdefault(post, score) != score:
                raise BadInput(f"{file}: post {post} has two scores (entry {number}).")
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}.") from error
    except (
        ValueError,
        ArithmeticError,
        RecursionError,
        TypeError,
        LookupError,
        AttributeError,
        csv.Error,
    ) as error:
        message = f"{file} is no submission ({type(error).__name__}: {error})"
        raise BadInput(
            f'{message}: {{"result": [{{"post_id": …, "popularity_score": …}}]}} or CSV with'
            " these columns."
        ) from error
    if not found:
        raise BadInput(f"{file} has no score in it.")
    return found


def _post(row: dict[str, Any]) -> str:
    return str(_first(row, _IDS)).strip()


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        if row.get(name) not in {None, ""}:
            return row[name]
    raise LookupError(f"an entry without {' or '.join(names)}")
