"""The store behind s3://, against a moto server: whole files, put once."""

from __future__ import annotations

import hashlib
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from houses import house, quiet, small_world

from popq import api, doctor
from popq.errors import Misconfigured, Outcome, Permanent, ServiceDown
from popq.images.store import Store, key_for

pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")

DATA = b"\xff\xd8\xff and what follows"
KEY = key_for(hashlib.sha256(DATA).hexdigest(), "JPEG")


@pytest.fixture(scope="module")
def endpoint():
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch):
    """An empty bucket that the environment leads to, as an operator would set it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    reset = urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    store = Store("s3://photos")
    store._fs.invalidate_cache()
    store._fs.mkdir("photos")
    return "s3://photos/originals"


def test_what_is_put_can_be_read_listed_and_deleted(bucket):
    store = Store(bucket)
    store.check()
    store.put(DATA, KEY)
    with store.open(KEY) as file:
        assert file.read() == DATA
    assert (store.exists(KEY), store.size(KEY)) == (True, len(DATA))
    assert list(store.files()) == [(KEY, len(DATA))]
    store.delete(KEY)
    assert not store.exists(KEY)
    with pytest.raises(Permanent) as caught:
        store.open(KEY)
    assert caught.value.outcome == Outcome.FILE_MISSING


def test_an_original_is_put_once(bucket):
    """The second put is conditional: it leaves the object as it is, version and time."""
    store = Store(bucket)
    store.put(DATA, KEY)
    before = store._fs.info(store._remote(KEY), refresh=True)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: store.put(DATA, KEY), range(8)))
    assert store._fs.info(store._remote(KEY), refresh=True) == before


def test_a_torn_object_is_replaced(bucket):
    store = Store(bucket)
    store.put(DATA[:5], KEY)
    store.put(DATA, KEY)
    with store.open(KEY) as file:
        assert file.read() == DATA


def test_a_bucket_that_is_not_there_is_misconfigured(bucket):
    with pytest.raises(Misconfigured, match="s3://nowhere"):
        Store("s3://nowhere/originals").check()


def test_an_endpoint_that_does_not_answer_is_down(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises((ServiceDown, Misconfigured), match="s3://elsewhere"):
        Store("s3://elsewhere/originals").put(DATA, KEY)


def test_photos_are_downloaded_into_s3_and_taken_stock_of(bucket, tmp_path):
    with house(tmp_path, small_world(4), store_url=bucket) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        api.work(home.rooms, "resolve", on_progress=quiet)
        assert api.work(home.rooms, "download", on_progress=quiet).moved == 4
        ((key,),) = home.sql("SELECT file_key FROM photos WHERE id = 1")
        home.rooms.store.delete(key)
        stock = doctor.check_store(home.rooms, repair=True)
        assert (stock["files"], stock["missing"], stock["moved"]) == (3, 1, 1)
        assert api.work(home.rooms, "download", on_progress=quiet).moved == 1
        assert home.rooms.store.exists(key)
