"""How near does each objective come to the best that the noise of a planted truth allows?

Trains a ResNet18 from random weights for each objective on rendered photos (`popq.planted`), split
by owner, and judges it on owners never seen: tiers, Spearman's rho, and of all pairs of photos the
share in the right order. The best possible is known: with truth and score jointly normal, rho is
6/pi asin(r/2), pairs 1/2 + asin(r)/pi, and the tiers an integral. Beside it stands a logistic
regression on the channels' means and deviations, which the network must beat in all three. Prints
JSON; exits 1 below the floor.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from planted_photos import RHO, colours, learn, plant, training_data
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sqlalchemy import insert

from popq import planted
from popq.catalogue import datasets, migrate, pairs
from popq.catalogue.db import Catalogue
from popq.catalogue.models import Photo
from popq.learn.data import Data, Pairs

PHOTOS, OWNERS, EPOCHS, SEED = 800, 80, 6, 0
#: Of the best possible; the network has seen few photos, for few epochs.
FLOOR = 0.85
#: What each objective is judged by: what it learns.
AIMS = {"classify": "accuracy", "rank": "pairs", "regress": "spearman"}


def mined(
    folder: Path, photos: list[planted.PlantedPhoto], split: list[str], apart: float
) -> Pairs:
    """Mine the pairs by SQL, as `popq train` does; photo n + 1 is row n."""
    catalogue = Catalogue(f"sqlite:///{folder / 'popq.db'}")
    migrate.upgrade(catalogue)
    rows = [
        {
            "flickr_id": photo.flickr_id,
            "page_url": f"https://www.flickr.com/photo.gne?id={photo.flickr_id}",
            "owner": photo.owner,
            "label": photo.label,
            "posted_at": np.datetime64(photo.posted_at, "s").astype(object).astimezone(),
            "state": "stored",
            "image_url": "file:///planted",
            "file_key": str(n),
            "sha256": f"{n:064x}",
        }
        for n, photo in enumerate(photos)
    ]
    told = dict.fromkeys(("count", "tiers"), 3) | {key: [] for key in ("cuts", "tier_labels")}
    told |= dict.fromkeys(("name", "tie_rule", "split_rule", "salt", "fingerprint"), "planted")
    told |= {"val": 0.3, "test": 0.0, "seed": SEED}
    with catalogue.begin() as tx:
        tx.execute(insert(Photo), rows)
        members = [(n + 1, 1, side) for n, side in enumerate(split)]
        dataset = datasets.create(tx, told, members)
    found = []
    for side in ("train", "val"):
        with catalogue.read() as tx:
            some = pairs.mine(tx, dataset, side, apart=apart, within="owner")
            found.append(np.array([pair for part in some for pair in part]) - 1)
    catalogue.close()
    return Pairs(*found)


def planted_data(folder: Path) -> Data:
    found = plant(PHOTOS, OWNERS, SEED, {"val": 0.3})
    data = training_data(found)
    apart = pairs.CLEARLY_APART * float(found.labels[data.train].std())
    return replace(data, pairs=mined(folder, found.photos, found.side.tolist(), apart))


def figures(data: Data, tier: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    labels = data.labelled.values[data.val]
    return {
        "accuracy": float(np.mean(tier == data.targets[data.val] + 1)),
        "spearman": float(stats.spearmanr(scores, labels).statistic),
        # Kendall's tau is the share in the right order less the share in the wrong one.
        "pairs": (1 + float(stats.kendalltau(scores, labels).statistic)) / 2,
    }


def by_colour(data: Data) -> dict[str, float]:
    """Judge a logistic regression that knows the channels' means and deviations alone."""
    known = colours(data.pixels)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(known[data.train], data.targets[data.train] + 1)
    shares = model.predict_proba(known[data.val])
    return figures(data, shares.argmax(axis=1) + 1, shares @ np.array(data.labelled.tier_labels))


def by_network(data: Data, objective: str, folder: Path) -> dict[str, float]:
    options = {"objective": objective, "seed": SEED, "epochs": EPOCHS}
    read = learn(data, data.val, folder, "default", **options)
    return figures(data, read.tiers, read.scores)


def main() -> int:
    best = {
        "accuracy": planted.best_accuracy(RHO),
        "spearman": planted.best_spearman(RHO),
        "pairs": planted.best_pairwise_accuracy(RHO),
    }
    fine = True
    with tempfile.TemporaryDirectory() as folder:
        data = planted_data(Path(folder))
        colour = by_colour(data)
        for objective, aim in AIMS.items():
            start = time.perf_counter()
            found = by_network(data, objective, Path(folder) / objective)
            ratio = found[aim] / best[aim]
            beaten = all(found[name] > colour[name] for name in found)
            ok = ratio >= FLOOR and beaten
            fine &= ok
            claim = f"Of the best possible {aim}, how much does `{objective}` reach?"
            result = {"name": f"planted_{objective}", "claim": claim}
            result |= {"ratio": round(ratio, 3), "floor": FLOOR}
            result |= {"ok": ok, "beats_mean_colour": beaten}
            for name in found:
                shown = {"": found, "_best": best, "_by_colour": colour}
                result |= {name + end: round(part[name], 3) for end, part in shown.items()}
            counts = {"trained_on": len(data.train), "judged_on": len(data.val), "epochs": EPOCHS}
            print(json.dumps(result | counts | {"seconds": round(time.perf_counter() - start)}))
            sys.stdout.flush()
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
