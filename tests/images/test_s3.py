"""The store behind s3://, against a moto server: whole files, put once."""

from __future__ import annotations

import hashlib
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from houses import house, quiet, small_world

from popq import api, doctor
from popq.errors import Misconfigured, Outcome, Permanent, ServiceDown
from popq.images.pack import build
from popq.images.store import Store, key_for

s3fs = pytest.importorskip("s3fs")
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


def test_what_others_do_after_a_list_of_files_is_seen(bucket):
    """As two workers do: each has connections, and all that is remembered with them, of its own."""
    store = Store(bucket)
    store.put(DATA, KEY)
    assert list(store.files()) == [(KEY, len(DATA))]
    other = s3fs.S3FileSystem(skip_instance_cache=True)
    other.rm_file("photos/originals/" + KEY)
    other.pipe_file("photos/originals/others", b"two")
    assert store.find_size(KEY) is None
    assert store.age_s(KEY) is None
    assert list(store.files()) == [("others", 3)]


@pytest.fixture
def fresh(bucket, monkeypatch):
    """Stores that look at the environment anew: fsspec keeps the connections of one address."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    yield bucket
    s3fs.S3FileSystem.clear_instance_cache()


#: What is asked of a store; `check` and a pack's build and a download are made of these.
ASKED = {
    "put": lambda store: store.put(DATA, KEY),
    "read": lambda store: store.open(KEY).read(),
    "size": lambda store: store.size(KEY),
    "exists": lambda store: store.exists(KEY),
    "age": lambda store: store.age_s(KEY),
    "delete": lambda store: store.delete(KEY),
    "list": lambda store: list(store.files()),
}


@pytest.mark.parametrize(
    "name", sorted(ASKED.keys() - {"delete"})
)  # what is not there needs no deleting
def test_a_bucket_that_is_not_there_is_misconfigured(fresh, name):
    with pytest.raises(Misconfigured, match=r"s3://nowhere.*POPQ_STORE_URL"):
        ASKED[name](Store("s3://nowhere/originals"))


@pytest.mark.parametrize("name", ASKED)
def test_an_endpoint_that_does_not_answer_is_down(fresh, monkeypatch, name):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ServiceDown, match=r"s3://photos/originals does not answer"):
        ASKED[name](Store(fresh))


def test_a_pack_of_photos_out_of_reach_is_a_service_that_is_down(fresh, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ServiceDown, match="does not answer"):
        build(tmp_path, "a", [KEY] * 3, Store(fresh).open, workers=2, on_progress=None)


@pytest.mark.parametrize("name", ASKED)
def test_credentials_that_are_not_there_are_misconfigured(fresh, monkeypatch, tmp_path, name):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(Misconfigured, match="credentials"):
        ASKED[name](Store(fresh))


@contextmanager
def answering(status, code, body=b"", length=None):
    """Serve one answer to everything: S3's for an error of this code, or a body as it is."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            text = f"<Error><Code>{code}</Code><Message>said so</Message></Error>".encode()
            shown = body or text
            self.send_response(status)
            self.send_header("Content-Length", str(length or len(shown)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(shown)
            self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_DELETE = answer  # noqa: N815 - http.server's names

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as host:
        threading.Thread(target=host.serve_forever).start()
        yield f"http://127.0.0.1:{host.server_port}"
        host.shutdown()


@pytest.mark.parametrize("name", ["put", "read", "size", "list"])
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "InvalidAccessKeyId", Misconfigured),
        (403, "SignatureDoesNotMatch", Misconfigured),
        (500, "InternalError", ServiceDown),
        (503, "ServiceUnavailable", ServiceDown),
        (409, "ConditionalRequestConflict", ServiceDown),
        (429, "TooManyRequests", ServiceDown),
        (502, "BadGateway", ServiceDown),
        (504, "GatewayTimeout", ServiceDown),
    ],
)
def test_what_a_host_answers_says_who_must_act(fresh, monkeypatch, name, status, code, kind):
    with answering(status, code) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(kind, match="s3://photos/originals"):
            ASKED[name](Store(fresh))


def test_a_host_that_breaks_off_while_a_file_is_read_is_down(fresh, monkeypatch):
    with answering(200, None, body=DATA, length=1000) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(ServiceDown, match="does not answer"), Store(fresh).open(KEY) as file:
            file.read()


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
