"""What is written is there whole or not at all."""

from __future__ import annotations

import errno
import os

import pytest

from popq.errors import BadInput, Misconfigured
from popq.images.whole import whole_file, whole_folder

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fill(target):
    """Write half of something, and then find the disk full."""
    with target as scratch:
        (scratch / "half" if scratch.is_dir() else scratch).write_text("half")
        raise FULL


def test_a_full_disk_leaves_the_old_file_and_no_half(tmp_path):
    target = tmp_path / "a.csv"
    target.write_text("old")
    with pytest.raises(Misconfigured, match=r"no room for .*a\.csv"):
        fill(whole_file(target))
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert target.read_text() == "old"
    with pytest.raises(Misconfigured, match="no room"):
        fill(whole_folder(tmp_path / "b"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_link_stays_one_and_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "there.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("there.csv")
    with whole_file(tmp_path / "link.csv") as scratch:
        scratch.write_text("new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "there.csv").read_text() == "new"
    (tmp_path / "empty").mkdir()
    with whole_folder(tmp_path / "empty") as scratch:
        (scratch / "a").write_text("a")
    assert (tmp_path / "empty" / "a").read_text() == "a"


def test_what_is_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    with pytest.raises(BadInput, match="no ordinary file"), whole_file(tmp_path / "folder"):
        pass
    with pytest.raises(BadInput, match="there already"), whole_folder(tmp_path / "folder"):
        pass
    with pytest.raises(BadInput, match="no folder"), whole_file(tmp_path / "no" / "a"):
        pass


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_a_name_that_no_file_can_have_is_bad_input(tmp_path, whole):
    with pytest.raises(BadInput, match="cannot be written"), whole(tmp_path / ("n" * 300)):
        pass
