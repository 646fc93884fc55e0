"""`popq score` and its twin: what is scored, what is not, and what cannot be."""

from __future__ import annotations

import pytest
from catalogue.scene import Scene

from popq import api
from popq.errors import BadInput


def test_a_second_time_there_is_nothing_to_do_and_all_is_done_when_asked(scored, reader):
    before = dict(scored.sql("SELECT photo_id, score FROM scores"))
    assert reader("score", "--run", 1)[0] == "Nothing to score.\n"
    assert reader("enqueue-score", "--missing")[0] == "Nothing to score.\n"
    told = reader.json("score", "--all", "--dataset", "main", "--limit", 5)
    assert (told["moved"], told["left"]) == (5, 0)
    of_job = f"SELECT count(*) FROM scores WHERE job_id = {told['job']}"
    assert scored.sql(of_job) == [(5,)]
    assert dict(scored.sql("SELECT photo_id, score FROM scores")) == pytest.approx(before, abs=1e-4)
    out, _ = reader("enqueue-score", "--all", "--dry-run")
    assert "30 photos in 1 batches" in out
    assert len(scored.sql("SELECT DISTINCT code FROM scores")) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run", "999"], "There is no run 999"),
        (["--dataset", "none"], "no data set 'none'"),
        (["--limit", "0"], "not in the range"),
    ],
)
def test_what_cannot_be_scored_is_refused(reader, arguments, words):
    for command in ("score", "enqueue-score"):
        assert words in reader(command, *arguments, status=2)[1]


def test_a_run_without_photos_to_score_or_without_weights_says_so(home):
    scene = Scene(home.rooms.catalogue)
    run, queued = scene.run(done=True), scene.run()
    with pytest.raises(BadInput, match=r"No photo is stored.*popq download"):
        api.scored_run(home.rooms, run)
    with pytest.raises(BadInput, match="has no weights"):
        api.scored_run(home.rooms, queued)
