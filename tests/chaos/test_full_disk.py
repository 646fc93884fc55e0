"""A store whose disk is full for a while."""

from __future__ import annotations

import os
import subprocess

import pytest
from chaos.fleet import fleet_over


@pytest.fixture
def small_disk(tmp_path):
    """Yield a folder that is a disk of its own, of 24 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "popq-chaos", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk may be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk, but):
    """Fill the disk up but for so many bytes; return the file that does it."""
    ballast = disk / ".ballast"
    space = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - but)
    return ballast


def test_a_full_disk_pauses_the_job_and_loses_nothing(
    tmp_path, small_disk, undisturbed, size, report
):
    photos = size(120, 2000)
    with fleet_over(tmp_path, photos, store_url=str(small_disk)) as fleet:
        fleet.resolve_here()
        fleet.start(2)
        ballast = fill(small_disk, 40 * 4096)
        fleet.enqueue("download", size=25)
        fleet.until(lambda: fleet.job("download") == "paused")
        [(why,)] = fleet.home.sql("SELECT message FROM jobs WHERE stage = 'download'")
        assert "No space left" in why
        fleet.lose_all()
        ballast.unlink()
        fleet.enqueue("download", size=25)
        fleet.finish("download")
        report(fleet, again=fleet.check(undisturbed(photos)))
        assert fleet.count("failures WHERE outcome = 'transient'") == 0
