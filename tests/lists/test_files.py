from __future__ import annotations

import gzip
import io
import os
import random
import struct
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popq.errors import BadInput
from popq.lists.files import open_one, opened

TEXT = b"url,label\nhttps://www.flickr.com/photos/x/123456789,5\n"
#: Bytes that deflate cannot shorten, so that a cut takes away content.
LONG = random.Random(1).randbytes(200_000)


def zipped(members, **options):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.fixture
def file(tmp_path):
    """Write bytes to a file of that name; gives its path."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def content(path):
    with opened(path) as documents:
        return [(document.name, document.file.read(), document.shown) for document in documents]


def test_a_plain_file_is_one_document(file):
    path = file("train_text.json", TEXT)
    assert content(path) == [("train_text.json", TEXT, str(path))]


@pytest.mark.parametrize("name", ["train_text.json.gz", "train_text.json", "train_text.json.GZ"])
def test_gzip_is_told_by_its_bytes_and_named_without_it(file, name):
    path = file(name, gzip.compress(TEXT))
    assert content(path) == [("train_text.json", TEXT, str(path))]


def test_a_gzip_of_several_parts_is_read_to_its_end(file):
    path = file("a.gz", gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert content(path) == [("a", b"one\ntwo\n", str(path))]


def test_a_zip_gives_its_real_members_by_name(file):
    members = {
        "x/": b"",
        "x/b.json": b"[]",
        "x/a.csv.gz": gzip.compress(TEXT),
        "__MACOSX/x/._b.json": b"noise",
        "x/._a.csv": b"noise",
        "x/.DS_Store": b"noise",
        "Thumbs.db": b"noise",
    }
    path = file("all.data", zipped(members))
    assert content(path) == [
        ("a.csv", TEXT, f"{path}: x/a.csv.gz"),
        ("b.json", b"[]", f"{path}: x/b.json"),
    ]


def test_a_zip_of_one_member_opens_as_one_document(file):
    path = file("a.zip", zipped({"a.csv": TEXT, "__MACOSX/._a.csv": b"noise"}))
    with open_one(path) as document:
        assert (document.name, document.file.read()) == ("a.csv", TEXT)


def test_a_zip_of_several_members_is_no_one_document_and_names_them(file):
    path = file("a.zip", zipped({f"{n:02}.csv": TEXT for n in range(12)}))
    words = r"a.zip holds 12 files \(00.csv, .*, 09.csv, …\); unpack it"
    with pytest.raises(BadInput, match=words), open_one(path):
        pass


def encrypted():
    """Return a zip whose members say that they are encrypted."""
    packed = bytearray(zipped({"a.csv": TEXT}))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = packed.index(magic) + offset
        packed[place : place + 2] = struct.pack("<H", 1)
    return bytes(packed)


def packed_in_an_unknown_way():
    """Return a zip whose member is packed by method 97."""
    packed = bytearray(zipped({"a.csv": TEXT}))
    for magic, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place = packed.index(magic) + offset
        packed[place : place + 2] = struct.pack("<H", 97)
    return bytes(packed)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (gzip.compress(b""), "is empty"),
        (zipped({"a.csv": b""}), "a.csv is empty"),
        (zipped({"a.csv.gz": gzip.compress(b"")}), r"a.csv.gz is empty"),
        (zipped({}), "zip without a file"),
        (zipped({"x/": b"", "x/.DS_Store": b"noise"}), "zip without a file"),
        (zipped({"a.csv": TEXT})[:-30], "damaged or cut short"),
        (encrypted(), "is encrypted"),
        (packed_in_an_unknown_way(), "damaged or cut short .*compression"),
        (zipped({"[Content_Types].xml": b"<x/>", "xl/a.xml": b"<x/>"}), "save it as CSV"),
        (zipped({f"{n}.jpg": b"x" for n in range(1001)}), "holds 1,001 files"),
        (gzip.compress(TEXT)[:9], "damaged or cut short"),
        (gzip.compress(LONG)[:100_000], "damaged or cut short"),
        (gzip.compress(TEXT)[:-8] + bytes(8), "CRC check failed"),
        (gzip.compress(TEXT) + b"more", "damaged or cut short"),
    ],
    # What is packed holds the time of day, and a test has one name.
    ids=lambda value: "packed" if isinstance(value, bytes) else value,
)
def test_what_cannot_be_read_is_refused_in_words(file, data, words):
    with pytest.raises(BadInput, match=f"(?s){words}.*Nothing was imported.$"):
        content(file("a", data))


def test_a_member_with_a_wrong_crc_is_refused_while_it_is_read(file):
    packed = bytearray(zipped({"a.csv": LONG}))
    packed[100_000] ^= 0xFF
    with opened(file("a.zip", packed)) as documents:
        assert documents[0].file.read(10) == LONG[:10]
        with pytest.raises(BadInput, match=r"a.csv is damaged.*Nothing was imported"):
            documents[0].file.read()


@given(st.data())
def test_a_cut_or_changed_archive_is_read_or_refused_and_nothing_else(tmp_path_factory, data):
    packings = [gzip.compress(TEXT, mtime=0), zipped({"a": TEXT, "b": TEXT})]
    whole = data.draw(st.sampled_from(packings))
    place = data.draw(st.integers(4, len(whole) - 1))  # its first bytes tell what it is
    change = bytes([whole[place] ^ data.draw(st.integers(1, 255))])
    cut = data.draw(st.booleans())
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(whole[:place] if cut else whole[:place] + change + whole[place + 1 :])
    try:
        read = content(path)
    except BadInput:
        return
    assert not cut
    assert read


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (Path("nowhere.csv"), "nowhere.csv cannot be read: No such file"),
        (Path("folder"), "folder is a directory"),
        (Path("nul\0.csv"), "is no path"),
        (Path("/proc/self/mem"), "cannot be read: Input/output error"),
        (Path("n" * 300), "cannot be read: File name too long"),
    ],
)
def test_what_is_no_file_is_refused_in_words(path, words):
    Path("folder").mkdir()
    with pytest.raises(BadInput, match=f"{words}.*Nothing was imported"), opened(path):
        pass


@pytest.fixture
def stdin(monkeypatch, file):
    """Put a real file's bytes on standard input."""
    streams = []

    def put(data):
        streams.append(file("stdin", data).open(encoding="utf-8"))
        monkeypatch.setattr(sys, "stdin", streams[-1])

    yield put
    for stream in streams:
        stream.close()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda text: zipped({"a.csv": text})])
def test_standard_input_is_read_packed_or_not_and_left_open(stdin, pack):
    stdin(pack(TEXT))
    ((_, data, shown),) = content(Path("-"))
    assert data == TEXT
    assert shown.startswith("standard input")
    assert not sys.stdin.buffer.closed


def test_an_empty_standard_input_is_refused(stdin):
    stdin(b"")
    with pytest.raises(BadInput, match="standard input is empty"):
        content(Path("-"))


def test_standard_input_that_cannot_be_read_is_refused(monkeypatch):
    class Broken:
        def seekable(self):
            return False

        def read(self, size):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Broken()))
    with pytest.raises(BadInput, match="standard input is damaged or cut short"):
        content(Path("-"))


@pytest.mark.parametrize("pack", [bytes, lambda text: zipped({"a.csv": text})])
def test_a_pipe_is_read_though_it_cannot_seek(pack):
    script = (
        "import sys; from pathlib import Path; from popq.lists.files import open_one\n"
        "with open_one(Path(sys.argv[1])) as document: print(document.file.read())"
    )
    for path in ("-", "/dev/stdin"):
        command = [sys.executable, "-c", script, path]
        done = subprocess.run(command, input=pack(TEXT), capture_output=True, check=True)
        assert done.stdout.decode().strip() == repr(TEXT)


@pytest.mark.parametrize("pack", [bytes, lambda data: zipped({"a.csv": data})])
def test_a_temporary_folder_without_room_is_told_from_a_bad_file(pack):
    script = (
        "import resource; from pathlib import Path; from popq.lists.files import open_one\n"
        "from popq.errors import Misconfigured\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000))\n"
        "try:\n"
        "    with open_one(Path('-')): pass\n"
        "except Misconfigured as error: print(error)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, input=pack(LONG), capture_output=True, check=True)
    assert "cannot hold a copy of the file: File too large. Name one" in done.stdout.decode()
    assert "in TMPDIR. Nothing was imported." in done.stdout.decode()


def test_the_first_bytes_of_a_pipe_may_come_one_by_one(tmp_path):
    pipe, packed = tmp_path / "pipe", gzip.compress(TEXT)
    os.mkfifo(pipe)

    def drip():
        with pipe.open("wb", buffering=0) as end:
            for at in range(len(packed)):
                end.write(packed[at : at + 1])
                time.sleep(0.01 if at < 3 else 0)  # so that the reader sees them alone

    writer = threading.Thread(target=drip)
    writer.start()
    ((_, data, _),) = content(pipe)
    writer.join()
    assert data == TEXT


@pytest.mark.parametrize("data", [TEXT, LONG])
def test_how_far_a_pipe_is_copied_is_told(tmp_path, data):
    pipe, told = tmp_path / "pipe", []
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    with open_one(pipe, lambda *said: told.append(said)) as document:
        assert document.file.read() == data
    writer.join()
    sizes = [size for _, size, _ in told]
    assert sizes == sorted(set(sizes))
    assert told[-1] == (f"bytes read from {pipe}", len(data), 0)
