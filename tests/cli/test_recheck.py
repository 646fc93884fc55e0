from __future__ import annotations

import pytest
from houses import FIRST_ID, house, small_world

from popq.flickr.fake.world import Fate


@pytest.fixture
def home(tmp_path):
    """A Flickr that shows neither of the first two photos."""
    with house(tmp_path, small_world(10, fates=(Fate.REMOVED, Fate.PRIVATE))) as home:
        home.list_files(tmp_path)
        yield home


def test_a_photo_that_flickr_shows_again_comes_back_and_one_that_is_gone_has_a_new_note(popq, home):
    popq("import", "links.txt", "--labels", "labels.txt")
    assert popq.json("resolve")["exited"] == 2
    assert popq.json("recheck") == {"photos": 0, "reasons": {}, "dry_run": False}
    assert "Nothing to recheck" in popq("recheck")[0]
    now = ("--older-than-hours", "0")
    foreseen = popq.json("recheck", *now, "--dry-run")
    assert (foreseen["photos"], foreseen["dry_run"]) == (2, True)
    assert popq.json("status")["photos"]["gone"] == 2
    home.flickr.world.photos[FIRST_ID].fate = Fate.LIVE
    out, err = popq("recheck", *now)
    assert out.startswith("2 photos are listed again: ")
    assert "`popq resolve`" in err
    done = popq.json("resolve")
    assert (done["moved"], done["exited"]) == (1, 1)
    assert popq.json("photo", FIRST_ID)["state"] == "resolved"
    story = popq.json("photo", FIRST_ID + 7)
    assert (story["state"], len(story["failures"])) == ("gone", 2)


def test_recheck_takes_a_reason_and_a_limit(popq):
    popq("import", "links.txt")
    popq("resolve")
    now = ("--older-than-hours", "0", "--dry-run")
    assert popq.json("recheck", *now, "--limit", "1")["photos"] == 1
    assert popq.json("recheck", *now, "--reason", "placeholder")["photos"] == 0
    popq("recheck", "--reason", "video", status=2)
