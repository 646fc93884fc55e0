"""Where photo files are kept: a store keyed by content, on a disk or behind any fsspec URL.

A key is made of the bytes' sha256, so a file once written never changes, writing it twice is
harmless, and two photos with the same bytes share one file. On a disk a file is written under
another name in the same file system, synced and then renamed: after a crash a key holds the whole
file or nothing. Object stores (`s3://…`) give the same by themselves: a put shows up whole.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO, cast

import fsspec.core
from fsspec.implementations.local import LocalFileSystem

from popq.errors import Misconfigured, Outcome, Permanent, ServiceDown, without_password

_SHA256 = re.compile(r"[0-9a-f]{64}")
_EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg"}
_SCRATCH = ".scratch"
_PROBE = b"popq"
#: What a disk without room says; it passes, as soon as there is room.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
WHEN_FULL = "Free space there: work goes on by itself, and nothing is lost."


def key_for(sha256: str, format: str) -> str:  # noqa: A002 - what Pillow calls it
    """Return the key of a file: `ab/cd/abcd….jpg` for sha256 in hex and Pillow's format name."""
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"{sha256!r} is no sha256 in lower-case hex")
    extension = _EXTENSIONS.get(format, format.lower())
    return f"{sha256[:2]}/{sha256[2:4]}/{sha256}.{extension}"


class Store:
    """Photo files by key, under a folder or an fsspec URL; any number of threads may share one.

    Every method raises `Misconfigured` when the store refuses (no permission) and `ServiceDown`
    when it is full or cannot be reached: that passes.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        # What messages show: a URL may carry a password.
        self._shown = without_password(url)
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            message = f"the store {self} cannot be used: {error}. Correct POPQ_STORE_URL."
            raise Misconfigured(message) from error
        self._root: str = root.rstrip("/")
        self._folder = Path(root) if isinstance(self._fs, LocalFileSystem) else None

    def __str__(self) -> str:
        return self._shown

    def put(self, path: Path, key: str) -> None:
        """Keep the file at `path` under `key`; a file of the same size that is there is left.

        A file in `scratch()` of a local store is moved, any other is copied and left alone; the
        caller may remove it in either case (`unlink(missing_ok=True)`).
        """
        there = self._find_size(key)
        with self._naming(key):
            if there == path.stat().st_size:
                return
            if self._folder is None:
                self._fs.put_file(str(path), self._remote(key))
            else:
                self._put_local(path, self._folder / key)

    def open(self, key: str) -> BinaryIO:
        """Open the file for reading bytes; raises `Permanent` FILE_MISSING when it is not there."""
        with self._naming(key):
            try:
                if self._folder is not None:
                    return (self._folder / key).open("rb")
                return cast("BinaryIO", self._fs.open(self._remote(key), "rb"))
            except FileNotFoundError as error:
                raise self._missing(key) from error

    def exists(self, key: str) -> bool:
        """Say whether there is a file under `key`."""
        return self._find_size(key) is not None

    def size(self, key: str) -> int:
        """Return the file's size in bytes; raises `Permanent` FILE_MISSING without a file."""
        size = self._find_size(key)
        if size is None:
            raise self._missing(key)
        return size

    def delete(self, key: str) -> None:
        """Remove the file, if it is there."""
        with self._naming(key):
            if self._folder is not None:
                (self._folder / key).unlink(missing_ok=True)
            elif self._fs.exists(self._remote(key)):
                self._fs.rm_file(self._remote(key))

    def check(self) -> None:
        """Write, read and remove a probe; raises `Misconfigured` when it is not kept."""
        key = f".probe-{uuid.uuid4().hex}"
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder, "probe")
            probe.write_bytes(_PROBE)
            self.put(probe, key)
        with self.open(key) as file:
            found = file.read()
        self.delete(key)
        if found != _PROBE or self.exists(key):
            message = f"the store {self} does not keep what is written; set POPQ_STORE_URL"
            raise Misconfigured(f"{message} to another folder or bucket.")

    def scratch(self) -> Path:
        """Return the folder for downloads under way, made if needed.

        For a local store it lies inside the store, so that `put` is a rename within one file
        system; otherwise it is the system's folder for temporary files.
        """
        if self._folder is None:
            return Path(tempfile.gettempdir())
        folder = self._folder / _SCRATCH
        with self._naming(_SCRATCH):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _put_local(self, path: Path, target: Path) -> None:
        scratch = self.scratch()
        if path.parent == scratch:
            synced = path
        else:
            synced = scratch / f"{target.name}.{uuid.uuid4().hex}"
            shutil.copyfile(path, synced)
        sync(synced)
        _make_folder(target.parent)
        synced.replace(target)
        sync(target.parent)

    def _find_size(self, key: str) -> int | None:
        with self._naming(key):
            try:
                if self._folder is not None:
                    return (self._folder / key).stat().st_size
                return int(self._fs.size(self._remote(key)))
            except FileNotFoundError:
                return None

    def _remote(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _missing(self, key: str) -> Permanent:
        return Permanent(f"{key} is not in the store {self}", outcome=Outcome.FILE_MISSING)

    @contextmanager
    def _naming(self, key: str) -> Iterator[None]:
        """Turn what the file system raises into an error that names file and store."""
        try:
            yield
        except (ConnectionError, TimeoutError) as error:
            raise ServiceDown(f"the store {self} does not answer: {error}") from error
        except OSError as error:
            message = f"the store {self} refuses {key}: {error}."
            if error.errno in FULL:
                raise ServiceDown(f"{message} {WHEN_FULL}") from error
            message += " Correct its permissions or set POPQ_STORE_URL."
            raise Misconfigured(message) from error


def write_whole(file: FileIO, data: bytes) -> None:
    """Write all of `data` to an unbuffered file; raises `OSError` when only a part finds room.

    Unbuffered, since a buffer that could not be written fails again, unnamed, at closing.
    """
    if file.write(data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents so that they survive a crash."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Wait until a local file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
