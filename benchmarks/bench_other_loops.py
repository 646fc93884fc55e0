"""Is popq's training faster than the seed's way, and never slower than torchvision's own loop?

ResNet50 at 224 from the same JPEGs, in turns. The seed's way: ImageFolder, decoded and squashed to
256x256 in the loop, one random crop and flip for the whole batch, float32, batches of 16. The
reference: ImageFolder with torchvision's v2 transforms (crop of random size, flip, normalise), a
DataLoader of two workers, popq's precision and memory format, the same optimizer. Then the data
paths alone: batches with no model behind them. Memory is what a process that loads one epoch's
batches has at most, workers included. Prints JSON; exits 1 on a miss.

The seed's way is to be beaten 2.2 times where the CPU has bf16 instructions (or on a GPU), as most
of that is bf16; elsewhere both compute in float32, and popq has only to be faster.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import photos
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import models
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from popq.learn.config import configure
from popq.learn.data import training_batches
from popq.learn.loop import begin, train_one_epoch
from popq.learn.model import autocast_dtype, pick_device, place, versions

SEED_FLOOR, SEED_FLOOR_FLOAT32, LOOP_FLOOR, DATA_FLOOR, MEMORY_CEILING = 2.2, 1.0, 1.0, 3.0, 1.0
SEED_CLAIM = "Is training end to end 2.2 times as fast as the seed's way?"
SEED_CLAIM_FLOAT32 = "Is training faster than the seed's way also on a CPU without bf16 (2.2 with)?"
PHOTOS = 97
TURNS = 3
BATCH = 16
MEAN, STD = [0.5] * 3, [0.25] * 3


def seeds_batches(folder: Path) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield float32 batches; the crop is drawn once a batch."""
    squash = v2.Compose([v2.Resize((256, 256)), v2.PILToTensor()])
    loader = DataLoader(ImageFolder(folder, squash), BATCH, shuffle=True)
    for images, targets in loader:
        top, left = random.randint(0, 32), random.randint(0, 32)
        crop = images[:, :, top : top + 224, left : left + 224].float() / 255
        crop = crop.flip(3) if random.random() < 0.5 else crop
        yield v2.functional.normalize(crop, MEAN, STD), targets


def reference_batches(folder: Path) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches as torchvision's reference training script makes them."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(224, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
            v2.ToPureTensor(),
        ]
    )
    yield from DataLoader(ImageFolder(folder, transform), BATCH, shuffle=True, num_workers=2)


def trainer(device: torch.device, dtype: torch.dtype | None) -> Callable[[Iterator], None]:
    """Return what trains a network of its own on batches."""
    model: nn.Module = models.resnet50(num_classes=photos.TIERS)
    model = model.to(device) if dtype is None else place(model, device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5)

    def train(batches: Iterator) -> None:
        for images, targets in batches:
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                logits = model(images.to(device))
            loss = nn.functional.cross_entropy(logits.float(), targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            float(loss.detach())

    return train


def drained(batches: Iterator) -> None:
    for _ in batches:
        pass


def peak_mb(load: Callable[[], None]) -> float:
    """Return what loading takes in a process of its own, with its workers, beyond its start."""
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_loaded, args=(load, send))
    process.start()
    used: float = receive.recv()
    process.join()
    return used


def _loaded(load: Callable[[], None], send: multiprocessing.connection.Connection) -> None:
    torch.set_num_threads(1)
    load()
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    workers = 2 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    send.send((own + workers) * 1024 / 1e6)


def main() -> int:
    device = pick_device("auto")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = photos.write(folder / "photos", PHOTOS)
        data = photos.packed(folder / "pack", paths, workers=2)
        config = configure("seed", len(data.train), batch_size=BATCH, epochs=TURNS + 1)
        data_mb = {
            "popq": peak_mb(lambda: drained(training_batches(data, config, 1, device))),
            "reference": peak_mb(lambda: drained(reference_batches(folder / "photos"))),
        }
        training = begin(config, data, device, weights="none")
        reference = trainer(device, autocast_dtype(device))
        seed = trainer(device, None)
        ways: dict[str, Callable[[int], object]] = {
            "popq": lambda turn: train_one_epoch(training, turn, lambda *_: None),
            "seed": lambda _: seed(seeds_batches(folder / "photos")),
            "reference": lambda _: reference(reference_batches(folder / "photos")),
            "popq_data": lambda turn: drained(training_batches(data, config, turn, device)),
            "reference_data": lambda _: drained(reference_batches(folder / "photos")),
        }
        turns: list[dict[str, float]] = []
        for turn in range(1, TURNS + 2):
            speeds = {}
            for way, work in ways.items():
                start = time.perf_counter()
                work(turn)
                speeds[way] = PHOTOS / (time.perf_counter() - start)
            turns.append(speeds)
    return told(turns[1:], data_mb, versions(device))


def told(turns: list[dict[str, float]], data_mb: dict[str, float], about: dict[str, str]) -> int:
    def ratio(one: str, other: str) -> float:
        return statistics.median(turn[one] / turn[other] for turn in turns)

    per_second = {way: round(statistics.median(t[way] for t in turns), 1) for way in turns[0]}
    memory = data_mb["popq"] / data_mb["reference"]
    bf16 = about["precision"] == "bfloat16"
    claims = [
        ("loops_data", "Is the data path alone 3 times as fast as torchvision's with two workers?",
         ratio("popq_data", "reference_data"), DATA_FLOOR),
        ("loops_seed", SEED_CLAIM if bf16 else SEED_CLAIM_FLOAT32,
         ratio("popq", "seed"), SEED_FLOOR if bf16 else SEED_FLOOR_FLOAT32),
        ("loops_reference", "Is training never slower than torchvision's reference loop?",
         ratio("popq", "reference"), LOOP_FLOOR),
    ]  # fmt: skip
    results = [
        {
            "name": "loops_memory",
            "claim": "Does the data path take no more memory than torchvision's with two workers?",
            "popq_mb": round(data_mb["popq"]),
            "reference_mb": round(data_mb["reference"]),
            "ratio": round(memory, 3),
            "ceiling": MEMORY_CEILING,
            "ok": memory <= MEMORY_CEILING,
        }
    ]
    for name, claim, value, floor in claims:
        result = {"name": name, "claim": claim, "ratio": round(value, 3), "floor": floor}
        results.append(result | {"ok": value >= floor, "images_per_second": str(per_second)})
    results[-1] |= about
    for result in results:
        print(json.dumps(result))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
