"""The page says what the catalogue says, whatever others wrote into it, and asks for nothing."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from PIL import Image
from report.scenes import HOSTILE, URLS, Reported, seen
from servers import postgres_url

from popq.catalogue import migrate, runs
from popq.catalogue.db import Catalogue
from popq.errors import BadInput
from popq.flickr.licences import LICENCES, licence_name
from popq.images.store import Store
from popq.report import page
from popq.report.photos import link, shorten


def check_harmless(shown):
    """Nothing in the page runs, loads or leads anywhere but to https."""
    names = {tag for tag, _ in shown.tags}
    assert not names & {"script", "iframe", "object", "embed", "form", "base", "video", "audio"}
    assert not [key for _, values in shown.tags for key in values if key.startswith("on")]
    assert all(source.startswith("data:image/") for source in shown.every("img", "src"))
    assert shown.every("link", "href") == ["data:,"]
    for href in shown.every("a", "href"):
        assert href.startswith(("#", "https://")), href
    assert shown.html.count("<style>") == shown.html.count("</style>") == 1
    assert "url(" not in shown.html
    assert "@import" not in shown.html


def test_a_whole_report_is_one_harmless_page(scene):
    run = scene.whole()
    shown = scene.page()
    check_harmless(shown)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert policy in shown.every("meta", "content")
    assert shown.numbers["run.id"] == run
    assert "endorsed or certified by SmugMug, Inc." in shown.text
    headings = [tag for tag, _ in shown.tags if tag in {"h1", "h2"}]
    assert headings == ["h1"] + ["h2"] * 7
    assert shown.text.count("Highest scores") == 1
    assert "beats every predictor without pixels" in shown.text or "no pixel" in shown.text
    assert len(shown.html.encode()) < 3_000_000


def test_a_screen_reader_finds_its_way(scene):
    scene.whole()
    shown = scene.page()
    assert shown.every("html", "lang") == ["en"]
    assert [tag for tag, _ in shown.tags if tag in {"header", "nav", "main", "footer"}] == [
        "header",
        "nav",
        "main",
        "footer",
    ]
    sections = shown.every("section", "id")
    links = [href for href in shown.every("a", "href") if href.startswith("#")]
    assert links == [f"#{section}" for section in sections]
    levels = [int(tag[1]) for tag, _ in shown.tags if tag in {"h1", "h2", "h3"}]
    assert all(later - level <= 1 for level, later in pairwise(levels))
    # Each heading of a table says what it heads; what can be scrolled has a name and is reached.
    heads = [values for tag, values in shown.tags if tag == "th"]
    assert {values.get("scope") for values in heads} == {"col", "row"}
    scrolled = [values for _, values in shown.tags if values.get("class") == "scroll"]
    assert len(scrolled) == len([tag for tag, _ in shown.tags if tag == "table"])
    assert all((one["role"], one["tabindex"]) == ("region", "0") for one in scrolled)
    names = [one["aria-label"] for one in scrolled]
    assert len(set(names)) == len(names)


def test_losses_are_told_by_reason_and_by_year(scene):
    scene.whole()
    shown = scene.page()
    assert shown.numbers["reason.gone.not_found"] == 3
    # The successor of 6 stands between two years, and the last one has nobody above.
    assert (shown.numbers["year.unknown.photos"], shown.numbers["year.unknown.lost"]) == (2, 2)
    assert (shown.numbers["year.2012.private"], shown.numbers["year.2013.not_found"]) == (1, 1)
    assert (shown.numbers["year.2012.video"], shown.numbers["year.estimated"]) == (1, 3)
    years = [name for name in shown.numbers if re.fullmatch(r"year\.\d+\.lost", name)]
    assert years == [f"year.{year}.lost" for year in range(2012, 2023)]
    told = sum(shown.numbers[name] for name in [*years, "year.unknown.lost"])
    assert told == shown.numbers["funnel.gone"] + shown.numbers["funnel.rejected"]
    assert "the nearest photos with a date below and above, by id, are of one year" in shown.text


def test_without_any_date_nothing_is_said_of_years(scene):
    scene.frozen([scene.stored(n) for n in range(9)])
    scene.photo(state="gone", reason="private")
    shown = scene.page()
    assert shown.numbers["reason.gone.private"] == 1
    assert not [name for name in shown.numbers if name.startswith("year.")]


def test_each_photo_has_its_owner_licence_and_page(scene):
    scene.whole()
    shown = scene.page()
    assert "at most 30, as Flickr" in shown.text
    for part in re.split("<figure data-photo=", shown.html)[1:]:
        photo = int(re.match('"([0-9]+)"', part)[1])
        ((owner, licence, url),) = scene.rows(
            "SELECT owner, licence, page_url FROM photos WHERE id = :id", id=photo
        )
        assert f"<bdi>{owner}</bdi> · {licence_name(licence)}</div>" in part
        assert f'href="{url}"' in part


def test_the_configuration_and_what_a_run_was_made_with_are_there(scene):
    scene.whole()
    html = scene.page().html
    for value in ("resnet18", "classify", "none", "2.14.0", "3.11.7", "beef" * 16, "f00d"):
        assert f"<bdi>{value}</bdi>" in html


def test_every_picture_says_in_words_what_it_shows(scene):
    scene.whole()
    shown = scene.page()
    pictures = [values for tag, values in shown.tags if tag == "img"]
    assert len(pictures) == 6 + 30
    assert all(values["alt"].strip() for values in pictures)
    plots = [values for values in pictures if values["src"].startswith("data:image/svg")]
    named = [values["alt"].split(" ")[0] for values in plots]
    assert named == ["Share", "Histogram", "Loss", "Accuracy", "Scores", "Calibration:"]
    for values in plots:
        ET.fromstring(base64.b64decode(values["src"].partition(",")[2]))


def test_what_others_wrote_is_shown_and_never_obeyed(scene):
    photos = scene.hostile()
    shown = scene.page()
    check_harmless(shown)
    assert sorted(shown.photos()) == photos
    assert HOSTILE[0] in shown.text
    assert HOSTILE[4] in shown.text
    assert shown.text.count("Untitled") == 2
    assert "t" * 120 + "…" in shown.text
    assert "t" * 121 not in shown.html
    links = {href for href in shown.every("a", "href") if not href.startswith("#")}
    assert links == set(URLS[-3:])
    rels = [values["rel"] for tag, values in shown.tags if tag == "a" and "rel" in values]
    assert rels == ["noopener noreferrer"] * 3


def test_a_hostile_name_stays_one_word_of_the_command_that_names_it(scene):
    scene.frozen([scene.stored(n) for n in range(9)], "a'; rm -rf / #")
    shown = scene.page()
    assert "popq train --dataset 'a'\"'\"'; rm -rf / #'" in shown.text


def test_thirty_photos_at_most_each_once_and_in_order(scene):
    scene.whole()
    shown = scene.page()
    ids = shown.photos()
    assert len(ids) == len(set(ids)) == 30
    rows = {
        row[0]: row[1:]
        for row in scene.rows(
            "SELECT id, score, abs(score - label) FROM scored_photos WHERE split = 'val'"
        )
    }
    highest = sorted(rows, key=lambda photo: (-rows[photo][0], photo))[:10]
    lowest = sorted(rows, key=lambda photo: (rows[photo][0], photo))
    lowest = [photo for photo in lowest if photo not in highest][:10]
    rest = [photo for photo in rows if photo not in highest + lowest]
    furthest = sorted(rest, key=lambda photo: (-rows[photo][1], photo))[:10]
    assert ids == highest + lowest + furthest


def test_few_photos_are_not_shown_twice(scene):
    scene.whole(26)
    assert len(scene.page().photos()) == 13


def test_a_photo_that_left_since_is_not_shown(scene):
    scene.whole(22)
    gone = scene.page().photos()[0]
    scene.do("UPDATE photos SET state = 'gone', reason = 'gone' WHERE id = :id", id=gone)
    assert gone not in scene.page().photos()


def test_test_photos_count_as_not_trained_on(scene):
    scene.whole(22)
    scene.do(
        "UPDATE members SET split = 'test' WHERE photo_id IN"
        " (SELECT photo_id FROM members WHERE split = 'val' ORDER BY photo_id LIMIT 4)"
    )
    shown = scene.page()
    assert (shown.numbers["unseen.val"], shown.numbers["unseen.test"]) == (7, 4)
    assert len(shown.photos()) == 11
    assert "4 test and 7 validation photos" in " ".join(shown.text.split())


def test_pictures_are_small_and_hold_nothing_but_pixels(scene):
    scene.whole(22)
    for source in scene.page().every("img", "src"):
        if source.startswith("data:image/jpeg"):
            with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as picture:
                assert max(picture.size) == 160
                assert not picture.getexif()
                assert "comment" not in picture.info


def test_a_picture_that_cannot_be_read_leaves_a_box(scene):
    scene.whole(22)
    keys = scene.rows(
        "SELECT p.file_key FROM photos p JOIN members m ON m.photo_id = p.id WHERE split = 'val'"
    )
    missing, broken = scene.folder / "store" / keys[0][0], scene.folder / "store" / keys[1][0]
    missing.unlink()
    broken.write_bytes(b"junk")
    shown = scene.page()
    assert len(shown.photos()) == 11
    assert shown.text.count("in the store") == 2
    away = seen(page.make(scene.catalogue, Store("/proc/nowhere"), None).html.decode())
    assert away.text.count("in the store") == 11


def test_the_same_catalogue_gives_the_same_page(scene):
    scene.whole()
    first, second = (re.sub("<time.*?</time>", "", scene.page().html) for _ in range(2))
    assert first == second


def test_postgresql_gives_the_same_numbers(scene, tmp_path):
    with postgres_url() as url:
        catalogue = Catalogue(url)
        migrate.upgrade(catalogue)
        other = Reported(catalogue, tmp_path)
        other.whole()
        shown = other.page()
        catalogue.close()
    scene.whole()
    assert shown.numbers == scene.page().numbers


def test_an_empty_catalogue_says_how_to_fill_it(scene):
    shown = scene.page()
    check_harmless(shown)
    for command in ("popq import", "popq dataset create", "popq train"):
        assert command in shown.text
    assert shown.numbers == {"summary.photos": 0, "summary.stored": 0}


def test_without_a_run_the_page_has_what_there_is(scene):
    scene.photos(3, "listed")
    scene.photos(2, "resolved")
    scene.frozen([scene.stored(n) for n in range(9)], "old")
    scene.frozen([scene.stored(n) for n in range(10, 22)], "new")
    shown = scene.page()
    for command in ("popq resolve", "popq download", "popq train --dataset new"):
        assert command in shown.text
    assert shown.numbers["funnel.listed"] == 3
    assert shown.numbers["dataset.count"] == 12
    assert shown.photos() == []


def test_a_run_without_scores_metrics_or_epochs_says_so(scene):
    dataset = scene.frozen([scene.stored(n) for n in range(9)])
    run = scene.trained(dataset, epochs=0, judged={})
    shown = scene.page(run)
    check_harmless(shown)
    for words in (f"popq score --run {run}", "no metrics", "No epoch"):
        assert words in shown.text


def test_the_newest_run_that_is_done_is_reported_unless_another_is_asked_for(scene):
    first = scene.trained(scene.frozen([scene.stored(n) for n in range(9)], "one"))
    second = scene.trained(scene.frozen([scene.stored(n) for n in range(10, 20)], "two"))
    scene.run(scene.frozen([scene.stored(n) for n in range(20, 30)], "three"))
    assert page.make(scene.catalogue, scene.store, None).run == second
    made = page.make(scene.catalogue, scene.store, first)
    assert (made.run, made.dataset) == (first, "one")


def test_a_run_that_is_unknown_or_not_done_is_bad_input(scene):
    queued = scene.run()
    with pytest.raises(BadInput, match=f"Run {queued} is queued"):
        page.make(scene.catalogue, scene.store, queued)
    with pytest.raises(BadInput, match="no run 99"):
        page.make(scene.catalogue, scene.store, 99)


def test_intervals_are_shown_where_there_are_any(scene):
    dataset = scene.frozen([scene.stored(n) for n in range(9)])
    judged = scene.judged(dataset) | {"intervals": {"accuracy": [0.25, 0.75], "lead": [-0.1, 0.3]}}
    shown = scene.page(scene.trained(dataset, judged=judged))
    assert shown.shown["metrics.accuracy_low"] == "25.0 %"
    assert shown.numbers["metrics.accuracy_high"] == 0.75
    assert shown.shown["metrics.lead_low"] == "-10.0 %"
    assert "metrics.spearman_low" not in shown.numbers


def test_what_a_reader_must_know_is_said_plainly(scene):
    dataset = scene.frozen([scene.stored(n) for n in range(40)])
    judged = scene.judged(dataset) | {"shared_owners": {"owners": 3, "photos": 12}}
    judged["without_pixels"]["nearest_id"] = 0.99
    shown = scene.page(scene.trained(dataset, judged=judged))
    assert "is worse than “Nearest id”" in shown.text
    assert "The split leaks: 12 of 20 judged photos belong to 3 owners" in shown.text
    assert "20 photos of 7 owners: so few tell little" in shown.text


def test_metrics_of_an_older_version_are_shown_as_far_as_they_go(scene):
    dataset = scene.frozen([scene.stored(n) for n in range(9)])
    older = {"n": 4, "accuracy": 0.5, "balanced_accuracy": 0.5, "macro_f1": 0.5}
    older |= {"quadratic_kappa": 0.1, "cross_entropy": 1.0, "confusion": [[1, 1], [1, 1]]}
    older |= {"spearman": 0.2, "mae": 1.5, "chance": 0.5, "p_chance": 0.6}
    older["without_pixels"] = {"majority": 0.5, "nearest_id": 0.25, "nearest_id_25": 0.5}
    shown = scene.page(scene.trained(dataset, judged=older))
    check_harmless(shown)
    assert shown.numbers["metrics.mae"] == 1.5
    assert shown.numbers["predictor.without_pixels.nearest_id_25"] == 0.5
    assert not [name for name in shown.numbers if name.endswith(("_low", "_high"))]


def test_another_run_is_set_beside_it(scene):
    dataset = scene.frozen([scene.stored(n) for n in range(60)])
    first, second = scene.trained(dataset), scene.trained(dataset)
    scene.said(first, dataset)
    scene.said(second, dataset, turn=7)
    with pytest.raises(BadInput, match="no run 99"):
        scene.page(second, against=99)
    scene.do("UPDATE runs SET config = json_set(config, '$.epochs', 9) WHERE id = 2")
    shown = scene.page(second, against=first)
    check_harmless(shown)
    numbers = shown.numbers
    assert numbers["compared.first"] == first
    assert (numbers["compared.photos"], numbers["compared.owners"]) == (30, 7)
    for metric in ("accuracy", "spearman", "mae", "calibration_error"):
        name = f"compared.{metric}"
        difference = numbers[f"{name}.difference"]
        assert difference == numbers[f"{name}.second"] - numbers[f"{name}.first"]
        assert numbers[f"{name}_low"] <= numbers[f"{name}_high"]
    assert "What was asked differently" in shown.text


def test_there_must_be_a_run_to_set_another_beside(scene):
    with pytest.raises(BadInput, match="No run is done yet"):
        scene.page(None, against=1)


@pytest.mark.parametrize(("tiers", "shape"), [(5, "matrix"), (6, "matrix many")])
def test_a_matrix_of_many_tiers_has_the_page_to_itself(scene, tiers, shape):
    dataset = scene.frozen([scene.stored(number) for number in range(6)])
    confusion = {"confusion": [[1] * tiers] * tiers}
    found = scene.page(scene.trained(dataset, judged=scene.judged(dataset) | confusion))
    assert [name for name in found.every("table", "class") if "matrix" in name] == [shape]
    part = found.html.partition('id="confusion"')[2].partition('id="predictors"')[0]
    assert (part.index('class="pair"') < part.index('class="matrix')) == (tiers == 5)


def test_what_is_undefined_is_a_dash(scene):
    dataset = scene.frozen([scene.stored(n) for n in range(9)])
    judged = scene.judged(dataset) | {"spearman": None, "quadratic_kappa": None}
    shown = scene.page(scene.trained(dataset, judged=judged))
    assert "metrics.spearman" not in shown.numbers
    assert "nan" not in shown.text.lower().split()


def test_a_page_is_written_whole_or_not_at_all(scene, tmp_path):
    target = tmp_path / "out" / "report.html"
    with pytest.raises(BadInput, match="cannot be written"):
        page.write(scene.catalogue, scene.store, None, target)
    target.parent.mkdir()
    made = page.write(scene.catalogue, scene.store, None, target)
    assert made == {
        "report": str(target),
        "bytes": target.stat().st_size,
        "run": None,
        "dataset": None,
    }
    page.write(scene.catalogue, scene.store, None, target)
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_a_link_leads_on_and_what_is_no_file_is_left_alone(scene, tmp_path):
    real, alias = tmp_path / "real.html", tmp_path / "alias.html"
    real.write_text("old")
    alias.symlink_to(real)
    page.write(scene.catalogue, scene.store, None, alias)
    assert alias.is_symlink()
    assert real.read_bytes().startswith(b"<!DOCTYPE html>")
    for odd in (tmp_path, "/dev/null"):
        with pytest.raises(BadInput, match="no ordinary file"):
            page.write(scene.catalogue, scene.store, None, tmp_path / odd)


def test_a_name_that_cannot_be_written_is_bad_input_and_leaves_nothing(scene, tmp_path):
    folder = tmp_path / "pages"
    folder.mkdir()
    for name in ("n" * 300, "../popq.db/page.html"):
        with pytest.raises(BadInput, match="cannot be written"):
            page.write(scene.catalogue, scene.store, None, folder / name)
    assert not list(folder.iterdir())


def test_a_run_is_done_only_when_it_is_finished(scene):
    dataset = scene.frozen([scene.stored(n) for n in range(9)])
    with scene.catalogue.begin() as tx:
        run = runs.create(tx, dataset, {"epochs": 2}, seed=0)
        runs.claim(tx, run, "trainer", 60)
    with pytest.raises(BadInput, match="running"):
        page.make(scene.catalogue, scene.store, run)
    assert page.make(scene.catalogue, scene.store, None).run is None


@pytest.mark.parametrize(
    ("licence", "name"),
    [
        (0, "All rights reserved"),
        (4, "CC BY 2.0"),
        (9, "Public domain (CC0)"),
        (None, "licence unknown"),
        (len(LICENCES), "licence 11"),
        (-1, "licence -1"),
    ],
)
def test_licences_have_names(licence, name):
    assert licence_name(licence) == name


def test_only_https_is_linked():
    assert [link(url) for url in URLS] == [None] * 8 + URLS[8:]


def test_a_long_title_is_cut_to_one_line():
    assert shorten("a\n b\t c") == "a b c"
    assert shorten("x" * 120) == "x" * 120
    assert shorten("x" * 5000) == "x" * 120 + "…"
