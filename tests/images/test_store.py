"""The store: by content, whole or not at all, the same on a disk and behind fsspec."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from popq.errors import Misconfigured, Outcome, Permanent, ServiceDown
from popq.images.store import Store, key_for

DATA = b"\xff\xd8\xff and what follows"
KEY = key_for(hashlib.sha256(DATA).hexdigest(), "JPEG")


@pytest.fixture(params=["folder", "file-url", "memory"])
def store(request, tmp_path):
    url = {
        "folder": str(tmp_path / "store"),
        "file-url": f"file://{tmp_path}/store",
        "memory": f"memory://{uuid.uuid4().hex}/store",
    }
    return Store(url[request.param])


@pytest.fixture
def local(tmp_path):
    return Store(str(tmp_path / "store"))


def read(store, key):
    with store.open(key) as file:
        return file.read()


def files_under(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_key_is_made_of_the_content():
    digest = "abcd" + "0" * 60
    assert key_for(digest, "JPEG") == f"ab/{digest}.jpg"
    assert key_for(digest, "MPO") == f"ab/{digest}.jpg"
    assert key_for(digest, "PNG") == f"ab/{digest}.png"


@pytest.mark.parametrize("bad", ["", "abcd", "../../etc/passwd", "AB" * 32, "ab" * 33])
def test_a_key_of_anything_else_is_refused(bad):
    with pytest.raises(ValueError, match="no sha256"):
        key_for(bad, "JPEG")


def test_what_is_put_can_be_read_and_deleted(store):
    assert not store.exists(KEY)
    store.put(DATA, KEY)
    assert read(store, KEY) == DATA
    assert store.exists(KEY)
    assert store.size(KEY) == len(DATA)
    store.delete(KEY)
    assert not store.exists(KEY)
    store.delete(KEY)


def test_putting_twice_is_harmless(store):
    store.put(DATA, KEY)
    store.put(DATA, KEY)
    assert read(store, KEY) == DATA


def test_a_torn_file_is_replaced(store):
    store.put(DATA[:5], KEY)
    store.put(DATA, KEY)
    assert read(store, KEY) == DATA


def test_a_missing_file_is_said_to_be_missing(store):
    for ask in (store.open, store.size):
        with pytest.raises(Permanent, match="not in the store") as caught:
            ask(KEY)
        assert caught.value.outcome == Outcome.FILE_MISSING


def test_a_file_is_whole_as_long_as_its_bytes_are_those_of_its_key(store):
    store.put(DATA, KEY)
    assert store.is_whole(KEY)
    store.delete(KEY)
    store.put(DATA[:-1] + b"?", KEY)
    assert not store.is_whole(KEY)
    store.delete(KEY)
    with pytest.raises(Permanent) as caught:
        store.is_whole(KEY)
    assert caught.value.outcome is Outcome.FILE_MISSING


def test_a_store_that_works_passes_its_check_and_is_left_clean(store, tmp_path):
    store.check()
    store.check()
    assert not files_under(tmp_path)


def test_a_local_file_is_whole_or_not_there(local, tmp_path):
    local.put(DATA, KEY)
    assert files_under(tmp_path / "store") == [KEY]


def test_many_threads_may_put_the_same_key(local, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: local.put(DATA, KEY), range(40)))
    assert read(local, KEY) == DATA
    assert files_under(tmp_path / "store") == [KEY]


def test_threads_may_make_the_same_folders(local):
    keys = [key_for(f"abcd{number:060x}", "JPEG") for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: local.put(DATA, key), keys))
    assert all(local.exists(key) for key in keys)


def test_a_file_in_the_stores_place_is_misconfigured(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(DATA)
    with pytest.raises(Misconfigured, match=r"photo\.jpg"):
        Store(str(tmp_path / "photo.jpg")).check()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's disk that is full")
def test_a_disk_that_is_full_needs_no_person_and_is_left_clean(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a small file system")
    try:
        with pytest.raises(ServiceDown, match="No space left"):
            Store(str(folder)).put(bytes(100_000), KEY)
        assert files_under(folder) == []
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="root may write into any folder"
)
def test_a_folder_without_permission_is_misconfigured(local, tmp_path):
    folder = tmp_path / "store"
    folder.mkdir(mode=0o500)
    with pytest.raises(Misconfigured, match="ermission"):
        local.put(DATA, KEY)


def test_a_folder_in_a_files_place_is_misconfigured(local, tmp_path):
    (tmp_path / "store" / KEY).mkdir(parents=True)
    with pytest.raises(Misconfigured, match="refuses"):
        local.put(DATA, KEY)


class SilentHost(MemoryFileSystem):
    """A remote store whose host does not answer."""

    protocol = "popq-silent"
    cachable = False

    def pipe_file(self, path, value, **_):
        raise ConnectionResetError(f"no answer for {path}")


class ForgetfulHost(MemoryFileSystem):
    """A remote store that says yes and keeps nothing of what it was given."""

    protocol = "popq-forgetful"
    cachable = False

    def pipe_file(self, path, value, mode="overwrite", **_):
        super().pipe_file(path, b"something else")


@pytest.fixture
def hosts():
    fsspec.register_implementation("popq-silent", SilentHost, clobber=True)
    fsspec.register_implementation("popq-forgetful", ForgetfulHost, clobber=True)
    fsspec.register_implementation("popq-absent", "no_such_module.FileSystem", clobber=True)


@pytest.mark.usefixtures("hosts")
def test_a_host_that_does_not_answer_is_a_service_that_is_down():
    with pytest.raises(ServiceDown, match="popq-silent://bucket does not answer"):
        Store("popq-silent://bucket").put(DATA, KEY)


@pytest.mark.usefixtures("hosts")
def test_a_store_that_keeps_something_else_fails_its_check():
    with pytest.raises(Misconfigured, match="does not keep what is written"):
        Store("popq-forgetful://bucket").check()


@pytest.mark.usefixtures("hosts")
@pytest.mark.parametrize("url", ["popq-nowhere://bucket", "popq-absent://bucket"])
def test_a_url_that_nothing_serves_is_misconfigured(url):
    with pytest.raises(Misconfigured, match=f"{url}.*POPQ_STORE_URL"):
        Store(url)


def test_relative_folders_stay_where_the_process_started(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store("photos")
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    store.put(DATA, KEY)
    assert (tmp_path / "photos" / KEY).exists()


class _Full(MemoryFileSystem):
    """A store without room."""

    protocol = "full"
    store: ClassVar[dict] = {}

    def pipe_file(self, path, value, **_):
        raise OSError(errno.ENOSPC, "No space left on device", path)


def test_a_store_that_is_full_needs_no_person():
    fsspec.register_implementation("full", _Full, clobber=True)
    with pytest.raises(ServiceDown, match=r"No space left.*work goes on by itself"):
        Store("full://photos").put(DATA, KEY)
