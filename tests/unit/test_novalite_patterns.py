"""Regular expressions that servers are found by: as Python's, but never slow."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from novalite.db.patterns import compiled
from novalite.errors import InvalidInput

ATOMS = st.sampled_from(
    ["a", "b", "-", ".", "[ab]", "[^a]", "[a-c-]", r"\.", r"\d", "^", "$", "0", "(a|b0)", "()"]
)
PARTS = st.builds(
    lambda atom, times: atom if atom in "^$" else atom + times,
    ATOMS,
    st.sampled_from(["", "", "", "?", "{2}", "{0,2}", "*", "+"]),
)


@settings(max_examples=300, deadline=None)
@given(
    parts=st.lists(PARTS, min_size=1, max_size=5),
    bar=st.integers(0, 5),
    text=st.text("ab0.-Ac", max_size=8),
)
def test_it_finds_what_python_finds(parts: list[str], bar: int, text: str) -> None:
    pattern = "".join(parts[:bar]) + "|" * (0 < bar < len(parts)) + "".join(parts[bar:])
    assume(sum(part[-1] in "*+" for part in parts) <= 3)
    program = compiled(pattern)
    assert program.found_in(text) == bool(re.search(pattern, text, re.IGNORECASE)), pattern


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "(",
            ")",
            "a(",
            "[",
            "[]",
            "[z-a]",
            "*",
            "+a",
            "a**",
            "a*?",
            "a{",
            "a{2",
            "a{x}",
            "a{3,2}",
            "a{999}",
        ),
        *("(?:a)", "(?=a)", r"\1", r"(a)\1", "\\", "[[:alpha:]]", "^*", "(a*)*", "(a|b*)+", "a*b*c*d*"),
        *("x" * 256, "(((a{99}){99}){99})"),
    ],
)
def test_what_is_not_understood_or_could_take_long_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput):
        compiled(pattern)


def test_its_work_grows_with_the_length_alone() -> None:
    """Expression and text are such that engines which go back and try again never come to an end."""
    program, tried = compiled("^.*a.*a.*(a{9}b|(a|aa){9}c)$"), []

    def counted(test: Callable[[str], bool]) -> Callable[[str], bool]:
        return lambda char: not tried.append(char) and test(char)

    program.steps = [("char", counted(step[1])) if step[0] == "char" else step for step in program.steps]
    assert not program.found_in("a" * 255)
    assert 255 < len(tried) <= 255 * len(program.steps)
