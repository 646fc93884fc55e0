"""The docs hold: links lead somewhere, reference pages are current, commands work as written."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from houses import house, small_world

from popq.cli.main import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Its commands need a server of their own, and have a test of their own.
APART = ROOT / "docs" / "fake-flickr.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = {page: str(page.relative_to(ROOT)) for page in PAGES}


def reference():
    spec = importlib.util.spec_from_file_location("make", ROOT / "docs" / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", ["commands.md", "settings.md", "catalogue.md", "outcomes.md"])
def test_the_reference_is_what_the_code_says(file):
    written = (ROOT / "docs" / "reference" / file).read_text()
    assert written == reference().PAGES[file](), "run `make reference`"


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = BLOCK.sub("", page.read_text())
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=NAMED.get)
def test_every_link_leads_somewhere(page):
    text = BLOCK.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    for page in PAGES[1:]:
        name = str(page.relative_to(ROOT / "docs"))
        assert name == "README.md" or f"({name})" in index, name


def blocks(page):
    """Return the page's blocks of commands that say nothing of what they need."""
    found = [text for kind, text in BLOCK.findall(page.read_text()) if kind == "sh"]
    return [text for text in found if not text.startswith("# needs")]


def test_no_command_hides_in_a_block_that_is_no_sh():
    for page in PAGES:
        for kind, text in BLOCK.findall(page.read_text()):
            if kind != "sh" and page != APART:
                lines = [line for line in text.splitlines() if line.startswith("$ popq")]
                assert not lines, (NAMED[page], lines)


def commands(text):
    """Return the lines of a block as lists of words, without what follows a #."""
    joined = text.replace("\\\n", " ")
    return list(filter(None, (shlex.split(line, comments=True) for line in joined.splitlines())))


RUN = [page for page in PAGES if page != APART and blocks(page)]


@pytest.mark.parametrize("page", RUN, ids=NAMED.get)
def test_commands_work_as_written(page, tmp_path, monkeypatch):
    """In one folder with a small list, beside a Flickr; in this process, since torch loads once."""
    with house(tmp_path, small_world(40, owners=20)) as home:
        home.list_files(tmp_path)
        (tmp_path / "links.txt").rename(tmp_path / "train_img.txt")
        (tmp_path / "labels.txt").rename(tmp_path / "train_label.txt")
        monkeypatch.chdir(tmp_path)
        for name, value in home.settings().items():
            monkeypatch.setenv(name, value)
        if page.name != "tutorial.md":  # the tutorial brings its own list in
            run(["import", "train_img.txt", "--labels", "train_label.txt"])
        workers = []
        try:
            for words in (words for text in blocks(page) for words in commands(text)):
                assert words[0] == "popq", f"{words}: no command of popq's; say what it needs"
                if words[-1] == "&":
                    command = [sys.executable, "-m", *words[:-1]]
                    workers.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
                else:
                    run(words[1:])
        finally:
            for worker in workers:
                worker.terminate()
        assert [worker.wait(30) for worker in workers] == [0] * len(workers)


def run(words):
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, f"{words}: {done.output} {done.exception!r}"
