"""`popq import` as a person runs it, and as a person or a machine breaks it off."""

from __future__ import annotations

import os
import signal

import pytest

#: More rows than are staged at a time, and far more than a pipe holds.
ROWS = 30_000


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)]
)
def test_an_import_that_is_broken_off_leaves_nothing_and_the_next_one_is_whole(
    popq, home, signum, status
):
    """The list comes through a pipe, so that the import is in the middle of it when it ends."""
    lines = [f"https://www.flickr.com/photos/1234567@N00/{10**9 + n}" for n in range(ROWS)]
    source = popq.folder / "pipe"
    os.mkfifo(source)
    # Not measured: coverage may be interrupted with its own lock held, and then waits for itself.
    with popq.start("import", source, COVERAGE_PROCESS_CONFIG="") as process:
        with source.open("w") as pipe:
            pipe.write("\n".join(lines))
            pipe.flush()  # it has read all but what the pipe holds, and waits for more
            process.send_signal(signum)
            process.wait(timeout=60)
        _, err = process.communicate()
    assert process.returncode == status, err
    assert home.sql("SELECT count(*) FROM photos") == [(0,)]
    source.unlink()
    source.write_text("\n".join(lines))
    assert popq.json("import", source)["new"] == ROWS
    assert popq.json("import", source)["unchanged"] == ROWS


def test_a_dry_run_says_that_nothing_was_changed(popq, home):
    out, _ = popq("import", "links.txt", "--labels", "labels.txt", "--dry-run")
    assert out.startswith("40 rows read: 40 new")
    assert out.endswith("A dry run: nothing was changed.\n")
    assert home.sql("SELECT count(*) FROM photos") == [(0,)]


def test_a_dry_run_makes_no_catalogue(bare):
    (bare.folder / "one.txt").write_text("https://www.flickr.com/photos/x/1234567890")
    assert bare.json("import", "one.txt", "--dry-run")["new"] == 1
    assert [path.name for path in bare.folder.iterdir()] == ["one.txt"]


def test_ids_that_may_be_a_data_sets_own_are_warned_of(bare):
    table = "pid uid url\n775 59@N75 https://www.flickr.com/photos/x/1234567890\n"
    (bare.folder / "PHOTO_URL.txt").write_text(table)
    _, err = bare("import", "PHOTO_URL.txt", "--url-col", "pid")
    assert "warning: 1 photos of the list have ids below a million" in err
    _, err = bare("import", "PHOTO_URL.txt", "--url-col", "url")
    assert "warning" not in err
