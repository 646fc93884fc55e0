"""Numbers, verdicts and plots by themselves."""

from __future__ import annotations

import base64
import re

import pytest

from popq.catalogue.losses import Year
from popq.report import judged, plots
from popq.report.text import number, power


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        (305613, "count", "305,613"),
        (0.6075, "share", "60.8 %"),
        (7.385, "two", "7.38"),
        (0.5, "power", "0.5"),
        (0.001, "power", "0.001"),
        (2.084e-6, "power", "2.1 \N{MULTIPLICATION SIGN} 10⁻⁶"),
        (9.99e-5, "power", "1.0 \N{MULTIPLICATION SIGN} 10⁻⁴"),
        (5e-324, "power", "4.9 \N{MULTIPLICATION SIGN} 10⁻³²⁴"),
        (0.0, "power", "0"),
        (1e-4, "plain", "0.0001"),
        (12345678, "plain", "12,345,678"),
        (12345, "id", "12345"),
        (float("inf"), "count", "inf"),
        (float("nan"), "two", "nan"),
    ],
)
def test_a_number_is_shown_in_its_form_and_kept_exact(value, form, shown):
    text = number("a.b", value, form)
    assert text == f'<span data-q="a.b" data-v="{value!r}">{shown}</span>'


def test_a_name_cannot_break_out():
    assert "<b>" not in number('"><b>', 1)
    assert number("x", None).striptags() == "\N{EN DASH}"
    assert power(1.0) == "1"


def test_the_model_comes_first_and_the_others_by_what_they_get_right():
    without = {"majority": 0.4, "mean_colour": 0.5, "new <one>": 0.3}
    metrics = {"accuracy": 0.45, "chance": 0.35, "without_pixels": without}
    lines = judged.predictors(metrics)
    assert [one.accuracy for one in lines] == [0.45, 0.5, 0.4, 0.35, 0.3]
    assert [one.own for one in lines] == [True, False, False, False, False]
    assert lines[-1].name == "new <one>"
    assert judged.best_without_pixels(metrics) == lines[1]
    assert judged.predictors({}) == []


@pytest.mark.parametrize(
    ("accuracy", "words"), [(0.51, "beats every"), (0.5, "no better than"), (0.4, "worse than")]
)
def test_the_verdict_is_against_the_best_that_saw_no_pixel(accuracy, words):
    without = {"majority": 0.4, "mean_colour": 0.5}
    assert words in judged.verdict({"accuracy": accuracy, "without_pixels": without})


@pytest.mark.parametrize(
    ("lead", "words"),
    [
        ([-0.2, 0.3], "more often than “Mean colour”, a predictor that sees no pixel, but by no"),
        ([0.0, 0.3], "by no more than luck may give"),
        ([0.1, 0.3], "beats every"),
    ],
)
def test_a_lead_that_may_be_luck_is_no_victory(lead, words):
    metrics = {"accuracy": 0.51, "without_pixels": {"majority": 0.4, "mean_colour": 0.5}}
    assert words in judged.verdict(metrics | {"intervals": {"lead": lead}})


def test_there_is_no_verdict_without_a_measure():
    assert judged.verdict({}) == ""
    assert judged.verdict({"accuracy": 0.5}) == ""


def test_the_matrix_has_shares_of_rows_and_none_for_an_empty_one():
    cells = judged.matrix({"confusion": [[3, 1], [0, 0]]})
    assert [[cell.share for cell in row] for row in cells] == [[0.75, 0.25], [None, None]]
    assert [cell.style for cell in cells[0]] == ["--share: 0.750", "--share: 0.250"]
    assert cells[1][0].style == "--share: 0.000"
    assert judged.matrix({}) == []


def svg(plot):
    return base64.b64decode(plot.source.partition(",")[2]).decode()


def test_a_histogram_says_its_range_its_peak_and_its_cuts():
    rows = [(1.0, 2), (2.0, 7), (9.5, 1)]
    plot = plots.histogram(rows, [2.0, 5.0])
    assert plot.alt.startswith("Histogram of 10 labels from 1 to 9.5. Most, 7, lie between")
    assert plot.alt.endswith("Tiers are cut at 2, 5.")
    assert plots.histogram(rows, [2.0, 5.0]) == plot
    assert "<svg" in svg(plot)
    assert "dc:date" not in svg(plot)


def test_losses_by_year_are_told_and_the_unknown_year_stands_apart():
    known = [Year(2009, stored=3, lost={"private": 1}), Year(2013, stored=5)]
    unknown = Year(None, lost={"video": 2})
    plot = plots.losses([*known, unknown])
    assert plot.alt.endswith("was lost: 25.0% of 2009, 0.0% of 2013, 100.0% of an unknown year.")
    names = re.findall("<!-- (.*?) -->", svg(plot))
    assert [name for name in names if name.isdigit()] == ["2013", "2012", "2011", "2010", "2009"]
    assert "unknown" in names
    assert "unknown" not in svg(plots.losses(known))
    many = [Year(year, stored=1) for year in range(2004, 2024)]
    assert len(re.findall("<!-- 20.. -->", svg(plots.losses(many)))) == 7


def test_a_histogram_of_one_label_and_one_of_many_cuts_are_drawn():
    assert "Most, 3," in plots.histogram([(4.0, 3)], [4.0]).alt
    many = plots.histogram([(float(n), 1) for n in range(20)], [float(n) for n in range(1, 11)])
    few = plots.histogram([(float(n), 1) for n in range(20)], [float(n) for n in range(1, 4)])
    assert svg(few).count('<g id="text_') > svg(many).count('<g id="text_')


def test_calibration_and_scores_by_label_are_drawn_and_told():
    bins = [
        {"photos": 5, "confidence": 0.4, "accuracy": 0.5},
        {"photos": 20, "confidence": 0.9, "accuracy": 0.75},
    ]
    plot = plots.calibration(bins)
    assert plot.alt.endswith("40% sure are right 50% of the time, those that are 90% sure 75%.")
    assert plots.calibration(bins) == plot
    parts = [
        {"photos": 9, "label": 1.5, "low": 1.0, "median": 2.0, "high": 3.0},
        {"photos": 9, "label": 8.5, "low": 5.0, "median": 7.0, "high": 9.0},
    ]
    plot = plots.against_truth(parts, unit=True)
    assert plot.alt.endswith("is 2 where the label is about 1.5, and 7 where it is about 8.5.")
    assert len(svg(plots.against_truth(parts, unit=False))) < len(svg(plot))
    assert "<svg" in svg(plots.against_truth(parts[:1], unit=True))
    assert "<svg" in svg(plots.calibration(bins[:1]))


def epochs(*losses):
    return [
        {
            "epoch": n,
            "train_loss": 1.0,
            "val_loss": loss,
            "train_accuracy": 0.5,
            "val_accuracy": 0.4,
        }
        for n, loss in enumerate(losses, 1)
    ]


def test_curves_mark_the_best_epoch():
    plot = plots.curve(epochs(1.25, 0.75, 1.0), "loss", 2)
    assert "validation from 1.250 to 1.000; 0.750 at the best epoch, 2." in plot.alt
    without = plots.curve(epochs(1.25, 0.75, 1.0), "loss", None)
    assert without.alt.endswith("to 1.000.")
    assert len(without.source) < len(plot.source)


@pytest.mark.parametrize("losses", [(1.0,), (1.0, 200.0), (1.0, float("nan")), (0.0, 1.0)])
def test_odd_curves_are_drawn_without_a_warning(losses):
    for what in ("loss", "accuracy"):
        assert "<svg" in svg(plots.curve(epochs(*losses), what, 1))


@pytest.mark.parametrize("labels", [[5.0], [1.0, 1.0000000000000002], [1e12, 1e12 + 0.001]])
def test_labels_that_hardly_differ_make_a_histogram(labels):
    assert plots.histogram([(label, 3) for label in labels], [labels[-1]]).source
