"""All that a training run is asked to do: one frozen value, JSON both ways, and its presets."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

from popq.errors import BadInput
from popq.learn.augment import PACK_SIDE
from popq.learn.model import Arch
from popq.learn.objectives import Name

Schedule = Literal["constant", "onecycle", "cosine"]
#: torchvision's ResNets shrink a picture 32 times.
LEAST_IMAGE = 32
#: Share of the steps on which the rate rises, and what shares of the highest it starts from and
#: ends at.
WARM_UP = {"onecycle": 0.3, "cosine": 0.05}
START_SHARE, END_SHARE = 1 / 25, 1e-4


@dataclass(frozen=True)
class Config:
    """One training run. `outputs` counts the tiers; `lr` is the schedule's highest rate.

    `pairs` says of whom the photos are that `rank` compares: of one owner, or of anybody.
    `label_smoothing` is the share of a photo that is spread over all tiers (`classify` alone);
    `clip_norm` the longest gradient that is followed, 0 for any; `ema` the share that a running
    mean of the weights keeps at each step, 0 for none (validation and scoring see the mean);
    `patience` the epochs without a better one after which a run ends, 0 for never;
    `backbone_rate` the share of the rate that all layers but the head learn with; `freeze` leaves
    them as they are and trains the head on their features. Raises `BadInput` for a value out of
    its range.
    """

    arch: Arch = "resnet50"
    objective: Name = "classify"
    pairs: Literal["owner", "any"] = "owner"
    outputs: int = 3
    weights: str = "imagenet"
    epochs: int = 10
    batch_size: int = 64
    image_size: int = 224
    optimizer: Literal["sgd"] = "sgd"
    lr: float = 0.02
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    schedule: Schedule = "onecycle"
    seed: int = 0
    label_smoothing: float = 0.0
    clip_norm: float = 0.0
    ema: float = 0.0
    patience: int = 0
    backbone_rate: float = 1.0
    freeze: bool = False
    compile: Literal["auto", "on", "off"] = "auto"

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            choices = get_args(kind)
            if choices and value not in choices:
                raise BadInput(f"{name} is one of {', '.join(choices)}, not {value!r}.")
            # A bool is an int to Python, and an int does for a float.
            allowed = (int, float) if kind is float else kind
            if not choices and (
                not isinstance(value, allowed) or isinstance(value, bool) != (kind is bool)
            ):
                raise BadInput(f"{name} is {kind.__name__}, not {value!r}.")
        for name, least, most in (
            ("outputs", 2, math.inf),
            ("epochs", 1, math.inf),
            ("batch_size", 2, math.inf),
            ("image_size", LEAST_IMAGE, PACK_SIDE),
            ("momentum", 0.0, 1.0),
            ("weight_decay", 0.0, math.inf),
            ("seed", 0, 2**63 - 1),
            ("label_smoothing", 0.0, 0.9),
            ("clip_norm", 0.0, math.inf),
            ("ema", 0.0, 0.99999),
            ("patience", 0, math.inf),
            ("backbone_rate", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if not (least <= value <= most and value < math.inf):
                to = "any finite number" if most == math.inf else most
                raise BadInput(f"{name} is {value}; it goes from {least} to {to}.")
        self._check_together()

    def _check_together(self) -> None:
        if not 0.0 < self.lr < math.inf:
            raise BadInput(f"lr is {self.lr}; it must be greater than 0 and finite.")
        if self.pairs != "owner" and self.objective != "rank":
            raise BadInput(f"--pairs is for --objective rank; {self.objective} compares no photos.")
        if self.nesterov and self.momentum == 0.0:
            raise BadInput("Nesterov's step needs a momentum greater than 0.")
        if self.freeze and self.weights == "none":
            raise BadInput(
                "--freeze trains a head on trained weights, and --weights none has none: leave out"
                " --freeze, or give --weights imagenet or the path of a file of weights."
            )
        if self.freeze and self.ema:
            raise BadInput("freeze trains the head alone, without ema; leave one of them out.")

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as plain values; `from_json` makes it anew."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Config:
        """Return the configuration that `to_json` gave; raises `BadInput` for anything else.

        One of an older popq lacks what was added since: such a run did without.
        """
        known = {field.name for field in fields(cls)}
        if odd := (known - ADDED) ^ (set(values) - ADDED):
            raise BadInput(f"This is no configuration of this popq: see {', '.join(sorted(odd))}.")
        return cls(**values)


#: Fields that the first configurations did not have. Their defaults are what was done then.
ADDED = frozenset(
    (
        "pairs",
        "label_smoothing",
        "clip_norm",
        "ema",
        "patience",
        "backbone_rate",
        "freeze",
        "compile",
    )
)
#: `default` is for a good result (`configure` fits batch and rate to the data); `seed` does what
#: the student of 2021 did, whose report says ImageNet but whose code started from random weights.
PRESETS: dict[str, Config] = {
    "default": Config(label_smoothing=0.1, clip_norm=5.0, ema=0.99),
    "seed": Config(
        weights="none",
        batch_size=16,
        lr=0.01,
        momentum=0.5,
        nesterov=False,
        weight_decay=0.0,
        schedule="constant",
    ),
}
#: A preset's batch is halved until an epoch has at least so many steps: with fewer, some epochs
#: are too few steps to learn anything.
LEAST_STEPS, LEAST_BATCH = 25, 16
#: The highest rate a photo of a batch, from random weights and from trained ones.
LR_FROM_RANDOM, LR_FROM_TRAINED = 0.05 / 32, 0.01 / 32


def configure(preset: str, photos: int, **options: Any) -> Config:
    """Return preset `preset` with `options` (fields of `Config`) for `photos` training photos.

    In the default preset a batch size and a rate that `options` leave open follow from the number
    of photos and from the weights: batches of 64, or smaller until an epoch has `LEAST_STEPS`
    steps; a rate in proportion to the batch, five times higher from random weights. Raises
    `BadInput` for an unknown preset or option.
    """
    if preset not in PRESETS:
        raise BadInput(f"No preset is called {preset!r}; there are: {', '.join(PRESETS)}.")
    base = PRESETS[preset]
    if odd := set(options) - {field.name for field in fields(Config)}:
        raise BadInput(f"No option of training is called {', '.join(sorted(odd))}.")
    if preset == "default":
        batch = base.batch_size
        while batch > LEAST_BATCH and photos < batch * LEAST_STEPS:
            batch //= 2
        options = {"batch_size": batch} | options
        if options.get("freeze"):
            options = {"ema": 0.0} | options
        # A frozen network's head, the one layer that learns, starts from random weights.
        fresh = options.get("weights", base.weights) == "none" or options.get("freeze")
        rate = LR_FROM_RANDOM if fresh else LR_FROM_TRAINED
        options = {"lr": rate * options["batch_size"]} | options
    return replace(base, **options)


def learning_rate(config: Config, step: int, steps: int) -> float:
    """Return the rate of step `step` (from 0) of `steps`; a pure function, so nothing to save.

    "onecycle": up along a cosine from lr / 25 in the first 30 % of the steps, then down along one
    to lr / 10,000 (Smith 2018, in fast.ai's shape); "cosine": the same, up in the first 5 %.
    """
    if config.schedule == "constant":
        return config.lr
    peak = WARM_UP[config.schedule] * steps
    if step < peak:
        start, end, way = START_SHARE, 1.0, step / peak
    else:
        start, end, way = 1.0, END_SHARE, (step - peak) / (steps - peak)
    return config.lr * (end + (start - end) * (1 + math.cos(math.pi * way)) / 2)
