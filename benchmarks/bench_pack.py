"""Does the pack's build reach 85 % of bare Pillow, decode and resize, on the same cores?

Bare: Pillow's `open`, `draft`-less decode to RGB and one bilinear resize to 256 on the short side
with the centre square kept, by as many threads as there are cores, nothing written. In turns with
`popq.images.pack.build` of the same files into a new folder, synced. Three blocks of the pack: the
sync of each but the last goes on beside the decoding of the next. Prints JSON; exits 1 below.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import photos
from PIL import Image

FLOOR = 0.85
PHOTOS = 3000
TURNS = 3


def bare(path: Path) -> bytes:
    with Image.open(path) as image:
        rgb = image.convert("RGB")
    short = min(rgb.size)
    left, top = (rgb.width - short) // 2, (rgb.height - short) // 2
    box = (left, top, left + short, top + short)
    return rgb.resize((256, 256), Image.Resampling.BILINEAR, box=box).tobytes()


def main() -> int:
    cores = os.cpu_count() or 2
    pairs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = photos.write(folder / "photos", PHOTOS)
        for turn in range(TURNS):
            start = time.perf_counter()
            with ThreadPoolExecutor(cores) as pool:
                list(pool.map(bare, paths))
            alone = time.perf_counter() - start
            start = time.perf_counter()
            photos.packed(folder / f"pack{turn}", paths, workers=cores)
            pairs.append((PHOTOS / (time.perf_counter() - start), PHOTOS / alone))
    ratio = statistics.median(built / pillow for built, pillow in pairs)
    result = {
        "name": "pack",
        "packed_per_second": round(statistics.median(p[0] for p in pairs), 1),
        "bare_per_second": round(statistics.median(p[1] for p in pairs), 1),
        "threads": cores,
        "ratio": round(ratio, 3),
        "floor": FLOOR,
        "ok": ratio >= FLOOR,
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
