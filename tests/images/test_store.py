"""The store: by content, whole or not at all, the same on a disk and behind fsspec."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
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


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(DATA)
    return path


def read(store, key):
    with store.open(key) as file:
        return file.read()


def files_under(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_key_is_made_of_the_content():
    digest = "abcd" + "0" * 60
    assert key_for(digest, "JPEG") == f"ab/cd/{digest}.jpg"
    assert key_for(digest, "MPO") == f"ab/cd/{digest}.jpg"
    assert key_for(digest, "PNG") == f"ab/cd/{digest}.png"


@pytest.mark.parametrize("bad", ["", "abcd", "../../etc/passwd", "AB" * 32, "ab" * 33])
def test_a_key_of_anything_else_is_refused(bad):
    with pytest.raises(ValueError, match="no sha256"):
        key_for(bad, "JPEG")


def test_what_is_put_can_be_read_and_deleted(store, photo):
    assert not store.exists(KEY)
    store.put(photo, KEY)
    assert read(store, KEY) == DATA
    assert store.exists(KEY)
    assert store.size(KEY) == len(DATA)
    store.delete(KEY)
    assert not store.exists(KEY)
    store.delete(KEY)


def test_the_users_own_file_stays(store, photo):
    store.put(photo, KEY)
    assert photo.read_bytes() == DATA


def test_putting_twice_is_harmless(store, photo):
    store.put(photo, KEY)
    store.put(photo, KEY)
    assert read(store, KEY) == DATA


def test_a_torn_file_is_replaced(store, photo, tmp_path):
    torn = tmp_path / "torn"
    torn.write_bytes(DATA[:5])
    store.put(torn, KEY)
    store.put(photo, KEY)
    assert read(store, KEY) == DATA


def test_a_missing_file_is_said_to_be_missing(store):
    for ask in (store.open, store.size):
        with pytest.raises(Permanent, match="not in the store") as caught:
            ask(KEY)
        assert caught.value.outcome == Outcome.FILE_MISSING


def test_a_store_that_works_passes_its_check_and_is_left_clean(store, tmp_path):
    store.check()
    store.check()
    assert not files_under(tmp_path)


def test_a_local_download_is_moved_not_copied(local, tmp_path):
    scratch = local.scratch()
    assert scratch.is_relative_to(tmp_path / "store")
    part = scratch / "part"
    part.write_bytes(DATA)
    inode = part.stat().st_ino
    local.put(part, KEY)
    assert not part.exists()
    assert (tmp_path / "store" / KEY).stat().st_ino == inode
    assert files_under(tmp_path / "store") == [KEY]


def test_a_download_of_what_is_there_may_be_removed(local):
    for _ in range(2):
        part = local.scratch() / "part"
        part.write_bytes(DATA)
        local.put(part, KEY)
        part.unlink(missing_ok=True)
    assert read(local, KEY) == DATA


def test_a_remote_stores_scratch_is_a_local_folder():
    assert Store("memory://x").scratch().is_dir()


def test_a_remote_put_leaves_the_file_to_the_caller(photo):
    Store(f"memory://{uuid.uuid4().hex}").put(photo, KEY)
    assert photo.exists()


def test_many_threads_may_put_the_same_key(local, tmp_path):
    def put(number):
        part = local.scratch() / f"part-{number}"
        part.write_bytes(DATA)
        local.put(part, KEY)
        part.unlink(missing_ok=True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(40)))
    assert read(local, KEY) == DATA
    assert files_under(tmp_path / "store") == [KEY]


def test_threads_may_make_the_same_folders(local, photo):
    keys = [key_for(f"abcd{number:060x}", "JPEG") for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: local.put(photo, key), keys))
    assert all(local.exists(key) for key in keys)


def test_putting_a_file_that_is_not_there_names_it(local, tmp_path):
    with pytest.raises(Misconfigured, match="nowhere"):
        local.put(tmp_path / "nowhere", KEY)


def test_a_file_in_the_stores_place_is_misconfigured(photo):
    store = Store(str(photo))
    with pytest.raises(Misconfigured, match=r"photo\.jpg"):
        store.check()
    with pytest.raises(Misconfigured, match=r"photo\.jpg"):
        store.scratch()


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="root may write into any folder"
)
def test_a_folder_without_permission_is_misconfigured(local, photo, tmp_path):
    folder = tmp_path / "store"
    folder.mkdir(mode=0o500)
    with pytest.raises(Misconfigured, match="ermission"):
        local.put(photo, KEY)


def test_a_folder_in_a_files_place_is_misconfigured(local, photo, tmp_path):
    (tmp_path / "store" / KEY).mkdir(parents=True)
    with pytest.raises(Misconfigured, match="refuses"):
        local.put(photo, KEY)


class SilentHost(MemoryFileSystem):
    """A remote store whose host does not answer."""

    protocol = "popq-silent"
    cachable = False

    def size(self, path):
        raise ConnectionResetError(f"no answer for {path}")


class ForgetfulHost(MemoryFileSystem):
    """A remote store that says yes and keeps nothing of what it was given."""

    protocol = "popq-forgetful"
    cachable = False

    def put_file(self, lpath, rpath, **options):
        del lpath, options
        self.pipe_file(rpath, b"something else")


@pytest.fixture
def hosts():
    fsspec.register_implementation("popq-silent", SilentHost, clobber=True)
    fsspec.register_implementation("popq-forgetful", ForgetfulHost, clobber=True)
    fsspec.register_implementation("popq-absent", "no_such_module.FileSystem", clobber=True)


@pytest.mark.usefixtures("hosts")
def test_a_host_that_does_not_answer_is_a_service_that_is_down(photo):
    with pytest.raises(ServiceDown, match="popq-silent://bucket does not answer"):
        Store("popq-silent://bucket").put(photo, KEY)


@pytest.mark.usefixtures("hosts")
def test_a_store_that_keeps_something_else_fails_its_check():
    with pytest.raises(Misconfigured, match="does not keep what is written"):
        Store("popq-forgetful://bucket").check()


@pytest.mark.usefixtures("hosts")
@pytest.mark.parametrize("url", ["popq-nowhere://bucket", "popq-absent://bucket"])
def test_a_url_that_nothing_serves_is_misconfigured(url):
    with pytest.raises(Misconfigured, match=f"{url}.*POPQ_STORE_URL"):
        Store(url)


def test_relative_folders_stay_where_the_process_started(tmp_path, monkeypatch, photo):
    monkeypatch.chdir(tmp_path)
    store = Store("photos")
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    store.put(photo, KEY)
    assert (tmp_path / "photos" / KEY).exists()


class _Full(MemoryFileSystem):
    """A store without room."""

    protocol = "full"
    store: ClassVar[dict] = {}

    def put_file(self, lpath, rpath, **_):
        raise OSError(errno.ENOSPC, "No space left on device", rpath)


def test_a_store_that_is_full_needs_no_person(photo):
    fsspec.register_implementation("full", _Full, clobber=True)
    with pytest.raises(ServiceDown, match=r"No space left.*work goes on by itself"):
        Store("full://photos").put(photo, KEY)
