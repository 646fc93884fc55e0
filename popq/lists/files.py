"""Files as people bring them, opened: plain, gzip or zip, on disk, in a pipe, on standard input.

A pipe is copied to a temporary file when it is opened: it may take its time, and whoever reads the
document may hold what others wait for.

What packs a file is told by its first bytes, never by its name. Packed bytes are unpacked while
they are read, so a file that turns out to be cut or damaged raises in the middle of its rows; it is
a `BadInput` there too, whichever reader is at it.
"""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, Protocol, cast

from popq.errors import BadInput, Misconfigured

#: The path that stands for standard input.
STDIN: Final = Path("-")
#: What ends each message, since a list is taken whole or not at all.
NOTHING: Final = "Nothing was imported."
#: Bytes read and unpacked at a time.
_BUFFER: Final = 1 << 16
#: More members are no lists, but somebody's photos.
_MOST_MEMBERS: Final = 1000
_GZIP: Final = b"\x1f\x8b"
#: A zip's first member, a zip without any, a zip that was split.
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
#: What systems leave in archives beside what was packed.
_NOISE: Final = (".DS_Store", "Thumbs.db", "desktop.ini")

#: What gzip, zipfile and their decompressors raise for bytes that are damaged or cut.
_BROKEN: Final = (
    OSError,  # BadGzipFile; the disk; a seek to before the start
    EOFError,  # cut in the middle
    zipfile.BadZipFile,  # no directory, wrong CRC
    zlib.error,
    lzma.LZMAError,
    struct.error,  # a header's field is cut
    ValueError,  # offsets and names that make no sense
    OverflowError,
    RuntimeError,  # a password is needed; NotImplementedError: packed in an unknown way
)


@dataclass(frozen=True, slots=True)
class Document:
    """One file to read, unpacked.

    `name` is its own name, without folders and packing; `shown` is what messages call it. `file`
    is read once, from its start; it is seekable only if it lies plainly on a disk. `stack` closes,
    with the document, what a reader keeps open for it.
    """

    name: str
    file: io.BufferedReader
    shown: str
    stack: ExitStack = field(default_factory=ExitStack, repr=False, compare=False)


#: Told of a pipe that is copied: of which, its bytes so far, and 0, since nobody knows of how many.
Tell = Callable[[str, int, int], None]


def is_pipe(path: Path) -> bool:
    """Return whether what is read from it is lost for the next reader."""
    return path == STDIN or (path.exists() and not path.is_file() and not path.is_dir())


@contextmanager
def opened(path: Path, tell: Tell | None = None) -> Iterator[list[Document]]:
    """Open a file; give the one document it is, or those a zip holds, sorted by name.

    `-` is standard input. `tell` is told how far a pipe is copied. Folders and the noise of systems
    in a zip do not count. Raises `BadInput`, here or while a document is read, for what is missing,
    a directory, unreadable, empty, encrypted, damaged or cut, and `Misconfigured` if there is no
    room to copy or unpack.
    """
    with ExitStack() as stack:
        yield _documents(path, stack, tell)


@contextmanager
def open_one(path: Path, tell: Tell | None = None) -> Iterator[Document]:
    """Open a file that is one document; raises as `opened`, and `BadInput` for a zip of several."""
    with opened(path, tell) as documents:
        if len(documents) > 1:
            names = ", ".join(document.name for document in documents[:10])
            more = ", …" if len(documents) > 10 else ""  # noqa: PLR2004 - as many as are shown
            message = f"{_shown(path)} holds {len(documents)} files"
            raise BadInput(f"{message} ({names}{more}); unpack it and name one. {NOTHING}")
        yield documents[0]


def scratch(stack: ExitStack) -> IO[bytes]:
    """Return a new temporary file that goes away with `stack`."""
    with room():
        return stack.enter_context(tempfile.TemporaryFile())


def spooled(
    file: io.BufferedReader, stack: ExitStack, tell: Callable[[int], None] = lambda _: None
) -> io.BufferedReader:
    """Return `file` if it can seek, else a temporary copy of it that goes away with `stack`.

    `tell` is told of the bytes that are copied.
    """
    if file.seekable():
        return file
    with room():
        # Without a buffer, which would be written to a full disk once more as the file is closed.
        copy = stack.enter_context(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115 - the stack does
    size = 0
    while data := file.read1(_BUFFER):
        left = memoryview(data)
        with room():
            while left:
                left = left[copy.write(left) :]
        size += len(data)
        tell(size)
    copy.seek(0)
    return stack.enter_context(io.BufferedReader(copy, _BUFFER))


@contextmanager
def room() -> Iterator[None]:
    """Turn an `OSError` of writing to a temporary file into `Misconfigured`."""
    try:
        yield
    except OSError as error:
        where = tempfile.gettempdir()
        message = f"The temporary folder {where} cannot hold a copy of the file: {error.strerror}"
        raise Misconfigured(f"{message}. Name one with room in TMPDIR. {NOTHING}") from error


def empty(shown: str) -> BadInput:
    """Return the error for a file without content."""
    return BadInput(f"{shown} is empty: there is nothing to read. {NOTHING}")


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Told(io.RawIOBase):
    """Bytes of another file, opened at the first read, whose errors are told as `BadInput`."""

    def __init__(self, source: Callable[[], _Readable], shown: str) -> None:
        super().__init__()
        self._source = source
        self._shown = shown
        self._file: _Readable | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer)
        first = self._file is None
        try:
            if self._file is None:
                self._file = self._source()
            data = self._file.read(len(view))
        except _BROKEN as error:
            raise _damaged(self._shown, error) from error
        if first and not data:
            raise empty(self._shown)
        view[: len(data)] = data
        return len(data)


def _shown(path: Path) -> str:
    return "standard input" if path == STDIN else str(path)


def _documents(path: Path, stack: ExitStack, tell: Tell | None) -> list[Document]:
    shown = _shown(path)

    def copied(size: int) -> None:
        if tell is not None:
            tell(f"bytes read from {shown}", size, 0)

    file = _stdin(stack) if path == STDIN else _on_disk(path, stack)
    try:
        # Not what a shell put on standard input from a file: that waits for nobody.
        if not (path == STDIN and sys.stdin.buffer.seekable()):
            file = spooled(file, stack, copied)
        start = file.peek(4)
    except OSError as error:
        raise BadInput(f"{shown} cannot be read: {error.strerror}. {NOTHING}") from error
    if not start:
        raise empty(shown)
    name = shown if path == STDIN else _bare(path.name)
    if start.startswith(_ZIP):
        return _members(spooled(file, stack), shown, stack)
    if start.startswith(_GZIP):
        unpacked = _told(lambda: gzip.GzipFile(fileobj=file), shown, stack)
        unpacked.peek(1)  # raises now if nothing was packed
        return [Document(name, unpacked, shown, stack)]
    return [Document(name, file, shown, stack)]


def _told(source: Callable[[], _Readable], shown: str, stack: ExitStack) -> io.BufferedReader:
    return stack.enter_context(io.BufferedReader(_Told(source, shown), _BUFFER))


def _stdin(stack: ExitStack) -> io.BufferedReader:
    return _told(lambda: sys.stdin.buffer, _shown(STDIN), stack)


def _on_disk(path: Path, stack: ExitStack) -> io.BufferedReader:
    try:
        return stack.enter_context(io.BufferedReader(io.FileIO(path), _BUFFER))
    except IsADirectoryError:
        raise BadInput(f"{path} is a directory; name the file in it. {NOTHING}") from None
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}. Is the path right?"
        raise BadInput(f"{message} {NOTHING}") from None
    except ValueError:  # a NUL in the path
        raise BadInput(f"{str(path)!r} is no path of a file. {NOTHING}") from None


def _members(file: IO[bytes], shown: str, stack: ExitStack) -> list[Document]:
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
    except _BROKEN as error:
        raise _damaged(shown, error) from error
    found = sorted((i for i in archive.infolist() if _is_real(i)), key=lambda info: info.filename)
    if not found:
        raise BadInput(f"{shown} is a zip without a file in it. {NOTHING}")
    if any(info.filename == "[Content_Types].xml" for info in found):
        message = f"{shown} is a spreadsheet or another office document; save it as CSV"
        raise BadInput(f"{message}. {NOTHING}")
    if any(info.flag_bits & 1 for info in found):
        raise BadInput(f"{shown} is encrypted; unpack it and name its files. {NOTHING}")
    if len(found) > _MOST_MEMBERS:
        message = f"{shown} holds {len(found):,} files; at most {_MOST_MEMBERS:,} are read as lists"
        raise BadInput(f"{message}. Unpack it and name one. {NOTHING}")
    return [_member(archive, info, shown, stack) for info in found]


def _is_real(info: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(info.filename)
    noise = path.name in _NOISE or path.name.startswith("._") or "__MACOSX" in path.parts
    return not info.is_dir() and not noise


def _member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, shown: str, stack: ExitStack
) -> Document:
    def source() -> _Readable:
        member = cast("zipfile.ZipExtFile", stack.enter_context(archive.open(info)))
        packed = member.peek(2).startswith(_GZIP)
        return gzip.GzipFile(fileobj=member) if packed else member

    inside = f"{shown}: {info.filename}"
    name = _bare(PurePosixPath(info.filename).name)
    return Document(name, _told(source, inside, stack), inside, stack)


def _bare(name: str) -> str:
    return name[:-3] if name.lower().endswith(".gz") else name


def _damaged(shown: str, error: Exception) -> BadInput:
    message = f"{shown} is damaged or cut short ({str(error) or type(error).__name__})"
    return BadInput(f"{message}; fetch or pack it again. {NOTHING}")
