"""Several processes share each batch; the leader alone writes, and all end with one result."""

import json
import subprocess
import sys

import torch

from popq.learn.engine import Engine, engine

SCRIPT = """
import json, sys
from dataclasses import asdict
from pathlib import Path
import numpy as np
import torch
from popq.learn.config import Config
from popq.learn.data import Data
from popq.learn.engine import engine
from popq.learn.loop import fit
from popq.learn.model import pick_device
from popq.learn.ticker import Halt

folder = Path(sys.argv[1])
rng = np.random.default_rng(0)
data = Data(
    pixels=rng.integers(0, 256, (30, 256, 256, 3), dtype=np.uint8),
    targets=np.arange(30) % 3, train=np.arange(24), val=np.arange(24, 30),
    mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3),
)
config = Config(arch="resnet18", weights="none", image_size=32, batch_size=8, epochs=2, ema=0.9)
team = engine(pick_device("cpu"))
halts = []

def on_progress(progress):
    if progress.epoch == 1 and not halts and not (folder / "last.safetensors").exists():
        halts.append(progress)
        raise Halt("now")

def train():
    return fit(config, data, folder, on_epoch=lambda _: None, on_progress=on_progress,
               together=team)

try:
    train()
except Halt:
    team.same(None)
result = train()
group = torch.distributed.group.WORLD
waits = group._get_backend(torch.device("cpu")).options._timeout.total_seconds()
told = {"rank": team.rank, "reports": [asdict(r) for r in result.reports], "halts": len(halts)}
told["waits"] = waits
(folder / f"{team.rank}.json").write_text(json.dumps(told))
"""


def test_alone_nothing_stands_between_loop_and_torch():
    alone = engine(torch.device("cpu"))
    assert type(alone) is Engine
    model, tensor = torch.nn.Linear(1, 1), torch.ones(1)
    assert alone.share(model) is model
    assert alone.total(tensor) is tensor
    assert alone.leads
    assert not alone.any(flag=False)


def test_two_processes_train_one_network(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    folder = tmp_path / "run"
    folder.mkdir()
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    done = subprocess.run(
        [*launch, str(script), str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1))
    assert (first["rank"], second["rank"]) == (0, 1)
    assert (first["halts"], second["halts"]) == (1, 0)  # only the leader hears of progress
    assert [report["epoch"] for report in first["reports"]] == [1, 2]
    assert first["reports"] == second["reports"]
    # A leader may build a pack for hours, in which the others wait.
    assert first["waits"] == second["waits"] == 24 * 3600
    assert sorted(path.name for path in folder.glob("*.safetensors")) == [
        "best.safetensors",
        "last.safetensors",
    ]
