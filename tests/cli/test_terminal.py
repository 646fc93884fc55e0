"""What is printed fits a terminal of 80 columns, and has colours there unless they are unwanted."""

from __future__ import annotations

import os
import pty
import re
import termios

import pytest
from catalogue.scene import Scene
from houses import FIRST_ID

from popq.flickr.fake.faults import Fault


def on_a_terminal(shell, *words, status=0, **settings):
    """Run a command whose stdout is a terminal of 80 columns; return what it showed."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with shell.start(*words, stdout=theirs, TERM="xterm", **settings) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # how Linux says that nobody is inside any more
            pass
        _, err = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == status, (shown, err)
    return shown.decode().replace("\r\n", "\n")


def too_long(out):
    """Return the lines that a terminal of 80 columns would break, though they could be shorter."""
    bare = re.sub("\x1b\\[[0-9;]*m", "", out)
    # A link or a path is never cut.
    return [line for line in bare.splitlines() if len(line) > 80 > 2 * max(map(len, line.split()))]


def test_a_photos_failures_are_a_table_that_fits_and_its_title_is_no_command(home, popq):
    home.flickr.faults.fail_photo(FIRST_ID, Fault.ERROR_502, times=2)
    popq("import", "links.txt", "--labels", "labels.txt")
    popq("resolve", "--limit", 2)
    title = "A \x1b[31mlong\x07 title, and " * 8
    Scene(home.rooms.catalogue).do("UPDATE photos SET title = :t WHERE id = 1", t=title)
    out, _ = popq("photo", 1)
    assert not too_long(out)
    assert "\x1b" not in out
    assert " ".join(out.split()).count("title, and") == 8
    assert re.search(r"^page_url +https://www.flickr.com/photos/\S+$", out, re.MULTILINE)
    facts, failures = out.split("\nfailures\n")
    assert not re.search("^(failures|scores|datasets)", facts, re.MULTILINE)
    assert failures.splitlines()[0].split() == ["failed_at", "outcome", "http_status", "message"]
    assert failures.count("transient") == 2
    assert failures.count("502") >= 2
    assert "{" not in out
    assert "[" not in failures


def test_a_photos_scores_and_data_sets_are_tables_that_fit(scored, reader):
    out, _ = reader("photo", 1)
    assert not too_long(out)
    told = reader.json("photo", 1)
    (score,), (member,) = told["scores"], told["datasets"]
    scores, datasets = out.split("\nscores\n")[1].split("\n\ndatasets\n")
    assert scores.splitlines()[0].split() == ["run_id", "score", "tier", "probabilities"]
    shares = " ".join(f"{share:.3f}" for share in score["probabilities"])
    assert scores.splitlines()[1].split(maxsplit=3)[3] == shares
    assert datasets.splitlines()[1].split() == ["1", str(member["tier"]), member["split"]]


@pytest.mark.parametrize("value", ["1", "0", "anything"])
def test_no_color_is_heeded_whatever_it_holds(bare, value):
    assert "\x1b[1m" in on_a_terminal(bare, "config", "show")
    assert "\x1b[" not in on_a_terminal(bare, "config", "show", NO_COLOR=value)


def test_what_the_doctor_says_hangs_below_itself(popq, home):
    nobody = {
        "POPQ_FLICKR_API_URL": "http://127.0.0.1:1/",
        "POPQ_BROKER_URL": "redis://:hush@127.0.0.1:1/0",
    }
    out = on_a_terminal(popq, "doctor", status=4, NO_COLOR="1", **nobody)
    assert not too_long(out)
    assert re.search(r"^wrong    key        1 of 1 keys .*\n {20}\S", out, re.MULTILINE)
    assert re.search(r"^wrong    broker +The broker redis.*\n {20}\S", out, re.MULTILINE)
    assert "POPQ_BROKER_URL" in out.split("\nsettings")[0]
    assert "hush" not in out
    assert re.search(r"^ok       database   sqlite", out, re.MULTILINE)
