"""The network: which one, with which weights, on which device, in which precision."""

from __future__ import annotations

import copy
import itertools
import platform
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Final, Literal

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, hub, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision import models

from popq.errors import BadInput, Misconfigured

Arch = Literal["resnet50", "resnet18"]
ARCHS: tuple[Arch, ...] = ("resnet50", "resnet18")
#: Weights that have a name; all others are a file's.
KEYWORDS = ("none", "imagenet")
#: The last layer, whose size is the number of outputs: in torchvision's ResNets `fc`.
HEAD = "fc."
#: A host of weights that sends nothing for so long is given up.
SILENT_S: Final = 30.0


class Head(nn.Linear):
    """The last layer, always in float32.

    In bfloat16 an output has 128 values between one power of two and the next, so that photos
    whose scores differ by less would be equal.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs (B, outputs) float32 of features (B, F) of any precision."""
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.float())


def build(arch: Arch, outputs: int, weights: str) -> nn.Module:
    """Return the network with `outputs` outputs; its input is (B, 3, S, S) float32, normalised.

    `weights` is "none" (random, from torch's generator), "imagenet" (torchvision's, fetched once
    into torch's cache) or the path of a state dict (.safetensors, or .pth without pickled code).
    A head of another size is left out and stays random. Raises `Misconfigured` when ImageNet's
    weights cannot be fetched, `BadInput` for a file that is missing, broken or of another network.
    """
    if arch not in ARCHS:
        raise BadInput(f"No network is called {arch!r}; choose one of {', '.join(ARCHS)}.")
    model: nn.Module = models.get_model(arch, weights=None, num_classes=outputs)
    model.fc = Head(model.get_submodule("fc").in_features, outputs)  # type: ignore[arg-type]
    if weights != "none":
        path = _imagenet(arch) if weights == "imagenet" else Path(weights)
        _adopt(model, read_weights(path), str(path))
    return model


def full_path(weights: str) -> str:
    """Return the full path of a file of weights, the same from every folder; a keyword as it is."""
    return weights if weights in KEYWORDS else str(Path(weights).resolve())


def check_weights(weights: str) -> None:
    """Raise `BadInput` unless `weights` is a keyword or a file that can be opened."""
    if weights in KEYWORDS:
        return
    try:
        Path(weights).open("rb").close()
    except OSError as error:
        raise BadInput(
            f"{weights} cannot be read as weights: {error.strerror}. Give --weights the path of a"
            " file that is there, imagenet, or none."
        ) from error


def _imagenet(arch: Arch) -> Path:
    """Return where torch's cache has ImageNet's weights, which are fetched if it has none.

    torchvision's own way to load them would run what a cached file has pickled.
    """
    url: str = models.get_model_weights(arch).DEFAULT.url
    name = url.rsplit("/", 1)[-1]
    cached = Path(hub.get_dir(), "checkpoints", name)
    if cached.exists():
        return cached
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with _patience(SILENT_S):
            # Written beside it and renamed; the name ends with the beginning of its hash.
            hash_prefix = cached.stem.rpartition("-")[2]
            hub.download_url_to_file(url, str(cached), hash_prefix, progress=False)
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: the hash is wrong
        raise Misconfigured(
            f"ImageNet's weights for {arch} could not be fetched: {error}. Fetch {url} "
            f"elsewhere and give --weights PATH/{name}, "
            "or start from random weights with --weights none."
        ) from error
    return cached


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Let connections made meanwhile end when nothing comes for so long; torch's has no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a .safetensors or .pth file, on the CPU, without running pickles.

    Raises `BadInput` when the file is missing, broken, or holds anything but named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged bytes lead the unpickler anywhere: to a KeyError, to an IndexError.
        why = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise BadInput(
            f"{path} cannot be read as weights ({why}). Put a whole file there; one that popq "
            "fetched itself may be deleted."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise BadInput(
            f"{path} holds no plain state dict (names and tensors); save model.state_dict() alone."
        )
    return state


def _adopt(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load `state` into `model`; the head may differ in size, then it is left as it is."""
    own = model.state_dict()
    taken = {}
    for name, tensor in own.items():
        given = state.get(name)
        fits = given is not None and given.shape == tensor.shape
        if given is not None and fits:
            taken[name] = given
        elif not name.startswith(HEAD):
            found = "nothing" if given is None else list(given.shape)
            raise BadInput(
                f"{source} belongs to another network: {name} should be {list(tensor.shape)}, "
                f"there is {found}. Choose the --arch that it was made with."
            )
    for name in state:
        if name not in own:
            raise BadInput(f"{source} belongs to another network: it has {name}, which ours lacks.")
    if not all(name in taken for name in own if name.startswith(HEAD)):
        # Half a head (its bias may fit by chance) would be worse than a new one.
        taken = {name: tensor for name, tensor in taken.items() if not name.startswith(HEAD)}
    model.load_state_dict(own | taken)


def pick_device(name: str) -> torch.device:
    """Return the device called "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N".

    Raises `Misconfigured` for a GPU that is not there, `BadInput` for any other name.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (":" in name and not index.isdecimal()):
        raise BadInput(f"No device is called {name!r}; say auto, cpu, cuda or cuda:N.")
    if kind == "cpu":
        return torch.device("cpu")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= found:
        raise Misconfigured(
            f"There is no device {name}: torch {torch.__version__} sees {found} GPUs here. "
            "Check the driver, or choose --device cpu (POPQ_DEVICE=cpu)."
        )
    return torch.device(name)


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return bfloat16 where the hardware computes it, None (stay in float32) elsewhere.

    Measured with ResNet50: on a CPU with AVX-512 bf16 it is worth 2.2 times in training; without
    such instructions it is emulated and slower than float32.
    """
    if device.type == "cuda":
        real = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        real = bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return torch.bfloat16 if real else None


def versions(device: torch.device) -> dict[str, str]:
    """Return what a run's numbers may depend on: versions, hardware, precision."""
    if device.type == "cuda":
        hardware = torch.cuda.get_device_name(device)
    else:
        able = torch.cpu.get_capabilities()
        hardware = str(able.get("cpu_name") or platform.machine())
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "device": str(device),
        "hardware": hardware,
        "precision": str(autocast_dtype(device) or torch.float32).removeprefix("torch."),
    }


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """Move the network to `device`, channels last in memory (with bf16 worth 2.5 times on CPUs)."""
    if device.type == "cuda":
        # Batches come in one or two shapes, so trying cuDNN's ways once pays.
        torch.backends.cudnn.benchmark = True
    model = model.to(device=device)
    return model.to(memory_format=torch.channels_last)


def to_score(model: nn.Module, device: torch.device) -> nn.Module:
    """Return a copy of the network that only looks: placed on `device`, in eval mode.

    Its batch norms are folded into the convolutions before them: the same function, but for
    rounding, in fewer steps (ResNet50 in bf16 on two cores: 1.15 times as fast).
    """
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        # In torchvision's ResNets each norm comes right behind its convolution.
        for (before, conv), (name, norm) in itertools.pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, before, fuse_conv_bn_eval(conv, norm))
                setattr(module, name, nn.Identity())
    return place(model, device)
