"""Rows that name files of an images folder, as the data set of 2022 and later has them.

`train/59@N75/775.jpg` names a file, never photo 775 of Flickr: uid and pid are made up.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from popq.errors import BadInput, BadLink, Outcome

#: What unpacking leaves beside the folder that was packed.
_NOISE = ("__MACOSX", ".")


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file that a row names: its path below the folder, where it is, and whose it is.

    `uid` is the folder that holds it, if it looks like a person's (`59@N75`); `pid` is its name
    without ending.
    """

    key: str
    url: str
    uid: str | None
    pid: str


class Folder:
    """An images folder, packed by others: its files may lie a folder deeper or higher than listed.

    `train/59@N75/775.jpg` is looked for in DIR, in the only folder in DIR, and, if DIR is called
    something with train, as `59@N75/775.jpg`: a list of test photos must not find training photos.
    """

    def __init__(self, path: Path) -> None:
        """Raise `BadInput` unless `path` is a folder that can be read."""
        try:
            names = [entry for entry in path.iterdir() if not entry.name.startswith(_NOISE)]
        except OSError as error:
            message = f"--images-dir {path} cannot be read: {error.strerror}"
            raise BadInput(f"{message}. Nothing was imported.") from None
        self._root = os.fspath(path.absolute())
        self._name = path.absolute().name.lower()
        only = names[0] if len(names) == 1 and names[0].is_dir() else path
        self._inner = os.fspath(only.absolute())

    def find(self, text: str) -> ListedFile:
        """Return the file that a row names.

        Raises `BadLink`: `empty`, or `file_missing` for what is not there or leads out of the
        folder.
        """
        row = text.strip().strip("\ufeff").strip('"').strip()
        if not row:
            raise BadLink("the row is blank; remove it or name a file", outcome=Outcome.EMPTY)
        path = PurePosixPath(row.replace("\\", "/"))
        key = str(path)
        if path.is_absolute() or ".." in path.parts or "\0" in key:
            message = f"{row[:80]!r} is no path below the images folder"
            raise BadLink(message, outcome=Outcome.FILE_MISSING)
        holder = path.parent.name
        return ListedFile(key, self._locate(key), holder if "@" in holder else None, path.stem)

    def _locate(self, key: str) -> str:
        first, _, shorter = key.partition("/")
        places = [f"{self._root}/{key}", f"{self._inner}/{key}"]
        if shorter and first.lower() in self._name:
            places.append(f"{self._root}/{shorter}")
        for place in places:
            if os.path.isfile(place):  # noqa: PTH113 - three times faster than Path's own
                return "file://" + quote(os.fsencode(place))
        raise BadLink(f"{key[:80]!r} is not in {self._root}", outcome=Outcome.FILE_MISSING)
