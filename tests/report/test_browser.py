"""A real browser reads the page in silence and finds the numbers that SQL gives.

Without a browser these are skipped, but fail when `CI` is set, as without a server (`servers.py`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
from html import escape

import pytest
from PIL import Image, ImageStat
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


def chromium(file, folder, *options):
    """Open a file in a browser of its own; return what that printed."""
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={folder}", "--enable-logging=stderr", "--v=0"]
    return subprocess.run(
        [*command, *options, file.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


def browse(file, folder):
    """Open a file; return the page that the browser made of it, and what it complained of."""
    done = chromium(file, folder, "--dump-dom")
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


def test_a_page_is_as_light_or_as_dark_as_its_reader_has_it(scene, tmp_path, profile):
    scene.whole(22)
    file = tmp_path / "report.html"
    page.write(scene.catalogue, scene.store, None, file)
    light, dark = (brightness(file, profile, *option) for option in ((), ("--force-dark-mode",)))
    # The ground first, then the average, so that text, tables and plots went along.
    assert (light[0], dark[0]) == (255, pytest.approx(22, abs=10))
    assert light[1] > 3 * dark[1]


def brightness(file, profile, *options):
    """Return how light (0 to 255) the page's corner is, and all that is above its photos."""
    shot = file.with_name("shot.png")
    chromium(file, profile, *options, "--window-size=1100,4000", f"--screenshot={shot}")
    with Image.open(shot) as picture:
        grey = picture.convert("L")
    return grey.getpixel((3, 3)), ImageStat.Stat(grey).mean[0]


FRAME = """<!DOCTYPE html><title>waits</title>
<iframe style="width: 400px; height: 800px; border: 0" srcdoc="{}"></iframe>
<script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const page = frame.contentDocument;
  const reached = [...page.querySelectorAll("a[href], summary, .scroll")].map((one) => {{
    one.focus();
    return page.activeElement === one;
  }});
  const tooWide = (one) => one.scrollWidth > one.clientWidth;
  const tables = [...page.querySelectorAll(".scroll")].some(tooWide);
  const facts = {{ page: tooWide(page.documentElement), tables, reached }};
  document.title = JSON.stringify(facts);
}};
</script>
"""


def test_a_telephone_shows_it_whole_and_a_keyboard_reaches_all(scene, tmp_path, profile):
    run = scene.whole(30)
    html = page.make(scene.catalogue, scene.store, run).html.decode()
    file = tmp_path / "frame.html"
    opened = html.replace("<details>", "<details open>")
    assert opened != html
    file.write_text(FRAME.format(escape(opened)))
    shown, _ = browse(file, profile)
    facts = json.loads(shown.text[: shown.text.index("}") + 1])
    assert not facts["page"]
    assert facts["tables"]  # or there was nothing that could have been too wide
    assert len(facts["reached"]) > 30
    assert all(facts["reached"])


def test_it_prints_on_a_few_white_pages(scene, tmp_path, profile):
    scene.whole()
    file, paper = tmp_path / "report.html", tmp_path / "report.pdf"
    page.write(scene.catalogue, scene.store, None, file)
    chromium(file, profile, "--force-dark-mode", f"--print-to-pdf={paper}")
    pages = re.findall(rb"/Type\s*/Page\b", paper.read_bytes())
    assert 3 <= len(pages) <= 10


def numbers_of(database, run, photos):
    """Return each number of the page by its name, out of plain SQL."""

    def rows(query, *values):
        return database.execute(query, values).fetchall()

    found = {"run.id": run}
    found |= dict.fromkeys([f"funnel.{s}" for s in ("listed", "resolved", "stored")], 0)
    for state, count in rows("SELECT state, count(*) FROM photos GROUP BY state"):
        found[f"funnel.{state}"] = count
    ((found["summary.photos"],),) = rows("SELECT count(*) FROM photos")
    for state, reason, count in rows("SELECT state, reason, photos FROM failure_reasons"):
        name = f"reason.{state}.{reason}"
        found |= {name: count, f"{name}.share": count / found["summary.photos"]}
    found |= of_years(rows)
    found |= of_dataset(rows, run)
    found |= of_run(rows, run)
    ids = ", ".join(map(str, photos))
    query = f"SELECT id, score, label, tier, predicted_tier FROM scored_photos WHERE id IN ({ids})"
    for photo, score, label, tier, predicted in rows(query):
        name = f"photo.{photo}"
        found |= {f"{name}.score": score, f"{name}.label": label}
        found |= {f"{name}.tier": tier, f"{name}.predicted": predicted}
    found["summary.stored"] = found["funnel.stored"]
    found["unseen.val"] = found["split.val"]
    return found


NEAREST = """
(SELECT strftime('%Y', o.posted_at) FROM photos o
 WHERE o.posted_at IS NOT NULL AND o.flickr_id {} p.flickr_id ORDER BY o.flickr_id {} LIMIT 1)"""
YEARS = f"""
WITH dated AS (
  SELECT p.state, p.reason, strftime('%Y', p.posted_at) AS own,
         {NEAREST.format("<", "DESC")} AS below, {NEAREST.format(">", "ASC")} AS above
  FROM photos p
)
SELECT coalesce(own, CASE WHEN below = above THEN below END, 'unknown') AS year, state,
       coalesce(reason, '-'), count(*), sum(own IS NULL AND below = above),
       sum(own IS NOT NULL AND below = above),
       sum(own IS NOT NULL AND below = above AND own = above)
FROM dated GROUP BY 1, 2, 3
"""


def of_years(rows):
    """Return the losses by year of upload; each photo looks for its neighbours by itself."""
    found = {}
    told = rows(YEARS)
    settled = [row for row in told if row[1] in {"stored", "gone", "rejected"}]
    reasons = {row[2] for row in settled} - {"-"}
    for year in {row[0] for row in settled}:
        own = [row for row in settled if row[0] == year]
        photos, lost = sum(row[3] for row in own), sum(row[3] for row in own if row[2] != "-")
        name = f"year.{year}"
        found |= {f"{name}.photos": photos, f"{name}.lost": lost, f"{name}.share": lost / photos}
        for reason in reasons:
            found[f"{name}.{reason}"] = sum(row[3] for row in own if row[2] == reason)
    asked, right = (sum(row[n] or 0 for row in told) for n in (5, 6))
    found |= {"year.asked": asked, "year.right": right / asked}
    found["year.estimated"] = sum(row[4] or 0 for row in settled)
    found["year.unknown.all"] = found["year.unknown.photos"]
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
