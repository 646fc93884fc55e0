"""Where photo files are kept: a store keyed by content, on a disk or behind any fsspec URL.

A key is made of the bytes' sha256, so a file once written never changes, writing it twice is
harmless, and two photos with the same bytes share one file. On a disk a file is written under
another name in the same file system, synced and then renamed: after a crash a key holds the whole
file or nothing. Object stores (`s3://…`) give the same by themselves: a put shows up whole.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO, FileIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import fsspec.core
from fsspec.implementations.local import LocalFileSystem

from popq.errors import Misconfigured, Outcome, Permanent, PopqError, ServiceDown, without_password

_SHA256 = re.compile(r"[0-9a-f]{64}")
_OURS = re.compile(r"[0-9a-f]{2}/([0-9a-f]{64}\.[a-z0-9]+|\.[0-9a-f]{32}\.part)")
_EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg"}
#: How the names of files end that are being written.
_PART = ".part"
_PROBE = b"popq"
#: What a disk without room says; it passes, as soon as there is room.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
WHEN_FULL = "Free space there: work goes on by itself, and nothing is lost."
#: What s3fs makes of 500, 503 and "slow down".
_BUSY = frozenset({errno.EBUSY, getattr(errno, "EREMOTEIO", errno.EBUSY)})
#: What object stores, and gateways before them, answer when it passes. s3fs knows few of these: to
#: it a 502 is as final as a wrong key. (409: another put or delete of the same key is under way.)
_PASSING = frozenset({408, 409, 429, 500, 502, 503, 504})
#: Errors of the libraries below fsspec, which are no `OSError`. By the names of their classes,
#: since which library is installed is the store's business: s3:// needs botocore and aiohttp.
_NO_ANSWER = frozenset(
    {
        "botocore.exceptions.ConnectionError",
        "botocore.exceptions.HTTPClientError",
        "botocore.exceptions.IncompleteReadError",
        "aiohttp.client_exceptions.ClientConnectionError",
        "aiohttp.client_exceptions.ClientPayloadError",
    }
)
#: No credentials, no region, a bucket's name that cannot be.
_REFUSAL = frozenset({"botocore.exceptions.BotoCoreError", "botocore.exceptions.ClientError"})


def key_for(sha256: str, format: str) -> str:  # noqa: A002 - what Pillow calls it
    """Return the key of a file: `ab/abcd….jpg` for sha256 in hex and Pillow's format name.

    One level of 256 folders: with two, nearly every one of the first 65,536 photos would make a
    folder of its own and wait for the disk to keep it.
    """
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"{sha256!r} is no sha256 in lower-case hex")
    extension = _EXTENSIONS.get(format, format.lower())
    return f"{sha256[:2]}/{sha256}.{extension}"


def is_ours(key: str) -> bool:
    """Return whether popq gives such names: to a photo's file, or to one that is being written."""
    return _OURS.fullmatch(key) is not None


class Store:
    """Photo files by key, under a folder or an fsspec URL; any number of threads may share one.

    Every method raises `Misconfigured` when the store refuses (no permission) and `ServiceDown`
    when it is full, busy or cannot be reached: that passes.
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

    @property
    def folder(self) -> Path | None:
        """The folder that the files lie in; None for a store that is no disk's."""
        return self._folder

    def put(self, data: bytes, key: str) -> None:
        """Keep `data` under `key`, once: a file of the same size that is there is left."""
        with self._naming(key):
            if self._folder is not None:
                target = self._folder / key
                if _size(target) != len(data):
                    self._put_local(data, target)
                else:
                    # Its age tells whether somebody may be about to name it.
                    with suppress(PermissionError):  # another user's file
                        os.utime(target)
                return
            try:
                # A conditional put, where the store knows it: one request, and never over a file
                # that is there.
                self._fs.pipe_file(self._remote(key), data, mode="create")
            except FileExistsError:
                if self.find_size(key) != len(data):
                    self._fs.pipe_file(self._remote(key), data)

    def open(self, key: str) -> BinaryIO:
        """Open the file for reading bytes; raises `Permanent` FILE_MISSING when it is not there."""
        with self._naming(key):
            try:
                if self._folder is not None:
                    return (self._folder / key).open("rb")
                # Whole, so that no reader meets a network's error; a photo has some megabytes.
                return BytesIO(self._fs.cat_file(self._remote(key)))
            except FileNotFoundError as error:
                _check_bucket(error)
                raise self._missing(key) from error

    def path(self, key: str) -> Path | None:
        """Return where the file of `key` lies, there or not; None for a store on no disk."""
        return None if self._folder is None else self._folder / key

    def exists(self, key: str) -> bool:
        """Say whether there is a file under `key`."""
        return self.find_size(key) is not None

    def size(self, key: str) -> int:
        """Return the file's size in bytes; raises `Permanent` FILE_MISSING without a file."""
        size = self.find_size(key)
        if size is None:
            raise self._missing(key)
        return size

    def is_whole(self, key: str) -> bool:
        """Say whether the file's bytes are those that `key_for` made its key of.

        Raises `Permanent` FILE_MISSING when it is not there.
        """
        with self.open(key) as file, self._naming(key):
            return hashlib.sha256(file.read()).hexdigest() == PurePosixPath(key).stem

    def delete(self, key: str) -> None:
        """Remove the file, if it is there."""
        with self._naming(key):
            if self._folder is not None:
                (self._folder / key).unlink(missing_ok=True)
            elif self._fs.exists(self._remote(key)):
                self._fs.rm_file(self._remote(key))

    def age_s(self, key: str) -> float | None:
        """Return the seconds since the file was last put, or None without a file.

        Object stores count from the first put of the same bytes.
        """
        with self._naming(key):
            try:
                if self._folder is not None:
                    return time.time() - (self._folder / key).stat().st_mtime
                return time.time() - float(self._fs.modified(self._remote(key)).timestamp())
            except FileNotFoundError as error:
                _check_bucket(error)
                return None

    def files(self) -> Iterator[tuple[str, int]]:
        """Yield the key and size of every file in the store, in any order; unfinished ones too."""
        with self._naming("a list of its files"):
            if self._folder is None:
                found = cast("dict[str, Any]", self._fs.find(self._root, detail=True))
                # It would answer from this list from now on, whatever others put and delete.
                self._fs.invalidate_cache()
                # Some file systems name files without the root's leading slash.
                start = len(self._root.strip("/")) + 1
                for name, about in found.items():
                    yield name.lstrip("/")[start:], int(about["size"])
                return
            for folder, _, names in os.walk(self._folder, onerror=_raise):
                for name in names:
                    path = Path(folder, name)
                    if (size := _size(path)) is not None:  # else it was deleted meanwhile
                        yield path.relative_to(self._folder).as_posix(), size

    def check(self) -> None:
        """Write, read and remove a probe; raises `Misconfigured` when it is not kept."""
        key = f".probe-{uuid.uuid4().hex}"
        self.put(_PROBE, key)
        with self.open(key) as file:
            found = file.read()
        self.delete(key)
        if found != _PROBE or self.exists(key):
            message = f"the store {self} does not keep what is written; set POPQ_STORE_URL"
            raise Misconfigured(f"{message} to another folder or bucket.")

    def _put_local(self, data: bytes, target: Path) -> None:
        _make_folder(target.parent)
        # In the store itself, so that the file only changes its name when it is whole.
        part = target.with_name(f".{uuid.uuid4().hex}{_PART}")
        try:
            with part.open("wb", buffering=0) as file:
                write_whole(file, data)
                os.fsync(file.fileno())
            part.replace(target)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        sync(target.parent)

    def find_size(self, key: str) -> int | None:
        """Return the file's size in bytes, or None without a file."""
        with self._naming(key):
            try:
                if self._folder is not None:
                    return _size(self._folder / key)
                return int(self._fs.size(self._remote(key)))
            except FileNotFoundError as error:
                _check_bucket(error)
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
        except PopqError:
            raise
        except Exception as error:
            if _is_silence(error):
                raise ServiceDown(f"the store {self} does not answer: {error}") from error
            if not isinstance(error, OSError) and not _is_one_of(error, _REFUSAL):
                raise  # a mistake of our own
            message = f"the store {self} refuses {key}: {error}."
            if isinstance(error, OSError) and error.errno in FULL:
                raise ServiceDown(f"{message} {WHEN_FULL}") from error
            message += " Correct its permissions or set POPQ_STORE_URL."
            raise Misconfigured(message) from error


def _is_silence(error: Exception) -> bool:
    """Return whether the store did not answer, or not now: what passes."""
    return (
        isinstance(error, ConnectionError | TimeoutError)
        or (isinstance(error, OSError) and error.errno in _BUSY)
        or _said(error).get("ResponseMetadata", {}).get("HTTPStatusCode") in _PASSING
        or _is_one_of(error, _NO_ANSWER)
    )


def _is_one_of(error: Exception, names: frozenset[str]) -> bool:
    return any(f"{kind.__module__}.{kind.__name__}" in names for kind in type(error).__mro__)


def _said(error: BaseException) -> dict[str, Any]:
    """Return what botocore read of the answer to the call that failed, {} without one."""
    for found in (error, error.__cause__):
        answer = getattr(found, "response", None)
        if isinstance(answer, dict):
            return answer
    return {}


def _check_bucket(error: FileNotFoundError) -> None:
    """Raise the error again when it is not the file that is missing but the whole bucket."""
    if _said(error).get("Error", {}).get("Code") == "NoSuchBucket":
        raise error


def write_whole(file: FileIO, data: bytes) -> None:
    """Write all of `data` to an unbuffered file; raises `OSError` when only a part finds room.

    Unbuffered, since a buffer that could not be written fails again, unnamed, at closing.
    """
    if file.write(data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


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
