"""The options that say how a data set is cut, and those that contradict each other."""

from __future__ import annotations

import json

import pytest
from catalogue.scene import Scene
from click.testing import CliRunner

from popq.catalogue import migrate
from popq.catalogue.db import Catalogue
from popq.cli.dataset import dataset_command


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run `popq dataset` on a catalogue of 60 stored photos with the labels 0 to 59."""
    monkeypatch.setenv("POPQ_DATA_DIR", str(tmp_path))
    catalogue = Catalogue(f"sqlite:///{tmp_path}/popq.db")
    migrate.upgrade(catalogue)
    scene = Scene(catalogue)
    scene.photos(60, "stored")
    scene.do("UPDATE photos SET owner = (id % 20) || '@N00'")
    catalogue.close()
    return lambda *args: CliRunner().invoke(dataset_command, ["create", *args])


def test_the_list_has_every_cut(command):
    made(command("d", "--tiers", "12", "--fit", "all", "--json"))
    listed = CliRunner().invoke(dataset_command, ["list"]).stdout
    assert max(map(len, listed.splitlines())) <= 80
    assert all(f"{cut}" in listed for cut in range(5, 60, 5))


def made(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_given_cuts_set_the_tiers(command):
    found = made(command("d", "--cuts", "20,40", "--json"))
    assert (found["fit"], found["cuts"], found["tiers"]) == ("given", [20, 40], 3)
    assert found["photos_by_tier"] == {"1": 20, "2": 20, "3": 20}
    assert set(found["crossing"]) == {"owners", "duplicates", "neighbours"}


def test_cuts_are_fitted_on_all_when_asked(command):
    found = made(command("d", "--tiers", "4", "--fit", "all", "--json"))
    assert (found["fit"], found["cuts"]) == ("all", [15, 30, 45])


def test_the_seeds_way_is_by_rank_and_by_photo(command):
    found = made(command("d", "--preset", "seed", "--json"))
    assert (found["fit"], found["split_rule"], found["tiers"]) == ("rank", "photo", 3)
    assert found["photos_by_tier"] == {"1": 20, "2": 20, "3": 20}


def test_a_person_reads_where_the_cuts_come_from_and_what_crosses(command):
    said = command("d", "--preset", "seed").output
    assert "by rank" in said
    assert "owners have photos on several sides" in said


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--cuts", "5", "--tiers", "2"], "leave out --tiers and --fit"),
        (["--cuts", "5", "--fit", "all"], "leave out --tiers and --fit"),
        (["--cuts", "five"], "give scores"),
        (["--cuts", ""], "give scores"),
        (["--tiers", "1"], "not in the range"),
        (["--preset", "seed", "--tiers", "3"], "says what --tiers is"),
        (["--preset", "seed", "--fit", "all"], "says what --fit is"),
        (["--preset", "seed", "--cuts", "5"], "says what --cuts is"),
        (["--preset", "seed", "--split", "owner"], "says what --split is"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(command, args, words):
    result = command("d", *args)
    assert result.exit_code == 2
    assert words in result.output
