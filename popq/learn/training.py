"""What an epoch works with: network, optimizer, running mean, engine; how it begins."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from popq.errors import BadInput, Misconfigured
from popq.learn import recipe
from popq.learn.config import Config
from popq.learn.data import Data, aim_of, edges, resident, room_on, smallest_share
from popq.learn.engine import Engine
from popq.learn.model import HEAD, build, place

#: A run on a GPU compiles its network by itself from so many photos in all its epochs on:
#: compiling takes about a minute, in which a GPU trains on a hundred thousand.
COMPILE_FROM = 500_000
#: Any of them will do.
COMPILERS = ("g++", "clang++", "c++")
#: Photos of a step that a process gets at least: a batch norm needs two.
FEWEST = 2


@dataclass
class Training:
    """A run at work on `engine.device`.

    `model` is the whole network, `net` what a step calls: the same, shared among processes, or its
    head alone where `features` (N, F) stand for the photos. `parts` is into how many parts a batch
    is cut, since memory ran out for the whole.
    """

    config: Config
    data: Data
    engine: Engine
    model: nn.Module
    net: nn.Module
    optimizer: Optimizer
    mean: recipe.RunningMean | None
    resident: Tensor | None = None
    features: NDArray[np.float32] | None = None
    parts: int = 1

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.engine.device

    @property
    def judged(self) -> nn.Module:
        """The whole network that validation and scoring see: the running mean, if there is one."""
        return self.model if self.mean is None else self.mean.model

    def adopt_features(self, features: NDArray[np.float32]) -> None:
        """Train the head on these features of all photos from now on."""
        self.features = features
        self.net = self.engine.share(head(self.model))


def head(model: nn.Module) -> nn.Module:
    """Return the network's last layer, from features to outputs."""
    return model.get_submodule(HEAD.rstrip("."))


def begin(
    config: Config,
    data: Data,
    device: torch.device,
    *,
    weights: str,
    engine: Engine | None = None,
) -> Training:
    """Return network and optimizer at their start; random weights follow from the seed alone.

    `weights` as `model.build` takes them, and the errors that it raises.
    """
    engine = engine or Engine(device)
    if config.batch_size < FEWEST * engine.processes:
        raise BadInput(
            f"A batch of {config.batch_size} cannot be shared by {engine.processes} processes, "
            "two photos each at least; give a larger --batch-size."
        )
    if engine.processes > 1 and smallest_share(data, config, engine.processes) < FEWEST:
        step = int(np.diff(edges(data, config)).min())
        raise BadInput(
            f"A step of {step} photos (of {len(data.train)}, in steps of nearly the same size) "
            f"cannot be shared by {engine.processes} processes, two photos each at least; start "
            "fewer, or give a larger --batch-size if there are more photos than that."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        needed = aim_of(config, data).outputs(config.outputs)
        model = build(config.arch, needed, weights)
    model = place(model, engine.device)
    if config.freeze:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(HEAD))
    mean = recipe.RunningMean(model, config.ema) if config.ema else None
    if compiles(config, len(data.train), engine.device.type):
        model.compile()
    return Training(
        config=config,
        data=data,
        engine=engine,
        model=model,
        # The head of a frozen network is shared once its features are there.
        net=model if config.freeze else engine.share(model),
        optimizer=recipe.optimizer(model, config),
        mean=mean,
        resident=None if config.freeze else resident(data.pixels, engine.device, room_on(device)),
    )


def compiles(config: Config, photos: int, device: str) -> bool:
    """Return whether the network of this run is compiled: when told to, or when it pays.

    Measured on two cores with bf16 (ResNet50 at 224): 54 s to compile, then a step is as fast as
    before at batch 16 and 12 % faster at 64. So "auto" compiles only on a GPU, for long runs, and
    where it can. Raises `Misconfigured` when told to where there is no compiler of C++.
    """
    if config.freeze or config.compile == "off":
        return False
    able = any(shutil.which(name) for name in (os.environ.get("CXX"), *COMPILERS) if name)
    if config.compile == "on" and not able:
        raise Misconfigured(
            f"--compile on needs a compiler of C++, and none is on the PATH ({', '.join(COMPILERS)}"
            " or $CXX). Install g++, or leave out --compile."
        )
    long = photos * config.epochs >= COMPILE_FROM
    return able and (config.compile == "on" or (device == "cuda" and long))
