"""`popq predict`: pictures from files, folders, links and pipes, the same as the catalogue has."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys

import pytest
from houses import FIRST_ID, jpeg
from PIL import Image

from popq import api


@pytest.fixture
def folder(tmp_path):
    """Two photos, a broken one, and what is no photo."""
    place = tmp_path / "photos"
    (place / "more").mkdir(parents=True)
    (place / "a.jpg").write_bytes(jpeg(0))
    (place / "more" / "b.JPG").write_bytes(jpeg(1))
    (place / "broken.jpg").write_bytes(jpeg(2)[:500])
    (place / "notes.txt").write_text("no photo")
    return place


def test_a_folder_a_link_and_a_list_on_stdin_score_as_the_catalogue_does(scored, reader, folder):
    link = f"{scored.flickr.image_url}/65535/{FIRST_ID}_{0:010x}_z.jpg"
    listed = f"{link}\n\nnowhere.jpg\n"
    out, err = reader("predict", 1, "photos", "-", "--json", stdin=listed, status=1)
    assert "broken.jpg: " in err
    assert "nowhere.jpg is missing" in err
    assert "2 could not be read" in err
    told = json.loads(out)
    assert [picture["picture"] for picture in told["pictures"]] == [
        "photos/a.jpg",
        "photos/more/b.JPG",
        link,
    ]
    assert [bad["picture"] for bad in told["skipped"]] == ["photos/broken.jpg", "nowhere.jpg"]
    stored = dict(scored.sql("SELECT flickr_id, score FROM scored_photos"))
    wanted = [stored[FIRST_ID], stored[FIRST_ID + 7], stored[FIRST_ID]]
    found = [picture["score"] for picture in told["pictures"]]
    assert found == pytest.approx(wanted, abs=1e-4)


def test_csv_ranks_and_the_python_door_says_the_same(reader, folder):
    (folder / "broken.jpg").unlink()
    (folder / "a.jpg").rename(folder / "a\r.jpg")  # a line's end to readers, unless it is quoted
    out, _ = reader("predict", 1, "photos", "--csv", "--rank")
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    assert list(rows[0]) == ["picture", "score", "tier", "p1", "p2", "p3"]
    assert float(rows[0]["score"]) >= float(rows[1]["score"])
    scorer = api.load_model(1)
    paths = [reader.folder / row["picture"] for row in rows]
    with Image.open(paths[1]) as second:
        said = scorer.score([paths[0], second])
    assert [one.score for one in said] == pytest.approx([float(r["score"]) for r in rows], abs=1e-4)
    assert sum(said[0].probabilities) == pytest.approx(1, abs=1e-5)
    assert said[0].tier == 1 + said[0].probabilities.index(max(said[0].probabilities))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["999", "a.jpg"], "There is no run 999"),
        (["99999999999999999999", "a.jpg"], "is not in the range"),
        (["nowhere", "a.jpg"], "is no exported model"),
        (["1", "empty"], "There is no image in the folder empty"),
        (["1", "-"], "Nothing came from standard input"),
        (["1"], "Missing argument"),
    ],
)
def test_what_cannot_be_scored_is_said_in_a_line(reader, arguments, words):
    (reader.folder / "empty").mkdir()
    _, err = reader("predict", *arguments, status=2)
    assert words in err


def test_a_table_for_a_person(reader, folder):
    out, err = reader("predict", 1, "photos", "--rank", status=1)
    assert "predict: 3 of 3" in err
    assert out.splitlines()[0].split() == ["picture", "score", "tier", "p1", "p2", "p3"]
    assert len(out.splitlines()) == 3
    assert "1 could not be read." in err
    reader("predict", 1, "photos", "--csv", "--json", status=2)


def test_a_link_to_elsewhere_is_not_asked(reader):
    _, err = reader("predict", 1, "http://127.0.0.1:1/secret.jpg", status=1)
    assert "\nhttp://127.0.0.1:1/secret.jpg lies on no image host of Flickr's" in err


def test_names_of_any_bytes_come_in_and_go_out_as_they_are(outside):
    name = b"caf\xe9.jpg"  # Latin-1
    (outside.folder / os.fsdecode(name)).write_bytes(jpeg(0))
    ended = subprocess.run(
        [sys.executable, "-m", "popq", "predict", "1", "-", "--csv"],
        cwd=outside.folder,
        env=outside.environment | {"PYTHONIOENCODING": "utf-8:strict"},  # as in most languages
        input=name + b"\nb.jpg\0c.jpg\n",
        capture_output=True,
        check=False,
    )
    assert ended.stdout.splitlines()[1].startswith(name + b",")
    assert b"has a NUL in it" in ended.stderr
    assert b"1 could not be read" in ended.stderr
    assert ended.returncode == 1


def test_a_name_is_told_without_what_a_terminal_would_obey(reader):
    (reader.folder / "\x1b[2Jred.jpg").write_bytes(b"no picture")
    _, err = reader("predict", 1, "a.jpg", "\x1b[2Jred.jpg", status=1)
    assert "[2Jred.jpg: " in err
    assert "\x1b" not in err


def test_an_empty_name_is_no_folder(reader):
    assert "A name is empty" in reader("predict", 1, "", status=2)[1]
