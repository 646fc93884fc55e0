"""A real browser reads the page in silence and finds the numbers that SQL gives.

Without a browser these are skipped, but fail when `CI` is set, as without a server (`servers.py`).
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess

import pytest
from report.scenes import CONFIG, URLS, seen

from popq.report import page

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(autouse=True)
def browser():
    if BROWSER is None:
        message = f"no browser: install one of {', '.join(NAMES)}"
        if os.environ.get("CI"):
            pytest.fail(f"{message} (in CI this is a failure, not a skip)")
        pytest.skip(message)


def browse(file, folder):
    """Open a file; return the page that the browser made of it, and what it complained of."""
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={folder}", "--enable-logging=stderr", "--v=0"]
    done = subprocess.run(
        [*command, "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return seen(done.stdout), complaints


@pytest.fixture
def profile(tmp_path):
    """Return a folder for the browser, which is a few MB, and remove it again."""
    yield tmp_path / "profile"
    shutil.rmtree(tmp_path / "profile", ignore_errors=True)


def test_a_browser_shows_the_numbers_of_the_catalogue_and_asks_for_nothing(
    scene, tmp_path, profile
):
    run = scene.whole()
    file = tmp_path / "report.html"
    page.write(scene.catalogue, scene.store, run, file)
    shown, complaints = browse(file, profile)
    assert complaints == []
    with sqlite3.connect(scene.catalogue.path) as database:
        expected = numbers_of(database, run, shown.photos())
    database.close()
    assert shown.numbers == expected


def test_a_browser_obeys_nothing_that_others_wrote(scene, tmp_path, profile):
    photos = scene.hostile()
    file = tmp_path / "report.html"
    page.write(scene.catalogue, scene.store, None, file)
    shown, complaints = browse(file, profile)
    assert complaints == []
    assert sorted(shown.photos()) == photos
    assert not {tag for tag, _ in shown.tags} & {"script", "iframe"}
    links = {href for href in shown.every("a", "href") if not href.startswith("#")}
    assert links == set(URLS[-3:])


def test_the_browser_would_have_complained(scene, tmp_path, profile):
    file = tmp_path / "report.html"
    page.write(scene.catalogue, scene.store, None, file)
    with file.open("a") as more:
        more.write("<img src='elsewhere.png'><script>1</script>")
    _, complaints = browse(file, profile)
    assert any("elsewhere.png" in line for line in complaints)
    assert any("script" in line for line in complaints)


def numbers_of(database, run, photos):
    """Return each number of the page by its name, out of plain SQL."""

    def rows(query, *values):
        return database.execute(query, values).fetchall()

    found = {"run.id": run}
    found |= dict.fromkeys([f"funnel.{s}" for s in ("listed", "resolved", "stored")], 0)
    for state, count in rows("SELECT state, count(*) FROM photos GROUP BY state"):
        found[f"funnel.{state}"] = count
    for state, reason, count in rows("SELECT state, reason, photos FROM failure_reasons"):
        found[f"reason.{state}.{reason}"] = count
    found |= of_dataset(rows, run)
    found |= of_run(rows, run)
    ids = ", ".join(map(str, photos))
    query = f"SELECT id, score, label, tier, predicted_tier FROM scored_photos WHERE id IN ({ids})"
    for photo, score, label, tier, predicted in rows(query):
        name = f"photo.{photo}"
        found |= {f"{name}.score": score, f"{name}.label": label}
        found |= {f"{name}.tier": tier, f"{name}.predicted": predicted}
    ((found["summary.photos"],),) = rows("SELECT count(*) FROM photos")
    found["summary.stored"] = found["funnel.stored"]
    found["unseen.val"] = found["split.val"]
    return found


def of_dataset(rows, run):
    columns = "d.id, d.seed, d.crossing, d.cuts, d.mean, d.std, d.ties"
    query = f"SELECT {columns} FROM datasets d JOIN runs r ON r.dataset_id = d.id WHERE r.id = ?"
    ((dataset, seed, crossing, *lists),) = rows(query, run)
    found = {"dataset.seed": seed}
    found |= {f"dataset.crossing.{what}": n for what, n in json.loads(crossing).items()}
    for name, values in zip(("cut", "mean", "std", "ties"), map(json.loads, lists), strict=True):
        found |= {f"dataset.{name}.{n}": value for n, value in enumerate(values, 1)}
    of = "FROM members WHERE dataset_id = ?"
    ((count, distinct),) = rows(f"SELECT count(*), count(DISTINCT label) {of}", dataset)
    found |= {"dataset.count": count, "split.all": count, "dataset.distinct_labels": distinct}
    for split in ("train", "val", "test"):
        ((found[f"split.{split}"],),) = rows(f"SELECT count(*) {of} AND split = ?", dataset, split)
        for tier in (1, 2, 3):
            query = f"SELECT count(*) {of} AND split = ? AND tier = ?"
            ((found[f"tier.{tier}.{split}"],),) = rows(query, dataset, split, tier)
    query = f"SELECT tier, count(*), min(label), max(label) {of} GROUP BY tier"
    for tier, photos, lowest, highest in rows(query, dataset):
        found |= {f"tier.{tier}.photos": photos, f"tier.{tier}.lowest": lowest}
        found[f"tier.{tier}.highest"] = highest
    return found


ENDS = ("_low", "_high")


def of_run(rows, run):
    columns = ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "lr")
    columns += ("images_per_second",)
    found = {}
    epochs = rows(f"SELECT epoch, {', '.join(columns)} FROM epochs WHERE run_id = ?", run)
    for epoch, *values in epochs:
        found |= {f"epoch.{epoch}.{c}": v for c, v in zip(columns, values, strict=True)}
    ((text, best),) = rows("SELECT metrics, best_epoch FROM runs WHERE id = ?", run)
    judged = json.loads(text)
    found |= {"run.epochs": len(epochs), "run.best_epoch": best}
    for row, counts in enumerate(judged.pop("confusion"), 1):
        for column, count in enumerate(counts, 1):
            name = f"confusion.{row}.{column}"
            found |= {name: count, f"{name}.share": count / sum(counts)}
    without = judged.pop("without_pixels")
    found |= {f"predictor.without_pixels.{name}": value for name, value in without.items()}
    found |= {"predictor.accuracy": judged["accuracy"], "predictor.chance": judged.pop("chance")}
    found |= {"summary.accuracy": judged["accuracy"], "summary.p_chance": judged["p_chance"]}
    found["summary.best_without_pixels"] = max(without.values())
    for name, bounds in judged.pop("intervals").items():
        named = f"predictor.{name}" if name.startswith("without_pixels.") else f"metrics.{name}"
        found |= dict(zip((f"{named}_low", f"{named}_high"), bounds, strict=True))
    low_high = {f"predictor.accuracy{end}": found[f"metrics.accuracy{end}"] for end in ENDS}
    found |= low_high | {f"metrics.{k}": v for k, v in judged.items() if type(v) in {int, float}}
    found["metrics.p_chance_n"] = judged["n"]
    settings = {k: v for k, v in CONFIG.items() if type(v) in {int, float}}
    return found | {f"config.{name}": value for name, value in settings.items()}
