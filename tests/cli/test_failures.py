"""`popq failures`: what is listed, and what is exported."""

from __future__ import annotations

import csv

import pytest
from houses import FIRST_ID, house, small_world

from popq.flickr.fake.faults import Fault
from popq.flickr.fake.world import Fate

COLUMNS = (
    "photo_id,flickr_id,page_url,owner,state,reason,job,stage,outcome,http_status,message,failed_at"
)


@pytest.fixture
def home(tmp_path):
    """A Flickr whose first photo is gone, and whose second fails twice."""
    with house(tmp_path, small_world(3, fates=(Fate.REMOVED,))) as home:
        home.list_files(tmp_path)
        home.flickr.faults.fail_photo(FIRST_ID + 7, Fault.ERROR_502, times=2)
        yield home


def test_an_export_has_every_failed_try_and_filters_narrow_it(popq):
    popq("import", "links.txt")
    assert popq("failures", "--export", "-")[0] == COLUMNS + "\n"
    popq("resolve")
    out, _ = popq("failures", "--export", "all.csv")
    assert out == "3 failed tries are in all.csv.\n"
    text = (popq.folder / "all.csv").read_text()
    assert text.splitlines()[0] == COLUMNS
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["outcome"] for row in rows if row["state"] == "resolved"] == ["transient"] * 2
    (gone,) = [row for row in rows if row["state"] == "gone"]
    assert gone | {"message": "", "failed_at": "", "page_url": ""} == {
        **dict.fromkeys(("message", "failed_at", "page_url"), ""),
        "photo_id": "1",
        "flickr_id": str(FIRST_ID),
        "owner": "10000000@N00",
        "state": "gone",
        "reason": "not_found",
        "job": "1",
        "stage": "resolve",
        "outcome": "not_found",
        "http_status": gone["http_status"],
    }
    assert popq("failures", "--export", "-")[0] == text
    assert len(popq("failures", "--export", "-", "--outcome", "not_found")[0].splitlines()) == 2
    assert popq("failures", "--export", "-", "--job", "2")[0] == COLUMNS + "\n"
    assert [row["outcome"] for row in popq.json("failures", "--outcome", "not_found")] == [
        "not_found"
    ]
    assert popq.json("failures", "--export", "all.csv") == {"export": "all.csv", "failures": 3}
    assert not [path for path in popq.folder.iterdir() if path.name.endswith(".popq")]
    _, err = popq("failures", "--export", "no/such/all.csv", status=2)
    assert "cannot be written" in err
    popq("failures", "--export", "-", "--json", status=2)
