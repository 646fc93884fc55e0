"""The peer of scoring: timm's way to run a network over a folder of images, and how fast it is.

    pip install timm==1.0.31
    popq export imagefolder photos --dataset NAME --copy
    popq export model model --run ID
    python benchmarks/timm_peer.py photos model            # timm's defaults
    python benchmarks/timm_peer.py photos model --best     # amp and channels_last

What timm's `inference.py` does, by the same calls: `create_dataset`, `create_loader` with its
workers, the network under `no_grad`, scores kept. Compare with what `popq score` does of the same
photos by the same weights (`popq jobs ID` shows its rate). Not a part of `make bench`: timm is no
dependency of popq. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from safetensors.torch import load_file
from timm.data import create_dataset, create_loader
from torchvision.models import get_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--best", action="store_true", help="amp and channels_last")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=256)
    asked = parser.parse_args()
    card = json.loads((asked.model / "card.json").read_text())
    weights = load_file(asked.model / "model.safetensors")
    model = get_model(card["config"]["arch"], weights=None, num_classes=len(weights["fc.bias"]))
    model.load_state_dict(weights)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).eval()
    seen = card["preprocessing"]
    loader = create_loader(
        create_dataset("", root=str(asked.photos)),
        input_size=(3, seen["size"], seen["size"]),
        batch_size=asked.batch_size,
        use_prefetcher=device.type == "cuda",
        num_workers=asked.workers,
        mean=seen["mean"],
        std=seen["std"],
        crop_pct=0.875,
        interpolation="bilinear",
        device=device,
    )
    cast = torch.autocast(device.type, torch.bfloat16) if asked.best else nullcontext()
    if asked.best:
        model = model.to(memory_format=torch.channels_last)
    scores = []
    start = time.perf_counter()
    with torch.no_grad():
        for images, _ in loader:
            given = images.to(device)
            if asked.best:
                given = given.contiguous(memory_format=torch.channels_last)
            with cast:
                found = model(given)
            scores.extend(found.float().softmax(1).cpu().tolist())
    took = time.perf_counter() - start
    told = {"photos": len(scores), "seconds": round(took, 2), "best": asked.best}
    print(json.dumps(told | {"images_per_second": round(len(scores) / took, 2)}))


if __name__ == "__main__":
    main()
