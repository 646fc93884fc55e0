"""Features of a frozen network: what its last layer gets to see, computed once and kept.

They depend on the photos, the weights and the size of the pictures alone, so every run that
shares these reads one file, beside the pack: training a head then takes seconds on a CPU.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from popq.errors import Misconfigured
from popq.images.pack import VERSION
from popq.learn.model import HEAD, autocast_dtype, to_score
from popq.learn.predict import CHUNK, outputs
from popq.learn.training import Training, head


def of(training: Training, folder: Path, on_photos: Callable[[int], None]) -> NDArray[np.float32]:
    """Return the features of all photos, (N, F), mapped from a file in `folder`, made if need be.

    Photos are seen by their centre. `on_photos` hears of photos done. In several processes the
    leader computes them. Raises `Misconfigured` when the disk refuses.
    """
    path = folder / f"features-{_key(training)}.npy"
    count = len(training.data.pixels)
    if training.engine.leads and _mapped(path, count) is None:
        _write(training, path, on_photos)
    training.engine.same(None)  # the leader is done
    mapped = _mapped(path, count)
    if mapped is None:
        raise Misconfigured(f"{path} is gone or cut; all processes need one disk to share.")
    return mapped


def _key(training: Training) -> str:
    """Return what names the features: pack, weights below the head, size, statistics, precision."""
    config, data, dtype = training.config, training.data, autocast_dtype(training.device)
    seen = (VERSION, config.arch, config.image_size, data.mean, data.std, dtype)
    digest = hashlib.sha256(repr(seen).encode())
    for name, tensor in training.model.state_dict().items():
        if not name.startswith(HEAD):
            digest.update(name.encode())
            digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _mapped(path: Path, count: int) -> NDArray[np.float32] | None:
    """Open the file; None when it is absent, cut short or of another number of photos."""
    try:
        features: NDArray[np.float32] = np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        return None
    return features if len(features) == count else None


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Make a file of a name of its own to write `path` in, locked as long as it is written.

    Gone at the end, unless it was renamed. By the lock, which a death lets go of, others tell it
    from what a killed process left.
    """
    while True:
        temporary = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
        with temporary.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not temporary.exists():
                continue  # taken for a leftover before it was locked
            try:
                yield temporary
            finally:
                temporary.unlink(missing_ok=True)
            return


def _clear(folder: Path) -> None:
    """Remove the features (gigabytes) that killed processes left half written."""
    for path in folder.glob("features-*.tmp"):
        # Another process is writing it, or it is another user's: not ours to remove.
        with suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _write(training: Training, path: Path, on_photos: Callable[[int], None]) -> None:
    data, last, pixels = training.data, head(training.model), training.config.image_size
    size = CHUNK[training.device.type]

    def photos() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(data.pixels), size):
            yield data.pixels[start : start + size]

    width = last.get_parameter("weight").shape[1]
    setattr(training.model, HEAD.rstrip("."), nn.Identity())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path.parent)
        with _temporary(path) as temporary:
            shape = (len(data.pixels), width)
            file = np.lib.format.open_memmap(temporary, "w+", dtype=np.float32, shape=shape)
            norm, done = (data.mean, data.std), 0
            model = to_score(training.model, training.device)
            chunks = outputs(model, photos(), pixels, norm, training.device)
            with closing(chunks):
                for features in chunks:
                    file[done : done + len(features)] = _array(features)
                    done += len(features)
                    on_photos(done)
            file.flush()
            with temporary.open("r+b") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
    except OSError as error:
        raise Misconfigured(f"The features {path} cannot be written: {error}.") from error
    finally:
        setattr(training.model, HEAD.rstrip("."), last)


def _array(features: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = features.cpu().numpy()
    return array
