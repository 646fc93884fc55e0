"""Does popq score at least 3 times as fast as timm's inference script, 1.25 times as its best?

    pip install timm==1.0.31
    python benchmarks/timm_peer.py

Not a part of `make bench`, for timm is no dependency of popq. ResNet50 at 224 pixels with the same
random weights, the same JPEGs of 500x375 in popq's store. popq's side is `popq score` from claim to
rows in a SQLite catalogue, without a pack. The peer is what timm's `inference.py` does, by the same
calls, from starting its workers to probabilities in a CSV file:

* `defaults`: as the script runs when it is told only model and folder: float32, 2 workers, 256
  photos to a batch;
* `best`: `--channels-last` (the input, too, as in `validate.py`) with the workers and the batch
  size that do best here (`TRIED`, all measured first), and `--amp --amp-dtype bfloat16` where the
  hardware has it, by the same rule as popq. The floors are of such hardware: without it popq
  computes in float32 as timm's defaults do, and cannot be three times as fast. The result says in
  which precision it was.

In turns, each in a process of its own; the seconds in which a process starts and loads weights are
left out on all sides. A median of `TURNS`. `--photos` makes it smaller. Prints JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import timm
import torch
from bench_score import scoring, stored
from timm.data import create_dataset, create_loader
from timm.models import create_model

from popq.bootstrap import Rooms
from popq.learn.model import autocast_dtype, pick_device, versions
from popq.learn.predict import load
from popq.settings import Settings

PHOTOS = 512
TURNS = 3
WIDTH = 500
FLOORS = {"defaults": 3.0, "best": 1.25}
DEFAULTS = (2, 256)
#: Workers and batch sizes of which the best is taken for timm's best.
TRIED = ((1, 16), (2, 16), (2, 64), (2, 256))


def data_of(folder: Path) -> Path:
    return folder / "d"


def ours(folder: Path, photos: int) -> float:
    with Rooms(Settings(data_dir=data_of(folder))) as rooms:
        return scoring(rooms, 1, photos)[0]


def theirs(folder: Path, photos: int, *, best: bool, loading: tuple[int, int]) -> float:
    """Return the photos a second of timm's script; the network is timm's with popq's weights."""
    device = pick_device("auto")
    trained, card = load(data_of(folder) / "runs" / "run-1")
    model = create_model("resnet50", num_classes=card.outputs)
    model.load_state_dict(trained.state_dict())
    model = model.to(device).eval()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = True
    if best:
        model = model.to(memory_format=torch.channels_last)
    dtype = autocast_dtype(device) if best else None
    cast = nullcontext() if dtype is None else torch.autocast(device.type, dtype)
    workers, batch_size = loading
    start = time.perf_counter()
    dataset = create_dataset("", root=str(data_of(folder) / "store"))
    loader = create_loader(
        dataset,
        input_size=(3, 224, 224),
        batch_size=batch_size,
        use_prefetcher=True,
        num_workers=workers,
        mean=card.mean,
        std=card.std,
        crop_pct=0.875,
        interpolation="bilinear",
        device=device,
    )
    found = []
    with torch.inference_mode():
        for images, _ in loader:
            layout = torch.channels_last if best else torch.contiguous_format
            given = images.contiguous(memory_format=layout)
            with cast:
                output = model(given)
            found += output.softmax(-1).float().cpu().tolist()
    with (folder / "timm.csv").open("w", newline="") as file:
        rows = zip(dataset.filenames(basename=True), found, strict=True)
        csv.writer(file).writerows([name, *shares] for name, shares in rows)
    assert len(found) == photos
    return photos / (time.perf_counter() - start)


def turn(folder: Path, photos: int, side: str, loading: tuple[int, int] = DEFAULTS) -> float:
    """Measure one side in a process of its own; return its photos a second."""
    given = [str(folder), str(photos), side, *map(str, loading)]
    command = [sys.executable, __file__, "--turn", *given]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return float(told.splitlines()[-1])


def one_turn(name: str, photos: str, side: str, workers: str, batch_size: str) -> None:
    folder = Path(name)
    if side == "popq":
        print(ours(folder, int(photos)))
        return
    loading = (int(workers), int(batch_size))
    print(theirs(folder, int(photos), best=side == "best", loading=loading))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=int, default=PHOTOS)
    parser.add_argument("--turn", nargs=5, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.turn:
        one_turn(*asked.turn)
        return 0
    photos = asked.photos
    speeds: dict[str, list[float]] = {"popq": [], **{name: [] for name in FLOORS}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Rooms(Settings(data_dir=data_of(folder))) as rooms:
            stored(rooms, folder, photos, "resnet50", width=WIDTH)
        tried = {loading: turn(folder, photos, "best", loading) for loading in TRIED}
        fastest = max(tried, key=tried.__getitem__)
        for _ in range(TURNS):
            for side, found in speeds.items():
                loading = fastest if side == "best" else DEFAULTS
                found.append(turn(folder, photos, side, loading))
    fine = []
    for side, floor in FLOORS.items():
        workers, batch_size = fastest if side == "best" else DEFAULTS
        ratios = [ours / peer for ours, peer in zip(speeds["popq"], speeds[side], strict=True)]
        ratio = statistics.median(ratios)
        result = {
            "name": f"score_timm_{side}",
            "claim": f"Does popq score {floor} times as fast as timm's script ({side})?",
            "images_per_second": round(statistics.median(speeds["popq"]), 2),
            "peer_images_per_second": round(statistics.median(speeds[side]), 2),
            "peer_workers": workers,
            "peer_batch_size": batch_size,
            "photos": photos,
            "ratios": [round(found, 3) for found in ratios],
            "ratio": round(ratio, 3),
            "floor": floor,
            "ok": ratio >= floor,
            "timm": timm.__version__,
            **versions(pick_device("auto")),
        }
        if side == "best":
            result["tried"] = {f"{w} workers, {b}": round(v, 2) for (w, b), v in tried.items()}
        print(json.dumps(result), flush=True)
        fine.append(result["ok"])
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
