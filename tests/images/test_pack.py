"""The pack: the same bytes whatever the workers, whole or not opened, and exact moments."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from popq.errors import BadInput, Misconfigured, Outcome, Permanent, Transient
from popq.images import pack as pack_module
from popq.images.decode import crop, decode
from popq.images.pack import build, open_pack

KEYS = [f"photo-{number}" for number in range(30)]


def photo(key):
    """Return a JPEG that depends on the key alone."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((96 + seed % 40, 80)).save(buffer, "JPEG")
    return buffer.getvalue()


FILES = {key: photo(key) for key in KEYS}


class Reader:
    """Opens photos and remembers which."""

    def __init__(self, files=FILES):
        self.files = files
        self.asked = []

    def __call__(self, key):
        self.asked.append(key)
        if key not in self.files:
            raise Permanent(f"{key} is not in the store", outcome=Outcome.FILE_MISSING)
        return io.BytesIO(self.files[key])


def built(folder, keys=KEYS, read=None, *, fingerprint="a", workers=2, on_progress=None):
    return build(
        folder, fingerprint, keys, read or Reader(), workers=workers, on_progress=on_progress
    )


def digest(folder):
    return hashlib.sha256((folder / "pixels.u8").read_bytes()).hexdigest()


def test_rows_are_the_crops_in_order(tmp_path):
    pack = built(tmp_path / "pack")
    assert pack.pixels.shape == (30, 256, 256, 3)
    assert pack.count == 30
    for row, key in enumerate(KEYS):
        expected = np.asarray(crop(decode(io.BytesIO(FILES[key])).image))
        assert (pack.pixels[row] == expected).all()


def test_the_bytes_do_not_depend_on_the_workers(tmp_path):
    for workers in (1, 5):
        built(tmp_path / str(workers), workers=workers)
    assert digest(tmp_path / "1") == digest(tmp_path / "5")


def test_a_pack_cannot_be_written_to(tmp_path):
    pack = built(tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        pack.pixels[0] = 0


def test_progress_is_told_row_by_row(tmp_path):
    seen = []
    built(tmp_path, on_progress=seen.append)
    assert seen == list(range(1, 31))


def test_a_finished_pack_opens_again_without_decoding(tmp_path):
    built(tmp_path)
    again = Reader()
    assert built(tmp_path, read=again).count == 30
    assert again.asked == []
    assert open_pack(tmp_path, "a", 30).pixels.shape == (30, 256, 256, 3)


@pytest.mark.parametrize(("fingerprint", "count"), [("b", 30), ("a", 29), ("a", 31)])
def test_the_pack_of_another_data_set_is_not_opened(tmp_path, fingerprint, count):
    built(tmp_path)
    assert open_pack(tmp_path, fingerprint, count) is None


def test_an_absent_pack_is_not_opened(tmp_path):
    assert open_pack(tmp_path / "nowhere", "a", 30) is None


def truncate(folder):
    with (folder / "pixels.u8").open("r+b") as file:
        file.truncate(29 * 256 * 256 * 3 + 5)


def remove_pixels(folder):
    (folder / "pixels.u8").unlink()


def spoil_record(folder):
    (folder / "pack.json").write_text('{"version": 1, "finger')


def age_record(folder):
    record = json.loads((folder / "pack.json").read_text())
    (folder / "pack.json").write_text(json.dumps(record | {"version": 0}))


def empty_record(folder):
    (folder / "pack.json").write_text("[]")


@pytest.mark.parametrize("tear", [truncate, remove_pixels, spoil_record, age_record, empty_record])
def test_a_torn_pack_is_not_opened_and_is_built_again(tmp_path, tear):
    built(tmp_path)
    whole = digest(tmp_path)
    tear(tmp_path)
    assert open_pack(tmp_path, "a", 30) is None
    built(tmp_path)
    assert digest(tmp_path) == whole


def damage(folder, row=4):
    """Put zeros into one row, as a disk may: no size and no record tells."""
    with (folder / "pixels.u8").open("r+b") as file:
        file.seek(row * 256 * 256 * 3 + 1000)
        file.write(bytes(5000))


def test_a_damaged_pack_is_built_again_into_a_new_file(tmp_path):
    in_use = built(tmp_path)
    whole = digest(tmp_path)
    damage(tmp_path)
    seen = in_use.pixels.sum(dtype=np.int64)
    again = Reader()
    built(tmp_path, read=again)
    assert sorted(again.asked) == sorted(KEYS)
    assert digest(tmp_path) == whole
    assert in_use.pixels.sum(dtype=np.int64) == seen


def test_a_pack_without_digests_is_taken_as_it_is(tmp_path):
    built(tmp_path)
    record = json.loads((tmp_path / "pack.json").read_text())
    del record["sha256"]
    (tmp_path / "pack.json").write_text(json.dumps(record))
    again = Reader()
    assert built(tmp_path, read=again).count == 30
    assert again.asked == []


def test_a_finished_pack_is_checked_and_opened_without_its_lock(tmp_path):
    built(tmp_path)
    seen = []
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert built(tmp_path, on_progress=seen.append).count == 30
    assert seen == [30]


def test_a_build_that_waits_tells_how_far_the_other_is_and_can_be_ended(tmp_path):
    class Halted(Exception):
        pass

    def halt(done):
        raise Halted(done)

    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Halted, match="0"):
            built(tmp_path, on_progress=halt)
    assert built(tmp_path).count == 30


def test_after_a_failure_the_build_goes_on_from_the_last_block(tmp_path):
    count = pack_module.BLOCK + 40
    keys = [KEYS[number % 30] for number in range(count)]
    broken = [*keys[:-3], "photo-lost", *keys[-2:]]
    # A pack is for one list of keys; here one name of the list has no file at first.
    with pytest.raises(Permanent, match="photo-lost"):
        built(tmp_path / "pack", broken)
    assert open_pack(tmp_path / "pack", "a", count) is None
    later = Reader(FILES | {"photo-lost": FILES[keys[-3]]})
    shutil.copytree(tmp_path / "pack", tmp_path / "damaged")
    pack = built(tmp_path / "pack", broken, later)
    assert sorted(later.asked) == sorted(broken[pack_module.BLOCK :])
    sample = np.arange(0, count, 97)
    for row in [*sample, count - 3, count - 1]:
        expected = np.asarray(crop(decode(io.BytesIO(FILES[keys[row]])).image))
        assert (pack.pixels[row] == expected).all()
    damage(tmp_path / "damaged", row=1000)
    built(tmp_path / "damaged", broken, later)
    assert digest(tmp_path / "damaged") == digest(tmp_path / "pack")


KILLED = """
import os, signal, sys
from pathlib import Path
from popq.images.pack import build

folder, photo = map(Path, sys.argv[1:])

def on_progress(row):
    if row == 12:
        os.kill(os.getpid(), signal.SIGKILL)

build(folder, "a", ["photo"] * 30, lambda key: photo.open("rb"), workers=1, on_progress=on_progress)
"""


def test_a_killed_build_leaves_a_pack_that_does_not_open(tmp_path):
    folder, path = tmp_path / "pack", tmp_path / "photo.jpg"
    path.write_bytes(FILES[KEYS[0]])
    done = subprocess.run([sys.executable, "-c", KILLED, folder, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (folder / "pixels.u8").exists()
    assert open_pack(folder, "a", 30) is None
    assert built(folder).count == 30


FULL = """
import resource, sys
from pathlib import Path
from popq.errors import Misconfigured
from popq.images.pack import build

folder, photo = map(Path, sys.argv[1:])
limit = 5 * 256 * 256 * 3 + 1000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    build(folder, "a", ["photo"] * 9, lambda key: photo.open("rb"), workers=1, on_progress=None)
except Misconfigured as error:
    sys.exit(str(error))
"""


def test_a_disk_that_fills_up_is_misconfigured(tmp_path):
    folder, path = tmp_path / "pack", tmp_path / "photo.jpg"
    path.write_bytes(FILES[KEYS[0]])
    command = [sys.executable, "-c", FULL, folder, path]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_open_pack_survives_the_build_of_another_in_its_folder(tmp_path):
    old = built(tmp_path)
    before = old.pixels.sum(dtype=np.int64)
    built(tmp_path, KEYS[:3], fingerprint="b")
    assert old.pixels.sum(dtype=np.int64) == before


def test_a_photo_whose_file_is_missing_is_named(tmp_path):
    with pytest.raises(Permanent, match=r"ab/cd\.jpg cannot be packed") as caught:
        built(tmp_path, [*KEYS, "ab/cd.jpg"])
    assert caught.value.outcome == Outcome.FILE_MISSING


def test_a_photo_that_does_not_decode_is_named(tmp_path):
    torn = Reader(FILES | {"torn": FILES[KEYS[0]][:200]})
    with pytest.raises(Transient, match="torn cannot be packed") as caught:
        built(tmp_path, [*KEYS, "torn"], torn)
    assert caught.value.outcome == Outcome.CORRUPT


def test_a_pack_of_nothing_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no photos"):
        built(tmp_path, [])


def test_a_disk_that_is_too_small_is_known_before_the_work(tmp_path):
    count = shutil.disk_usage(tmp_path).free // (256 * 256 * 3) + 10_000_000
    reader = Reader()
    with pytest.raises(Misconfigured, match=r"short of .* GB"):
        built(tmp_path, range(count), reader)
    assert reader.asked == []


def test_a_file_in_the_folders_place_is_misconfigured(tmp_path):
    (tmp_path / "pack").write_bytes(b"")
    with pytest.raises(Misconfigured, match="cannot be used"):
        built(tmp_path / "pack")


def test_a_pack_that_another_build_spoils_is_not_handed_out(tmp_path):
    with pytest.raises(Misconfigured, match="another build"):
        built(tmp_path, on_progress=lambda row: truncate(tmp_path) if row == 30 else None)


def test_two_builds_of_one_data_set_take_turns_and_decode_it_once(tmp_path):
    reader = Reader()
    with ThreadPoolExecutor(2) as pool:
        packs = [pool.submit(built, tmp_path, KEYS, reader) for _ in range(2)]
        counts = [pack.result().count for pack in packs]
    assert counts == [30, 30]
    assert sorted(reader.asked) == sorted(KEYS)


def test_a_folder_that_is_removed_under_the_build_is_misconfigured(tmp_path):
    folder = tmp_path / "pack"

    def remove(row):
        if row == 5:
            shutil.rmtree(folder)

    with pytest.raises(Misconfigured):
        built(folder, on_progress=remove)
