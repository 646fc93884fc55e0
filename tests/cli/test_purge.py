from __future__ import annotations

import pytest
from houses import FIRST_ID


def test_purge_says_what_it_takes_and_dry_run_takes_nothing(popq):
    popq("import", "links.txt", "--labels", "labels.txt")
    counts = {"photos": 4, "files": 0, "data_sets": 0}
    owner = ("--owner", "10000003@N00")
    assert popq.json("purge", *owner, "--dry-run") == counts
    out, _ = popq("purge", *owner, "--dry-run")
    assert out == "Would purge 4 photos and 0 files.\n"
    assert popq.json("purge", *owner, "--yes") == counts
    assert popq.json("status")["photos"]["listed"] == 36
    _, err = popq("purge", *owner, "--yes", status=2)
    assert "no photo of an owner 10000003@N00" in err


def test_purge_without_consent_or_with_unclear_words_takes_nothing(popq):
    popq("import", "links.txt", "--labels", "labels.txt")
    _, err = popq("purge", "--photo", FIRST_ID, status=130)
    assert "About to purge 1 photos" in err
    popq("purge", status=2)
    popq("purge", "--photo", FIRST_ID, "--owner", "10000003@N00", status=2)
    assert popq.json("status")["photos"]["listed"] == 40


@pytest.mark.parametrize("digits", [str(2**63), "9" * 5000])
def test_digits_that_are_no_id_name_no_photo(popq, digits):
    popq("import", "links.txt", "--labels", "labels.txt")
    _, err = popq("purge", "--photo", digits, "--yes", status=2)
    assert f"no photo {digits}" in err


def test_bytes_that_are_no_text_are_refused_as_such(popq):
    popq("import", "links.txt", "--labels", "labels.txt")
    for words in (("--owner", "a\udcff"), ("--photo=a\udcff",)):
        _, err = popq("purge", *words, "--yes", status=2)
        assert err == "popq: 'a\\udcff' is no text: its bytes are no UTF-8.\n"
