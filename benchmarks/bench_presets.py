"""Does the default recipe of `popq train` beat the seed's (`--preset seed`) on photos never seen?

For each of five seeds: planted photos (`popq.planted`) of owners split into training, validation
(which chooses the epoch) and test; a ResNet18 from random weights, as many epochs for both
recipes, both judged on the test owners' photos. The claims are of all seeds together: shares of
right tiers, one over the other, and cross-entropies likewise (less is better). How the photos on
which the two differ fall is weighed by McNemar's exact test. Prints JSON; exits 1 on a miss.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from planted_photos import RHO, learn, plant, training_data
from scipy import stats

from popq import planted

PHOTOS, OWNERS, EPOCHS, SEEDS = 800, 80, 8, range(5)
PRESETS = ("default", "seed")


def compare(seed: int, folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return by preset which test photos were read right, (n,) bool, and their losses in nats."""
    found = plant(PHOTOS, OWNERS, seed, {"val": 0.15, "test": 0.25})
    data, test = training_data(found), found.rows("test")
    truth = data.targets[test]
    right, losses = {}, {}
    for preset in PRESETS:
        read = learn(data, test, folder / f"{preset}-{seed}", preset, seed=seed, epochs=EPOCHS)
        right[preset] = read.tiers == truth + 1
        losses[preset] = -np.log(read.probabilities[np.arange(len(test)), truth])
    return right, losses


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        seen = [compare(seed, Path(folder)) for seed in SEEDS]
    ours, theirs = (np.concatenate([right[preset] for right, _ in seen]) for preset in PRESETS)
    our_loss, their_loss = (
        np.concatenate([loss[preset] for _, loss in seen]) for preset in PRESETS
    )
    won, lost = int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours))
    ratio, losses = ours.mean() / theirs.mean(), our_loss.mean() / their_loss.mean()
    by_seed = {
        preset: [round(float(right[preset].mean()), 3) for right, _ in seen] for preset in PRESETS
    }
    loss = {
        "name": "presets_loss",
        "claim": "Is its cross-entropy on them lower, too?",
        "ratio": round(float(losses), 3),
        "ceiling": 1.0,
        "ok": bool(losses < 1.0),
        "loss": round(float(our_loss.mean()), 3),
        "loss_seed_preset": round(float(their_loss.mean()), 3),
    }
    right = {
        "name": "presets_accuracy",
        "ratio": round(float(ratio), 3),
        "floor": 1.0,
        "ok": bool(ratio > 1.0),
        "accuracy": round(float(ours.mean()), 3),
        "accuracy_seed_preset": round(float(theirs.mean()), 3),
        "best_possible": round(planted.best_accuracy(RHO), 3),
        "by_seed": by_seed["default"],
        "by_seed_seed_preset": by_seed["seed"],
        "judged_on": len(ours),
        "mcnemar_p": float(f"{stats.binomtest(won, won + lost).pvalue:.2g}"),
    }
    print(json.dumps(loss))
    print(json.dumps(right))
    return 0 if loss["ok"] and right["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
