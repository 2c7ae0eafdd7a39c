"""The status machine."""

from __future__ import annotations

import pytest

from glancelike.errors import InvalidTransition
from glancelike.lifecycle import TRANSITIONS, check, move
from glancelike.model import Image, Status


def test_every_status_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(Status)


@pytest.mark.parametrize("start", list(Status))
@pytest.mark.parametrize("end", list(Status))
def test_only_what_the_table_allows(start: Status, end: Status) -> None:
    image = Image(id="i", status=start)
    if end in TRANSITIONS[start]:
        assert move(image, end, size=3).status is end
    else:
        with pytest.raises(InvalidTransition, match=f"is {start}: it can't become {end}"):
            check(image, end)


def test_data_is_immutable_and_deletion_final() -> None:
    assert Status.SAVING not in TRANSITIONS[Status.ACTIVE]
    assert Status.QUEUED not in TRANSITIONS[Status.ACTIVE]
    assert not TRANSITIONS[Status.DELETED]
    # Whatever isn't deleted can be.
    assert all(Status.DELETED in ends for start, ends in TRANSITIONS.items() if start is not Status.DELETED)
