"""The docs hold: links lead somewhere, reference pages are current, commands work as written."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli.results import scored_house
from click.testing import CliRunner
from houses import house, jpeg, small_world

from popq import api
from popq.cli.main import cli
from popq.flickr.fake.world import Fate
from popq.stages.ingest import Source

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Its commands need a server of their own, and have a test of their own.
APART = ROOT / "docs" / "fake-flickr.md"
#: What was typed once, and what it printed.
TRANSCRIPT = ROOT / "docs" / "transcript.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = {page: str(page.relative_to(ROOT)) for page in PAGES}


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", ["commands.md", "settings.md", "catalogue.md", "outcomes.md"])
def test_the_reference_is_what_the_code_says(file):
    written = (ROOT / "docs" / "reference" / file).read_text()
    assert written == script("make_reference").PAGES[file](), "run `make reference`"


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


@pytest.mark.parametrize("page", PAGES, ids=NAMED.get)
def test_what_a_page_names_of_a_module_is_there(page):
    for name, file in re.findall(r"`([^`\s]+)`\s+(?:of|in)\s+`(popq/[^`]+\.py)`", page.read_text()):
        assert name in (ROOT / file).read_text(), f"{name} of {file}"


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    for page in PAGES[1:]:
        name = str(page.relative_to(ROOT / "docs"))
        assert name == "README.md" or f"({name})" in index, name


def code(page, *, needy=False):
    """Return the page's blocks of commands, without (or with) those that say what they need."""
    found = [text for kind, text in BLOCK.findall(page.read_text()) if kind == "sh"]
    return [text for text in found if needy or not text.startswith("# needs")]


def test_no_command_hides_in_a_block_that_is_no_sh():
    for page in PAGES:
        for kind, text in BLOCK.findall(page.read_text()):
            if kind != "sh" and page not in {APART, TRANSCRIPT}:
                lines = [line for line in text.splitlines() if line.startswith("$ popq")]
                assert not lines, (NAMED[page], lines)


def test_the_transcript_is_of_the_steps_that_its_script_types():
    typed = re.findall(r"^```console\n\$ (.+)$", TRANSCRIPT.read_text(), re.MULTILINE)
    steps = script("make_transcript").STEPS
    assert [re.sub(r"/tmp/popq-demo-…", "DEMO", line) for line in typed] == list(steps)


def test_the_transcript_is_of_this_catalogue():
    line = re.compile(r"^ok +migrations +version (\d+), the newest", re.MULTILINE)
    (shown,) = line.findall(TRANSCRIPT.read_text())
    newest = max(path.name.partition("_")[0] for path in (ROOT / "migrations/versions").glob("0*"))
    assert shown == newest, "run `python docs/make_transcript.py`"


def commands(text):
    """Return the lines of a block as lists of words, without what follows a #."""
    joined = text.replace("\\\n", " ")
    return list(filter(None, (shlex.split(line, comments=True) for line in joined.splitlines())))


def mentioned(page):
    """Yield each command of popq's that a page names, in its text or in a block, as words."""
    text = page.read_text()
    for inline in re.findall(r"`(popq [^`]+)`", BLOCK.sub("", text)):
        yield inline.replace("[", " ").replace("]", " ").replace("\\|", " ").split()[1:]
    for line in "".join(code(page, needy=True)).splitlines():
        words = line.partition("#")[0].split()
        if "popq" in words:
            yield words[words.index("popq") + 1 :]


def own(words):
    """Return a command's own words: those before a pipe or the next command."""
    return list(itertools.takewhile(lambda word: word not in {"|", "&&", "&", ">", "<"}, words))


@pytest.mark.parametrize("page", PAGES, ids=NAMED.get)
def test_every_command_and_option_that_a_page_names_is_there(page):
    """Also in blocks that nobody runs since they need a key, a GPU or another machine."""
    for words in map(own, mentioned(page)):
        command = cli
        known = {option for param in cli.params for option in param.opts}
        for word in words:
            if word.startswith("-") and word != "-":
                option = word.partition("=")[0].rstrip(".,;:")
                assert option in known or option == "--help", (NAMED[page], words)
            elif isinstance(command, click.Group) and re.fullmatch("[a-z][a-z-]+", word):
                found = command.get_command(click.Context(command), word)
                assert found or command is not cli, (NAMED[page], words)
                command = found or command
                known |= {option for param in command.params for option in param.opts}


def block_of(page, kind):
    """Return the one block of a kind that a page has."""
    (found,) = [text for what, text in BLOCK.findall((ROOT / page).read_text()) if what == kind]
    return found


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    with scored_house(tmp_path_factory.mktemp("scored")) as home:
        yield home


def test_the_readmes_questions_in_sql_have_answers(scored):
    queries = [query for query in block_of("README.md", "sql").split(";") if query.strip()]
    assert len(queries) == 3
    assert all(scored.sql(query) for query in queries)


def test_the_python_of_the_results_page_scores_pictures(scored, tmp_path, monkeypatch, capsys):
    for name, value in scored.settings().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a.jpg", "b.png")):
        Path(name).write_bytes(jpeg(number))
    exec(compile(block_of("docs/how-to/results.md", "python"), "results.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(re.fullmatch(r"[\d.]+ [123] [\[(].*[\])]", line) for line in lines), lines


RUN = [page for page in PAGES if page not in {APART, TRANSCRIPT} and code(page)]


@pytest.mark.parametrize("page", RUN, ids=NAMED.get)
def test_commands_work_as_written(page, tmp_path, monkeypatch):
    """In one folder with a small list, beside a Flickr; in this process, since torch loads once."""
    with opened(page, tmp_path) as home:
        monkeypatch.chdir(tmp_path)
        for name, value in home.settings().items():
            monkeypatch.setenv(name, value)
        workers = []
        try:
            for words in (words for text in code(page) for words in commands(text)):
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


@contextlib.contextmanager
def opened(page, folder):
    """Open the house that a page begins with: a list, a catalogue with it, or a trained run."""
    if page.name == "results.md":
        with scored_house(folder) as home:
            (folder / "holiday").mkdir()
            for name in ("holiday/beach.jpg", "portrait.jpg"):
                (folder / name).write_bytes(jpeg(len(name)))
            (folder / "list-of-links.txt").write_text("portrait.jpg\n")
            yield home
        return
    with house(folder, small_world(40, owners=20, fates=[Fate.REMOVED, Fate.VIDEO])) as home:
        home.list_files(folder)
        # As the real list is: links in quotes, no newline after the last score.
        links = (folder / "links.txt").read_text().split()
        (folder / "train_img.txt").write_text("".join(f'"{link}"\n' for link in links))
        (folder / "labels.txt").rename(folder / "train_label.txt")
        if page.name != "tutorial.md":  # which brings its own list in
            api.import_list(
                home.rooms,
                Source(folder / "train_img.txt", folder / "train_label.txt"),
            )
        yield home


def run(words):
    """Run a command as a shell would: `> FILE` keeps what it prints, `< FILE` is what it reads."""
    given, kept = None, None
    if "<" in words:
        at = words.index("<")
        given, words = Path(words[at + 1]).read_text(), words[:at]
    if ">" in words:
        at = words.index(">")
        kept, words = Path(words[at + 1]), words[:at]
    done = CliRunner().invoke(cli, words, input=given)
    assert done.exit_code == 0, f"{words}: {done.output} {done.exception!r}"
    if kept is not None:
        kept.write_text(done.stdout)
