"""`popq report` as a person runs it."""

from __future__ import annotations

import subprocess
import sys


def test_a_report_is_written_where_it_is_asked_for(popq):
    out, _ = popq("report")
    assert out == "The report is in popq-report.html (0.0 MB): no run is done yet.\n"
    file = popq.folder / "popq-report.html"
    assert "popq import" in file.read_text()
    made = popq.json("report", "-o", "other.html")
    size = (popq.folder / "other.html").stat().st_size
    assert made == {"report": "other.html", "bytes": size, "run": None, "dataset": None}


def test_a_report_goes_to_stdout_whole(popq):
    out, _ = popq("report", "-o", "-")
    assert out.startswith("<!DOCTYPE html>")
    assert out.rstrip().endswith("</html>")
    assert not (popq.folder / "-").exists()
    _, err = popq("report", "-o", "-", "--json", status=2)
    assert "Either" in err


def test_a_report_that_cannot_be_made_exits_with_2(popq, home):
    assert "no run 9" in popq("report", "--run", "9", status=2)[1]
    assert "cannot be written" in popq("report", "-o", "no/where.html", status=2)[1]
    assert "no ordinary file" in popq("report", "-o", "/dev/null", status=2)[1]
    assert "directory" in popq("report", "-o", "/", status=2)[1]


def test_without_a_catalogue_nothing_is_written(bare):
    _, err = bare("report", status=3)
    assert "popq init" in err
    assert not list(bare.folder.iterdir())


def test_the_command_loads_what_draws_only_when_it_runs():
    code = (
        "import sys, popq.cli.report, popq.cli.main\n"
        "print(sorted({'matplotlib', 'jinja2', 'popq.report.page'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
