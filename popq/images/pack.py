"""A data set's crops as one array of bytes: decoded once, then read by every epoch.

A pack is a folder with `pixels.u8`, the rows one after another (256x256 RGB, 196,608 bytes
each, in the order of the data set), and `pack.json`, which says for which data set, how many rows
are done, and the sha256 of each block of them. `pack.json` is written by rename after the rows that
it counts are synced, every `BLOCK` rows: after a kill the build goes on from there, and a torn pack
is never opened. A disk's damage shows in the blocks' sha256, once a run.

Threads, since Pillow lets go of the interpreter's lock while it decodes and resizes: two threads
on two cores reached what two processes did, without sending pixels between processes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt
import structlog

from popq.errors import BadInput, Misconfigured, Permanent, Transient
from popq.images.decode import SIDE, crop, decode
from popq.images.store import sync, write_whole

log = structlog.get_logger()

#: Rows between two records of progress: about two seconds of work on two cores.
BLOCK = 1024
#: Changes when the file's layout or the recipe in `decode` does.
VERSION = 1
#: So often a build that waits for another one looks whether that has ended.
LOOK_S = 1.0

#: Called with the number of rows done so far; what it raises ends the work.
OnProgress = Callable[[int], None]

_PIXELS = "pixels.u8"
_RECORD = "pack.json"
_ROW_BYTES = SIDE * SIDE * 3
#: Rows decoded ahead of the writer (50 MB), so that workers have work while it syncs.
_AHEAD = 256


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """An open pack: `pixels` is (count, 256, 256, 3) uint8, mapped from the file, read-only."""

    pixels: npt.NDArray[np.uint8]
    count: int


def folder_of(packs: Path, fingerprint: str) -> Path:
    """Return the folder, below `packs`, of the pack of the data set with this fingerprint."""
    return packs / fingerprint[:16]


def remove(folder: Path) -> None:
    """Remove a pack, if there is one; a run that has it open reads it to its end.

    Raises `Misconfigured` when the folder cannot be removed.
    """
    with _naming(folder):
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            return


def open_pack(folder: Path, fingerprint: str, count: int) -> Pack | None:
    """Open the pack of this data set; None when absent, unfinished, torn or of another one."""
    pixels = folder / _PIXELS
    if _read_record(folder, fingerprint, count)[0] < count:
        return None
    if not pixels.is_file() or pixels.stat().st_size != count * _ROW_BYTES:
        return None
    shape = (count, SIDE, SIDE, 3)
    return Pack(np.memmap(pixels, dtype=np.uint8, mode="r", shape=shape), count)


def build(
    folder: Path,
    fingerprint: str,
    keys: Sequence[str],
    read: Callable[[str], BinaryIO],
    *,
    workers: int,
    on_progress: OnProgress | None,
) -> Pack:
    """Decode the photos of `keys`, in that order, into a pack, or finish one that was begun.

    `read` opens a key's file (called in the workers' threads); `on_progress` is called after each
    row with the number of rows written so far, and every second while another process builds the
    pack, which is waited for. The bytes do not depend on `workers`. A damaged pack is built anew.
    Raises the `Permanent` or `Transient` of a photo that cannot be read, naming its key,
    `Misconfigured` when the disk is full or refuses, and `BadInput` without keys.
    """
    if not keys:
        raise BadInput("a pack of no photos cannot be built; download some first")
    # A finished pack needs no lock; it may be another user's, who lets us read it only.
    there = _open_whole(folder, fingerprint, len(keys), on_progress)
    if there is not None:
        return there

    def wait() -> None:
        if on_progress is not None:
            on_progress(_read_record(folder, fingerprint, len(keys))[0])
        time.sleep(LOOK_S)

    with _alone(folder, wait):
        done = _begin(folder, fingerprint, len(keys), on_progress)
        with closing(_rows(keys[done:], read, workers)) as rows:
            _write(folder, fingerprint, len(keys), done, rows, on_progress)
        pack = open_pack(folder, fingerprint, len(keys))
    if pack is None:
        raise Misconfigured(f"{folder} changed while it was built; is another build at work there?")
    return pack


def _open_whole(
    folder: Path, fingerprint: str, count: int, on_progress: OnProgress | None
) -> Pack | None:
    """Open the pack as `open_pack` does, but read it through first: None too when it is damaged."""
    pack = open_pack(folder, fingerprint, count)
    if pack is None:
        return None
    done, digests = _read_record(folder, fingerprint, count)
    return pack if _is_whole(folder, done, digests, on_progress) else None


def _write(
    folder: Path,
    fingerprint: str,
    count: int,
    done: int,
    rows: Iterator[bytes],
    on_progress: OnProgress | None,
) -> None:
    """Write the rows from `done` on, and record each block once it is on the disk."""
    _, digests = _read_record(folder, fingerprint, count)
    digest = hashlib.sha256()
    with _naming(folder):
        file = (folder / _PIXELS).open("r+b", buffering=0)
    with file:
        file.seek(done * _ROW_BYTES)
        file.truncate()
        for row, pixels in enumerate(rows, start=done + 1):
            with _naming(folder):
                write_whole(file, pixels)
                digest.update(pixels)
                if row % BLOCK == 0 or row == count:
                    os.fsync(file.fileno())
                    digests[str(row)] = digest.hexdigest()
                    _record(folder, fingerprint, count, row, digests)
                    digest = hashlib.sha256()
            if on_progress is not None:
                on_progress(row)


@contextmanager
def _alone(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold the folder's lock, so that two runs of one data set do not build over each other.

    While another process has it, `wait` is called again and again; what it raises ends the waiting.
    """
    with _naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    with lock:
        # Let go when the file is closed, also by a death.
        while not _locked(lock):
            wait()
        yield


def _locked(lock: IO[str]) -> bool:
    """Take the lock if it is free; never waits, as nothing could end that but the other's end."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _rows(
    keys: Sequence[str], read: Callable[[str], BinaryIO], workers: int
) -> Generator[bytes, None, None]:
    """Yield the photos' crops in the order of `keys`, decoded by `workers` threads ahead."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="pack")
    try:
        todo = iter(keys)
        ahead = deque(pool.submit(_row, key, read) for key in islice(todo, _AHEAD))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(_row, key, read) for key in islice(todo, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def _row(key: str, read: Callable[[str], BinaryIO]) -> bytes:
    try:
        with read(key) as file:
            return crop(decode(file).image).tobytes()
    except (Permanent, Transient) as error:
        message = f"{key} cannot be packed: {error}"
        raise type(error)(message, outcome=error.outcome) from error


def _begin(folder: Path, fingerprint: str, count: int, on_progress: OnProgress | None) -> int:
    """Make the folder ready and return how many rows of this very data set it already holds."""
    pixels = folder / _PIXELS
    with _naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        done, digests = _read_record(folder, fingerprint, count)
        size = pixels.stat().st_size if pixels.is_file() else 0
        free = shutil.disk_usage(folder).free
    torn = size < done * _ROW_BYTES
    if done == 0 or torn or not _is_whole(folder, done, digests, on_progress):
        if done:
            log.warning("pack damaged: it is built anew", folder=str(folder))
        done = 0
        with _naming(folder):
            _record(folder, fingerprint, count, done, {})
            # A new file, not the old one cut: a run may still have the old one mapped.
            pixels.unlink(missing_ok=True)
            pixels.touch()
    missing = (count - done) * _ROW_BYTES - free
    if missing > 0:
        message = f"{folder} is short of {missing / 1e9:.1f} GB for a pack of {count:,} photos"
        raise Misconfigured(f"{message}; free them or set POPQ_DATA_DIR to a larger disk.")
    return done


def _is_whole(
    folder: Path, done: int, digests: dict[str, str], on_progress: OnProgress | None
) -> bool:
    """Return whether the rows that are done are those that were written, by their blocks' sha256.

    Blocks that were written by a popq that kept none are taken as they are.
    """
    with _naming(folder):
        file = (folder / _PIXELS).open("rb")
    with file:
        for start in range(0, done, BLOCK):
            end = min(start + BLOCK, done)
            expected = digests.get(str(end))
            with _naming(folder):
                if expected is not None and _digest(file, start, end) != expected:
                    return False
            if on_progress is not None:
                on_progress(end)
    return True


def _digest(file: BinaryIO, start: int, end: int) -> str:
    """Return the sha256 of these rows; read row by row, since a block takes 200 MB of memory."""
    digest = hashlib.sha256()
    file.seek(start * _ROW_BYTES)
    for _ in range(start, end):
        digest.update(file.read(_ROW_BYTES))
    return digest.hexdigest()


def _read_record(folder: Path, fingerprint: str, count: int) -> tuple[int, dict[str, str]]:
    """Return the rows recorded as done for this data set, and their blocks' sha256 by last row.

    There are none when the record is of another data set.
    """
    with _naming(folder):
        try:
            record = json.loads((folder / _RECORD).read_bytes())
        except (FileNotFoundError, ValueError):
            return 0, {}
    if not isinstance(record, dict):
        return 0, {}
    done, digests = record.get("done"), record.setdefault("sha256", {})
    if not isinstance(done, int) or not 0 <= done <= count or not isinstance(digests, dict):
        return 0, {}
    same = record == _record_of(fingerprint, count, done, digests)
    return (done, digests) if same else (0, {})


def _record(folder: Path, fingerprint: str, count: int, done: int, digests: dict[str, str]) -> None:
    part = folder / f"{_RECORD}.part"
    record = _record_of(fingerprint, count, done, digests)
    part.write_text(json.dumps(record, indent=1) + "\n")
    sync(part)
    part.replace(folder / _RECORD)
    sync(folder)


def _record_of(fingerprint: str, count: int, done: int, digests: dict[str, str]) -> dict[str, Any]:
    return {
        "version": VERSION,
        "fingerprint": fingerprint,
        "count": count,
        "side": SIDE,
        "done": done,
        "sha256": digests,
    }


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"the pack in {folder} cannot be used: {error}. Free space there, correct its"
        raise Misconfigured(f"{message} permissions or set POPQ_DATA_DIR.") from error
