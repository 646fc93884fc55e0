"""Does scoring run at 93 % of the bare forward from JPEGs, and at 97 % from the pack?

End to end, as `popq score` does it: claim, read and decode (or read from the pack), forward, rows
in a SQLite catalogue. The peer is the bare forward of the same network in the same precision on one
repeated batch of the size that scoring uses. ResNet50 at 224 pixels, random weights; photos of 640
pixels on the long edge. In turns, twice each; the seconds in which the weights are loaded are left
out on both sides (they are told beside). `--photos` makes it smaller, `--arch resnet18` faster.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from popq import api
from popq.bootstrap import Rooms
from popq.catalogue import datasets, runs
from popq.images import pack
from popq.learn import checkpoint
from popq.learn.augment import PACK_SIDE, centre_crops, prepare
from popq.learn.config import Config
from popq.learn.model import autocast_dtype, build, pick_device, to_score, versions
from popq.learn.objectives import Scale
from popq.learn.predict import CHUNK
from popq.settings import Settings
from popq.stages.dataset import Spec
from popq.stages.ingest import Source

PHOTOS = 640
TURNS = 2
FLOORS = {"jpeg": 0.93, "pack": 0.97}


def photo(number: int, width: int) -> bytes:
    """A photo of 4 by 3 with as much detail as one of Flickr's has: about 90 kB at 640 pixels."""
    rng = np.random.default_rng(number)
    height = width * 3 // 4
    coarse = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 6, (height, width, 3))
    pixels = np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=87)
    return out.getvalue()


def stored(
    rooms: Rooms, folder: Path, photos: int, arch: str, *, width: int = 640, image_size: int = 224
) -> int:
    """Store photos and make a data set and a run with random weights of them; return the run."""
    images = folder / "images"
    images.mkdir()
    names = [f"{number}.jpg" for number in range(photos)]
    for number, name in enumerate(names):
        (images / name).write_bytes(photo(number, width))
    (folder / "list.txt").write_text("\n".join(names))
    (folder / "labels.txt").write_text("\n".join(f"{1 + n % 100 / 10}" for n in range(photos)))
    source = Source(folder / "list.txt", folder / "labels.txt", images_dir=images)
    api.init(rooms)
    api.import_list(rooms, source)
    api.work(rooms, "download", on_progress=lambda *_: None)
    api.make_dataset(rooms, Spec("main", split="photo"))
    with rooms.catalogue.read() as tx:
        dataset = datasets.get(tx, "main")
    config = Config(arch=arch, weights="none", outputs=dataset.tiers, image_size=image_size)
    torch.manual_seed(0)
    model = build(config.arch, config.outputs, "none")
    facts = {
        "config": config.to_json(),
        "mean": dataset.mean,
        "std": dataset.std,
        "epoch": 1,
        "scale": Scale(tuple(dataset.cuts), tuple(dataset.tier_labels), 6.0, 2.5).to_json(),
    }
    home = rooms.settings.data_dir / "runs" / "run-1"
    home.mkdir(parents=True)
    checkpoint.write(home, "best", model.state_dict(), facts)
    with rooms.catalogue.begin() as tx:
        run = runs.create(tx, dataset.id, config.to_json(), 0)
        term = runs.claim(tx, run, "bench", 60.0)
        sha256 = checkpoint.weights_sha256(home)
        runs.note(tx, run, term, folder=home.name)
        runs.finish(tx, run, term, weights_sha256=sha256, best_epoch=1)
    return run


def packed(rooms: Rooms) -> None:
    with rooms.catalogue.read() as tx:
        dataset = datasets.get(tx, "main")
        keys = [member.file_key for member in datasets.members(tx, dataset.id)]
    folder = pack.folder_of(rooms.settings.data_dir / "packs", dataset.fingerprint)
    pack.build(folder, dataset.fingerprint, keys, rooms.store.open, workers=2, on_progress=None)


def scoring(rooms: Rooms, run: int, photos: int) -> tuple[float, float]:
    """Score all photos anew; return photos a second without loading, and the seconds of that."""
    done = rooms.enqueue("score", run_id=run, by="bench", again=True)
    drain = rooms.drain("score")
    start = time.perf_counter()
    drain.stage("score", run)  # the drain keeps it
    loaded = time.perf_counter()
    progress = drain.run_job(done.job, 1, lambda _: None)
    took = time.perf_counter() - loaded
    assert progress.moved == photos, progress
    return photos / took, loaded - start


def bare(arch: str, photos: int) -> float:
    """Return the photos a second of the forward alone, on one batch that is ready.

    Of the network as it scores (batch norms folded), with all cores on the one batch.
    """
    device = pick_device("auto")
    model = to_score(build(arch, 3, "none"), device)
    size, dtype = CHUNK[device.type], autocast_dtype(device)
    noise = np.random.default_rng(0).integers(0, 256, (size, PACK_SIDE, PACK_SIDE, 3), np.uint8)
    pixels = torch.from_numpy(noise).to(device)
    images = prepare(pixels, centre_crops(size), 224, (0.5,) * 3, (0.25,) * 3)

    def forward() -> None:
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not None):
            model(images).float().cpu()

    forward()
    start = time.perf_counter()
    for _ in range(max(1, photos // size)):
        forward()
    return size * max(1, photos // size) / (time.perf_counter() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=int, default=PHOTOS)
    parser.add_argument("--arch", default="resnet50", choices=["resnet50", "resnet18"])
    asked = parser.parse_args()
    photos, arch = asked.photos, asked.arch
    speeds: dict[str, list[tuple[float, float]]] = {"jpeg": [], "pack": []}
    with tempfile.TemporaryDirectory() as name, Rooms(Settings(data_dir=Path(name, "d"))) as rooms:
        run = stored(rooms, Path(name), photos, arch)
        for source, found in speeds.items():
            if source == "pack":
                packed(rooms)
            scoring(rooms, run, photos)  # warm: files are read, kernels chosen
            for _ in range(TURNS):
                ours, load_s = scoring(rooms, run, photos)
                found.append((ours, bare(arch, photos)))
    fine = []
    for source, found in speeds.items():
        ratio = statistics.median(ours / peer for ours, peer in found)
        result = {
            "name": f"score_{source}",
            "claim": f"Does scoring from {source} run at {FLOORS[source]:.0%} of the bare forward?",
            "images_per_second": round(statistics.median(ours for ours, _ in found), 2),
            "bare_images_per_second": round(statistics.median(peer for _, peer in found), 2),
            "load_seconds": round(load_s, 2),
            "photos": photos,
            "ratio": round(ratio, 3),
            "floor": FLOORS[source],
            "ok": ratio >= FLOORS[source],
            **versions(pick_device("auto")),
        }
        print(json.dumps(result), flush=True)
        fine.append(result["ok"])
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
