"""Checkpoints: one safetensors file each, its facts as JSON in the file's own header.

One file, so that weights and facts can never be of different epochs; written under a temporary
name, synced, renamed, so that a kill at any moment leaves the old one or the new one whole. No
pickle: reading a stranger's checkpoint runs nothing. The header also has a sha256 over facts and
tensors, so that a disk's damage is found before it is trained on or scored with.

`last.safetensors` has all that the next epoch needs: weights, optimizer, the reports so far. What
is random (order, crops, flips) is drawn from (seed, epoch), and the rate is a function of the
step, so no generator and no schedule needs saving. `best.safetensors` has the weights of the best
epoch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from popq.errors import BadInput, Misconfigured

#: The header's entry that holds the facts, and the version of their shape.
KEY, FORMAT = "popq", 1
#: The fact that is the sha256 of the others and the tensors; checkpoints of before have none. No
#: entry of its own: the header's entries come in any order, and the same training must give the
#: same file.
DIGEST = "sha256"

#: Raises what stops a writer that may not write any more: the run is another's by now.
MayWrite = Callable[[], None]


def path_of(folder: Path, name: str) -> Path:
    """Return the file of checkpoint `name` ("last" or "best") in `folder`."""
    return folder / f"{name}.safetensors"


def write(
    folder: Path,
    name: str,
    tensors: Mapping[str, Tensor],
    facts: dict[str, Any],
    may_write: MayWrite = lambda: None,
) -> None:
    """Write checkpoint `name` whole or not at all; raises `Misconfigured` if the disk refuses.

    `may_write` is asked last, before the file takes its name: what it raises leaves the one before.
    """
    path = path_of(folder, name)
    # A name of its own: whoever has lost the run and does not know it yet may be writing, too.
    temporary = folder / f"{name}.{uuid4().hex}.tmp"
    here = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    said = {"format": FORMAT} | facts
    header = {KEY: json.dumps(said | {DIGEST: _sha256(said, here)})}
    try:
        # safetensors makes a file that is its owner's alone. Ours says what the umask allows: a
        # scorer may be another user.
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(here, temporary, header)
        temporary.chmod(mode)
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        # Files know no lease, so a writer that sleeps just here still renames when it wakes.
        may_write()
        temporary.replace(path)
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except (OSError, SafetensorError) as error:
        raise Misconfigured(
            f"The checkpoint {path} cannot be written: {error}. Free or mount the disk, then "
            "start the run again: it goes on from the last whole epoch."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def read(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors (on the CPU) and facts of checkpoint `name`.

    Raises `BadInput` when the file is missing, broken, or not written by a popq of this format.
    """
    path = path_of(folder, name)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dict
    except FileNotFoundError as error:
        raise BadInput(
            f"The checkpoint {path} cannot be read: it is missing. Put it back, or train anew."
        ) from error
    except (OSError, SafetensorError) as error:
        raise BadInput(
            f"The checkpoint {path} cannot be read: {error}. Delete it to train anew, or put the "
            "right file back."
        ) from error
    try:
        facts = json.loads(header[KEY])
    except (KeyError, ValueError) as error:
        raise BadInput(
            f"{path} is no checkpoint of popq. Move it away to train anew; as a start, give it "
            "with --weights."
        ) from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise BadInput(f"The checkpoint {path} was written by another version of popq.")
    expected = facts.pop(DIGEST, None)
    if expected is not None and expected != _sha256(facts, tensors):
        raise BadInput(
            f"The checkpoint {path} is damaged: its sha256 is not the one it was written with. "
            "Delete it to train anew, or put the right file back."
        )
    return tensors, facts


def _sha256(facts: dict[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 in hex of the facts and of the tensors (on the CPU), in order of name."""
    digest = hashlib.sha256(json.dumps(facts).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def clear_temporary(folder: Path) -> None:
    """Remove what a killed writer left half written."""
    for path in folder.glob("*.tmp"):
        path.unlink(missing_ok=True)


def weights_sha256(folder: Path, name: str = "best") -> str:
    """Return the SHA-256 of checkpoint `name`'s file in hex; `BadInput` if it is missing."""
    try:
        with path_of(folder, name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"There is no checkpoint to read: {error}") from error
