"""`popq` alone says what comes next, `popq completion` what a shell needs, and -q is obeyed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner
from houses import house, quiet, small_world

from popq import api
from popq.cli.main import COMMANDS, cli
from popq.stages.dataset import Spec


def next_steps(**settings):
    done = CliRunner().invoke(cli, [], env=settings)
    assert done.exit_code == 0, done.output
    return done.output


def test_without_a_catalogue_it_names_the_ways_to_begin():
    told = next_steps()
    assert "there is no catalogue" in told
    for command in ("popq demo", "popq init", "popq import"):
        assert command in told


def test_it_follows_the_photos_through_their_life(tmp_path):
    with house(tmp_path, small_world(24, owners=12)) as home:
        settings = home.settings()
        assert "popq import LIST" in next_steps(**settings)
        api.import_list(home.rooms, home.list_files(tmp_path))
        assert "popq resolve  find the images of 24" in next_steps(**settings)
        keyless = {name: value for name, value in settings.items() if "KEYS" not in name}
        assert "popq resolve --via oembed" in next_steps(**keyless)
        api.work(home.rooms, "resolve", on_progress=quiet)
        assert "popq download" in next_steps(**settings)
        api.work(home.rooms, "download", on_progress=quiet)
        assert "popq dataset create NAME" in next_steps(**settings)
        api.make_dataset(home.rooms, Spec("main", val=0.3))
        assert "popq train --dataset main" in next_steps(**settings)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell):
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert "_POPQ_COMPLETE" in done.output


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("popq data", ["dataset"]),
        ("popq dataset cr", ["create"]),
        ("popq train --pre", ["--preset"]),
    ],
)
def test_a_shell_completes_commands_and_options(bare, words, wanted):
    asked = {"_POPQ_COMPLETE": "bash_complete", "COMP_WORDS": words}
    asked["COMP_CWORD"] = str(len(words.split()) - 1)
    out, _ = bare(**asked)
    assert [line.partition(",")[2] for line in out.splitlines()] == wanted


def test_completing_a_command_imports_none():
    code = (
        "import sys\nfrom popq.cli.main import cli\nimport click\n"
        "found = cli.shell_complete(click.Context(cli), '')\n"
        "print(len(found), {'sqlalchemy', 'pydantic', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{len(COMMANDS)} set()"


def test_init_writes_an_example_once_and_never_over_it(bare):
    _, err = bare("init")
    assert "popq.toml is written" in err
    (bare.folder / "popq.toml").write_text("max_tries = 3\n")
    _, err = bare("init", "-q")
    assert err == ""
    assert (bare.folder / "popq.toml").read_text() == "max_tries = 3\n"
