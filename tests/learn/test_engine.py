"""Several processes share each batch; the leader alone writes, and all end with one result."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from popq.errors import BadInput
from popq.learn.data import Labels, Pairs
from popq.learn.engine import Engine, engine
from popq.learn.loop import begin, fit, train_one_epoch

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


class OneOf(Engine):
    """One of several processes, seen by itself: nothing is gathered from the others."""

    def __init__(self, rank, processes):
        super().__init__(torch.device("cpu"))
        self.rank, self.processes = rank, processes


def taught(config, data, team):
    """Return the head's weights after the one step of an epoch."""
    training = begin(config, data, team.device, weights="none", engine=team)
    features = np.random.default_rng(0).standard_normal((len(data.pixels), 512), dtype=np.float32)
    training.adopt_features(features)
    train_one_epoch(training, 1, lambda *_: None)
    return training.model.fc.weight.detach()


@pytest.mark.parametrize("objective", ["classify", "rank"])
def test_shares_that_differ_weigh_each_photo_the_same(config, data, objective):
    # A first step follows its gradient, so the mean of weights is that of a mean of gradients.
    seven, weights = np.arange(7), np.arange(40) / 10
    pairs = Pairs(np.array([(0, 1 + row % 6) for row in range(10)]), np.array([(38, 39)]))
    known = Labels(weights, cuts=(1.0, 2.0), tier_labels=(0.5, 1.5, 3.0))
    data = replace(data, train=seven, val=np.arange(30, 40), labels=known, pairs=pairs)
    config = replace(config, objective=objective, freeze=True, weights="imagenet", batch_size=8)
    config = replace(config, lr=1.0, clip_norm=0.0, epochs=1)
    processes = 3 if objective == "classify" else 2  # 7 photos, or 3 pairs
    alone = taught(config, data, Engine(torch.device("cpu")))
    shared = [taught(config, data, OneOf(rank, processes)) for rank in range(processes)]
    assert torch.allclose(torch.stack(shared).mean(dim=0), alone, atol=2e-3)


def test_a_step_that_leaves_a_process_too_few_photos_is_refused(config, data, tmp_path):
    # 29 photos in two steps of 14 and 15, of which eight processes would get one or two.
    with pytest.raises(BadInput, match=r"step of 14 photos .*8 processes.*start fewer"):
        fit(
            replace(config, batch_size=16),
            data,
            tmp_path,
            on_epoch=lambda _: None,
            on_progress=lambda _: None,
            together=OneOf(0, 8),
        )
