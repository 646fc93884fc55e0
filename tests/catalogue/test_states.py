"""Which outcome leads where."""

from __future__ import annotations

import pytest

from popq.catalogue.states import GONE_REASONS, REJECTED_REASONS, PhotoState, exit_for
from popq.errors import Outcome

STAYS = set(Outcome) - GONE_REASONS - REJECTED_REASONS


def test_no_reason_is_both():
    assert not GONE_REASONS & REJECTED_REASONS


@pytest.mark.parametrize("outcome", sorted(GONE_REASONS))
def test_what_flickr_does_not_show_is_gone(outcome):
    assert exit_for(outcome) is PhotoState.GONE


@pytest.mark.parametrize("outcome", sorted(REJECTED_REASONS))
def test_what_cannot_be_learnt_from_is_rejected(outcome):
    assert exit_for(outcome) is PhotoState.REJECTED


@pytest.mark.parametrize("outcome", sorted(STAYS))
def test_nothing_else_ends_a_photos_life(outcome):
    with pytest.raises(ValueError, match="no reason to give a photo up"):
        exit_for(outcome)


def test_an_outage_never_marks_a_photo_dead():
    assert {Outcome.TRANSIENT, Outcome.RATE_LIMITED, Outcome.AUTH} <= STAYS
