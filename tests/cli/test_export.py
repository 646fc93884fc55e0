"""What `popq export` writes, read back by those that it is for; and `popq evaluate` of it."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli.conftest import Here
from cli.results import TINY
from click.testing import CliRunner
from disks import small_disk
from houses import FIRST_ID, quiet, stored_house
from pyarrow import parquet
from scipy import stats
from sqlalchemy import text

from popq import api
from popq.catalogue import migrate
from popq.catalogue.db import Catalogue
from popq.cli.main import cli
from popq.errors import Misconfigured
from popq.export import photos


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_scores_are_the_same_in_every_shape(scored, reader):
    told = reader.json("export", "scores", "-o", "s.csv")
    assert told == {"export": "s.csv", "run": 1, "scores": 30}
    for name in ("s.jsonl", "s.parquet"):
        out, _ = reader("export", "scores", "-o", name)
        assert out == f"30 scores are in {name}.\n"
    reader("export", "scores", "-o", "s.json", "--format", "smp")
    table = rows_of(reader.folder / "s.csv")
    lines = [json.loads(line) for line in (reader.folder / "s.jsonl").read_text().splitlines()]
    arrow = parquet.read_table(reader.folder / "s.parquet").to_pylist()
    assert lines == arrow
    shown = [{name: "" if v is None else str(v) for name, v in row.items()} for row in lines]
    assert shown == table
    stored = scored.sql("SELECT id, flickr_id, score, predicted_tier, split FROM scored_photos")
    found = [
        tuple(row[n] for n in ("photo_id", "flickr_id", "score", "predicted_tier", "split"))
        for row in lines
    ]
    assert found == sorted(stored)
    submission = json.loads((reader.folder / "s.json").read_text())
    assert submission["version"] == "VERSION 1.2"
    assert submission["external_data"] == {"used": "false", "details": ""}
    assert submission["result"][0] == {
        "post_id": str(FIRST_ID),
        "popularity_score": lines[0]["score"],
    }
    assert reader("export", "scores", "-o", "-")[0] == (reader.folder / "s.csv").read_text()
    val = reader("export", "scores", "-o", "-", "--format", "jsonl", "--split", "val")[0]
    assert {json.loads(line)["split"] for line in val.splitlines()} == {"val"}


def test_a_submission_is_judged_by_the_labels(scored, reader):
    reader("export", "scores", "-o", "s.json", "--format", "smp")
    told = reader.json("evaluate", 1, "--scores", "s.json")
    pairs = scored.sql("SELECT score, label FROM scored_photos WHERE split <> 'train' ORDER BY id")
    scores, labels = np.array(pairs).T
    assert told["n"] == len(pairs)
    assert told["spearman"] == pytest.approx(stats.spearmanr(scores, labels).statistic)
    assert told["mae"] == pytest.approx(np.abs(scores - labels).mean())
    own = reader.json("evaluate", 1)
    for name in ("spearman", "mae", "by_split"):
        assert own[name] == told[name]
    assert (told["missing"], told["unknown"]) == (0, 0)
    assert set(told["by_split"]) == {"train", "val"}
    cut = "post_id,popularity_score\n" + f"{FIRST_ID},1\n7,2\n"
    (reader.folder / "cut.csv").write_text(cut)
    out, err = reader("evaluate", 1, "--scores", "cut.csv")
    assert out.splitlines()[0].split() == ["photos", "n", "src", "mae"]
    assert "1 scores are of no photo of main" in err
    assert "have no score" in err


def test_a_run_without_scores_says_how_to_get_them(tmp_path, monkeypatch):
    with stored_house(tmp_path, 30, owners=10) as home:
        run = api.new_run(home.rooms, "main", "default", TINY)
        here = Here(tmp_path, home.settings(), monkeypatch)
        assert "Run 1 is queued" in here("evaluate", run, status=2)[1]
        api.train(home.rooms, run, on_progress=quiet)
        assert "`popq score --run 1` scores what is stored" in here("evaluate", run, status=2)[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("", "has no score in it"),
        ("{", "is no submission"),
        ('{"result": [{"post_id": "1"}]}', "is no submission"),
        ("[" * 100_000, "is no submission"),
        (f'[{{"post_id": 1, "popularity_score": {"9" * 400}}}]', "is no submission"),
        ('{"result": [{"post_id": "1", "popularity_score": NaN}]}', "is not finite"),
        ("post_id,popularity_score\n1,2\n1,3\n", "has two scores"),
        ("post_id,popularity_score\n1,2\n", "None of the 1 scores"),
    ],
)
def test_what_is_no_submission_is_refused(reader, text, words):
    if text is not None:
        (reader.folder / "s").write_text(text)
    _, err = reader("evaluate", 1, "--scores", "s", status=2)
    assert words in err


def test_a_manifest_has_what_is_known_and_no_image(scored, reader):
    told = reader.json("export", "manifest", "-o", "m.csv")
    assert told == {"export": "m.csv", "dataset": "main", "photos": 30}
    rows = rows_of(reader.folder / "m.csv")
    assert ",".join(rows[0]) == (
        "photo_id,flickr_id,source_key,url,image_url,owner,licence,label,tier,split,sha256"
    )
    assert rows[0]["url"].startswith("https://www.flickr.com/photos/")
    assert {row["tier"] for row in rows} == {"1", "2", "3"}
    reader("export", "manifest", "-o", "m.parquet", "--dataset", "main")
    assert parquet.read_table(reader.folder / "m.parquet").num_rows == 30
    assert reader("export", "manifest", "-o", "-")[0] == (reader.folder / "m.csv").read_text()
    assert {path.name for path in reader.folder.iterdir()} == {"m.csv", "m.parquet"}


@pytest.mark.parametrize("options", [[], ["--copy"]])
def test_images_lie_by_split_and_tier_as_links_or_copies(scored, reader, options):
    assert reader.json("export", "imagefolder", "out", *options)["photos"] == 30
    out = reader.folder / "out"
    for split, name in (("train", "train"), ("val", "validation")):
        rows = rows_of(out / name / "metadata.csv")
        known = scored.sql(f"SELECT photo_id, tier FROM members WHERE split = '{split}'")
        assert {(int(row["photo_id"]), int(row["tier"])) for row in rows} == set(known)
        for row in rows:
            file = out / name / row["file_name"]
            assert file.parent.name == row["tier"]
            assert file.is_symlink() == (not options)
            assert hashlib.sha256(file.read_bytes()).hexdigest() == row["sha256"]


def test_an_exported_model_scores_as_the_run_does(scored, reader):
    told = reader.json("export", "model", "model", "--onnx")
    assert set(told["files"]) == {"card.json", "model.onnx", "model.safetensors"}
    assert told["onnx_differs_by"] < 1e-4
    card = json.loads((reader.folder / "model" / "card.json").read_text())
    assert card["run"] == 1
    assert card["dataset"]["name"] == "main"
    assert len(card["cuts"]) == len(card["scale"]["cuts"]) == 2
    assert card["preprocessing"]["size"] == 32
    assert card["metrics"]["n"] > 0
    assert "research only" in card["licences"]
    key, wanted = scored.sql(
        "SELECT p.file_key, s.score FROM scores s JOIN photos p ON p.id = s.photo_id LIMIT 1"
    )[0]
    (found,) = api.load_model("model").score([scored.rooms.store.path(key)])
    assert found.score == pytest.approx(wanted, abs=1e-4)
    _, err = reader("export", "model", "model", status=2)
    assert "is there already" in err
    (reader.folder / "model" / "card.json").write_text("{}")
    _, err = reader("predict", "model", "a.jpg", status=2)
    assert "another version" in err


def test_a_catalogue_is_copied_as_one_sqlite_file(scored, reader):
    rows = reader.json("export", "catalogue", "-o", "copy.db")["rows"]
    assert rows > 100
    with sqlite3.connect(reader.folder / "copy.db") as copy:
        assert copy.execute("SELECT count(*) FROM scored_photos").fetchone() == (30,)
    copy.close()
    assert [path.name for path in reader.folder.iterdir()] == ["copy.db"]
    reader("export", "catalogue", "-o", "-", status=2)


def test_a_catalogue_of_an_older_version_is_not_copied(tmp_path):
    catalogue = Catalogue(f"sqlite:///{tmp_path}/old.db")
    migrate.upgrade(catalogue)
    with catalogue.begin() as tx:
        tx.execute(text("DROP TABLE judgements"))
        tx.execute(text("UPDATE alembic_version SET version_num = '0006'"))
    env = {"POPQ_DATABASE_URL": f"sqlite:///{tmp_path}/old.db"}
    done = CliRunner().invoke(cli, ["export", "catalogue", "-o", "copy.db"], env=env)
    assert isinstance(done.exception, Misconfigured)
    assert re.search(r"old\.db is at version 0006.*run `popq init`", str(done.exception))
    assert not Path("copy.db").exists()
    catalogue.close()


def test_a_catalogue_is_not_replaced_by_its_copy(scored, reader):
    here = scored.rooms.catalogue.path
    before = here.stat().st_ino
    (reader.folder / "link.db").symlink_to(here)
    for name in (here, "link.db"):
        _, err = reader("export", "catalogue", "-o", name, status=2)
        assert "is the catalogue itself" in err
    assert here.stat().st_ino == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["scores", "-o", "s.csv", "--run", "9"], "There is no run 9"),
        (["scores", "-o", "s.xlsx"], "names no kind of file"),
        (["scores", "-o", "-", "--format", "parquet"], "cannot go to stdout"),
        (["scores", "-o", "s.csv", "--split", "test"], "has scored no photo of the split test"),
        (["scores", "-o", "no/such/s.csv"], "cannot be written"),
        (["manifest", "-o", "m.csv", "--dataset", "none"], "no data set 'none'"),
        (["imagefolder", "."], "is there already"),
        (["model", "m", "--run", "9"], "There is no run 9"),
        (["catalogue", "-o", "no/such/copy.db"], "there is no folder"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing_behind(reader, arguments, words):
    (reader.folder / "here").write_text("mine")
    _, err = reader("export", *arguments, status=2)
    assert words in err
    assert [path.name for path in reader.folder.iterdir()] == ["here"]


def test_a_file_that_may_not_grow_leaves_no_half(outside):
    for what in (["scores", "-o", "s.csv"], ["catalogue", "-o", "copy.db"]):
        limited = ["sh", "-c", 'ulimit -f 4; exec "$@"', "sh", sys.executable, "-m", "popq"]
        done = subprocess.run(
            [*limited, "export", *what],
            cwd=outside.folder,
            # Not measured: there is no room for what coverage keeps, either.
            env=outside.environment | {"COVERAGE_PROCESS_CONFIG": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        # The limit is the process's, not the disk's: for SQLite any such fault is the place's.
        assert done.returncode == {"scores": 2, "catalogue": 3}[what[0]], done.stderr
        assert "Traceback" not in done.stderr
        assert "popq: " in done.stderr
        assert list(outside.folder.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["scores", "-o", "disk/new.csv"],
        ["scores", "-o", "disk/new.parquet"],
        ["manifest", "-o", "disk/new.jsonl"],
        ["catalogue", "-o", "disk/new.db"],
        ["card", "-o", "disk/new.md"],
        ["model", "disk/new"],
        ["model", "disk/new", "--onnx"],
        ["imagefolder", "disk/new", "--copy"],
    ],
    ids=" ".join,
)
def test_a_full_disk_is_named_and_holds_no_half(reader, words):
    with small_disk(reader.folder / "disk", "8k") as disk:
        (disk / "mine").write_bytes(bytes(5000 if words[0] != "imagefolder" else 1))
        _, err = reader("export", *words, status=3)
        assert [path.name for path in disk.iterdir()] == ["mine"]
    *_, line = err.splitlines()
    assert line.startswith("popq: There is no room for disk/new"), err
    assert err.count("popq: ") == 1, err


def test_a_file_that_is_gone_from_the_store_is_left_out_and_said(tmp_path):
    with stored_house(tmp_path, 12, owners=6) as home:
        lost, key = home.sql("SELECT photo_id, file_key FROM members LIMIT 1")[0]
        home.rooms.store.delete(key)
        for copy in (True, False):
            made = photos.save_folders(
                home.rooms.catalogue, home.rooms.store, "main", tmp_path / f"{copy}", copy=copy
            )
            assert made == {"photos": 11, "missing": [lost]}
