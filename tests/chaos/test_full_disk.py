"""A store whose disk is full for a while."""

from __future__ import annotations

import os

import pytest
from chaos.fleet import fleet_over
from disks import small_disk

FULL = "No space left on device"


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path):
    """Yield a folder that is a disk of its own, of 24 MB."""
    with small_disk(tmp_path / "disk", "24m") as folder:
        yield folder


def fill(disk, but):
    """Fill the disk up but for so many bytes; return the file that does it."""
    ballast = disk / ".ballast"
    space = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - but)
    return ballast


def test_a_disk_that_is_full_for_a_while_loses_nothing(
    tmp_path, small_disk, undisturbed, size, report
):
    photos, complaints = size(120, 2000), size(4, 100)
    with fleet_over(tmp_path, photos, store_url=str(small_disk)) as fleet:
        fleet.resolve_here()
        fleet.start(2)
        ballast = fill(small_disk, 40 * 4096)
        fleet.enqueue("download", size=25)
        fleet.until(lambda: fleet.log().count(FULL) >= complaints)
        assert 0 < fleet.count("moments") < photos / 2
        ballast.unlink()
        fleet.finish("download")  # by itself
        fleet.losses += fleet.log().count(FULL)
        report(fleet, again=fleet.check(undisturbed(photos)))
