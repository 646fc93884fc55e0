"""Is the training loop as fast as the bare train step of the same model, within a twentieth?

In one run, in the same precision, in turns: the loop as `popq train` runs it (photos read from a
memory map, each with its own crop, metrics) and the bare step on one prepared batch. The model is
ResNet50 at 224 pixels in batches of 16, the seed's way. Prints JSON; exits 1 below the floor.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from popq.learn.config import configure
from popq.learn.data import Data, aim_of, training_batches
from popq.learn.loop import begin, train_one_epoch, train_step
from popq.learn.model import pick_device, versions

FLOOR = 0.95
TURNS = 8
STEPS = 2
BATCH = 16


def packed(folder: Path) -> Data:
    """Write a pack of noise and map it, as training gets it."""
    photos = BATCH * STEPS
    pixels = np.lib.format.open_memmap(
        folder / "pack.npy", "w+", dtype=np.uint8, shape=(photos + 1, 256, 256, 3)
    )
    rng = np.random.default_rng(0)
    for row in pixels:
        row[:] = rng.integers(0, 256, row.shape, dtype=np.uint8)
    pixels.flush()
    return Data(
        pixels=np.load(folder / "pack.npy", mmap_mode="r"),
        targets=rng.integers(0, 3, photos + 1),
        train=np.arange(photos),
        val=np.arange(photos, photos + 1),
        mean=(0.5, 0.5, 0.5),
        std=(0.29, 0.29, 0.29),
    )


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        data = packed(Path(folder))
        device = pick_device("auto")
        config = configure("seed", len(data.train), epochs=TURNS + 1)
        training = begin(config, data, device, weights="none")
        aim = aim_of(config, data)
        batch = next(training_batches(data, config, 1, device))

        def loop(epoch: int) -> None:
            train_one_epoch(training, epoch, lambda *_: None)

        def bare(_: int) -> None:
            for _ in range(STEPS):
                float(train_step(training, aim, batch, config.lr)[0])

        def speed(work, epoch: int) -> float:
            start = time.perf_counter()
            work(epoch)
            return BATCH * STEPS / (time.perf_counter() - start)

        # Warm up: kernels are chosen, memory is fetched, the map is read.
        loop(1)
        bare(1)
        pairs = []
        for turn in range(2, TURNS + 2):
            # In turns, so that a busy minute of the machine strikes both alike.
            first, second = (loop, bare) if turn % 2 else (bare, loop)
            speeds = {work: speed(work, turn) for work in (first, second)}
            pairs.append((speeds[loop], speeds[bare]))
    ratio = statistics.median(looped / stepped for looped, stepped in pairs)
    result = {
        "name": "training_loop",
        "loop_images_per_second": round(statistics.median(p[0] for p in pairs), 2),
        "bare_images_per_second": round(statistics.median(p[1] for p in pairs), 2),
        "ratio": round(ratio, 3),
        "floor": FLOOR,
        "ok": ratio >= FLOOR,
        **versions(device),
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
