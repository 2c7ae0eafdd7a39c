"""Finding texts by a regular expression, on every database alike.

What is understood is what PostgreSQL, MariaDB and POSIX's extended regular
expressions have in common; the rest is refused before a database sees it.
Their own engines match. SQLite has none: a simulation here follows all ways
through the expression at once, so that its time grows with the length of
expression and text alone, whatever somebody thinks up. The engine of MariaDB
goes back and tries again: so a repetition within an unbounded one is refused,
and so are many unbounded ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from novalite.errors import InvalidInput

SPECIAL = frozenset("^$.*+?()[]{}|\\")
_MOST_CHARS = 255
_MOST_REPEATS = 3
_MOST_STEPS = 2000
_MOST_TIMES = 255

Test = Callable[[str], bool]
_CLASSES: dict[str, Test] = {
    "d": str.isdecimal,
    "w": lambda char: char.isalnum() or char == "_",
    "s": str.isspace,
}


def found_by(connection: Connection, column: sa.ColumnElement[Any], text: str) -> sa.ColumnElement[bool]:
    """Return the condition that a column has a text in it, or a part that matches, in any case of letters.

    Raises InvalidInput for what looks like an expression and is none, or one
    that could take long.
    """
    if SPECIAL & set(text):
        return _matches(connection, column, text)
    # As it is, too: what lower() makes of other letters than ASCII's, databases disagree on.
    lower = sa.func.lower(column).contains(text.lower(), autoescape=True)
    return sa.or_(lower, column.contains(text, autoescape=True))


def _matches(connection: Connection, column: sa.ColumnElement[Any], text: str) -> sa.ColumnElement[bool]:
    program = compiled(text)
    dialect = connection.dialect.name
    if dialect == "postgresql":
        return column.op("~*", is_comparison=True)(text)
    if dialect != "sqlite":
        return column.op("REGEXP", is_comparison=True)(f"(?i){text}")
    # Of this connection alone, which nobody else has meanwhile.
    name = f"novalite_matches_{column.key}"
    driver: Any = connection.connection.driver_connection
    driver.create_function(name, 1, lambda value: value is not None and program.found_in(value))
    matches: sa.ColumnElement[bool] = getattr(sa.func, name)(column, type_=sa.Boolean)
    return matches.is_(True)


@dataclass
class Program:
    """An expression as steps, each to be followed by the next one.

    ``("char", test)``, ``("start",)`` and ``("end",)`` let pass; ``("jump", to)``
    and ``("split", one, other)`` go on elsewhere.
    """

    steps: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, *step: Any) -> int:
        """Add a step and return its number."""
        if len(self.steps) >= _MOST_STEPS:
            raise InvalidInput("the regular expression is too large")
        self.steps.append(step)
        return len(self.steps) - 1

    def found_in(self, text: str) -> bool:
        """Tell whether a part of a text matches."""
        active: set[int] = set()
        for place in range(len(text) + 1):
            if self._follow(active, place == 0, place == len(text)):
                return True
            if place < len(text):
                char = text[place]
                active = {
                    number + 1
                    for number in active
                    if self.steps[number][0] == "char" and self.steps[number][1](char)
                }
        return False

    def _follow(self, active: set[int], first: bool, last: bool) -> bool:
        """Go on as far as no character is needed, and begin anew; tell whether that is the end."""
        waiting = [*active, 0]
        seen: set[int] = set()
        while waiting:
            number = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            if number == len(self.steps):
                return True
            kind, *rest = self.steps[number]
            if kind in ("jump", "split"):
                waiting += rest
            elif (kind == "start" and first) or (kind == "end" and last):
                waiting.append(number + 1)
        active |= seen - {len(self.steps)}
        return False


def compiled(text: str) -> Program:
    """Make an expression's program; raise InvalidInput."""
    if len(text) > _MOST_CHARS:
        raise InvalidInput(f"a regular expression has at most {_MOST_CHARS} characters, not {len(text)}")
    return _Reader(text).program()


class _Reader:
    """Reads an expression by descent; each method adds the steps of what it reads."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self._program = Program()
        self._repeats = 0  # unbounded ones
        self._varies = False  # whether what was read last has a repetition

    def program(self) -> Program:
        self._either()
        if self._place < len(self._text):
            raise self._wrong(f"unexpected {self._text[self._place]!r}")
        return self._program

    def _either(self) -> None:
        """Read ways that are separated by bars: split before the first, jump behind the last."""
        begin = len(self._program.steps)
        self._sequence()
        while self._peek() == "|":
            self._place += 1
            first = self._program.steps[begin:]
            del self._program.steps[begin:]
            self._program.add("split", begin + 1, begin + len(first) + 2)
            self._copy(first, begin, begin + 1)
            jump = self._program.add("jump", 0)
            self._sequence()
            self._program.steps[jump] = ("jump", len(self._program.steps))

    def _sequence(self) -> None:
        varies = False
        while self._peek() not in ("", "|", ")"):
            self._varies = False
            begin = len(self._program.steps)
            self._atom()
            self._repeat(begin)
            varies |= self._varies
        self._varies = varies

    def _repeat(self, begin: int) -> None:
        least, most = self._times()
        if (least, most) == (1, 1):
            return
        if most is None:
            self._repeats += 1
            if self._varies or self._repeats > _MOST_REPEATS:
                raise self._wrong(
                    f"a repetition of a repetition, or more than {_MOST_REPEATS} unbounded ones"
                )
        self._varies = True
        if self._peek() in ("*", "+", "?", "{"):
            raise self._wrong("a repetition is repeated")
        body = self._program.steps[begin:]
        del self._program.steps[begin:]
        for _ in range(least):
            self._again(body, begin)
        if most is None:
            split = self._program.add("split", len(self._program.steps) + 1, 0)
            self._again(body, begin)
            self._program.add("jump", split)
            self._program.steps[split] = ("split", split + 1, len(self._program.steps))
            return
        splits = []
        for _ in range(most - least):
            splits.append(self._program.add("split", len(self._program.steps) + 1, 0))
            self._again(body, begin)
        for split in splits:
            self._program.steps[split] = ("split", split + 1, len(self._program.steps))

    def _again(self, body: list[tuple[Any, ...]], origin: int) -> None:
        self._copy(body, origin, len(self._program.steps))

    def _copy(self, body: list[tuple[Any, ...]], origin: int, target: int) -> None:
        """Add steps that were read at ``origin``; what they point to moves with them."""
        for kind, *rest in body:
            moved = [to + target - origin for to in rest] if kind in ("jump", "split") else rest
            self._program.add(kind, *moved)

    def _times(self) -> tuple[int, int | None]:
        """Read how often; None is without bound."""
        sign = self._peek()
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if sign in simple:
            self._place += 1
            return simple[sign]
        if sign != "{":
            return 1, 1
        end = self._text.find("}", self._place)
        inside = self._text[self._place + 1 : end] if end > 0 else ""
        low, comma, high = inside.partition(",")
        if not _number(low) or (high and not _number(high)):
            raise self._wrong("a bound is {m}, {m,} or {m,n}")
        self._place = end + 1
        least = int(low)
        most = int(high) if high else None if comma else least
        if max(least, most or 0) > _MOST_TIMES or (most is not None and least > most):
            raise self._wrong(f"a bound is at most {_MOST_TIMES}, and m at most n")
        return least, most

    def _atom(self) -> None:
        char = self._take()
        if char == "(":
            if self._peek() == "?":
                raise self._wrong("(? isn't understood")
            self._either()
            if self._take() != ")":
                raise self._wrong("a ) is missing")
        elif char == "[":
            self._program.add("char", self._bracket())
        elif char == ".":
            self._program.add("char", lambda _: True)
        elif char in "^$":
            self._program.add("start" if char == "^" else "end")
            if self._peek() in ("*", "+", "?", "{"):
                raise self._wrong(f"{char} can't be repeated")
        elif char == "\\":
            self._program.add("char", self._escape())
        elif char in SPECIAL:
            raise self._wrong(f"unexpected {char!r}")
        else:
            self._program.add("char", _same(char))

    def _escape(self) -> Test:
        char = self._take()
        if char in _CLASSES:
            return _CLASSES[char]
        if not char or char.isalnum():
            raise self._wrong(f"\\{char} isn't understood")
        return _same(char)

    def _bracket(self) -> Test:
        unwanted = self._peek() == "^"
        self._place += unwanted
        tests: list[Test] = []
        while (char := self._take()) != "]" or not tests:
            if not char or (char == "[" and self._peek() in (":", ".", "=")):
                raise self._wrong("a ] is missing, or a class in brackets isn't understood")
            if char == "\\":
                tests.append(self._escape())
                continue
            if self._peek() == "-" and self._text[self._place + 1 : self._place + 2] not in ("", "]"):
                self._place += 1
                last = self._take()
                if last in ("\\", "[") or last < char:
                    raise self._wrong(f"{char}-{last} is no range")
                tests.append(_between(char, last))
            else:
                tests.append(_same(char))
        return lambda found: any(test(found) for test in tests) is not unwanted

    def _peek(self) -> str:
        return self._text[self._place : self._place + 1]

    def _take(self) -> str:
        char = self._peek()
        self._place += 1
        return char

    def _wrong(self, why: str) -> InvalidInput:
        return InvalidInput(f"{self._text!r} is no regular expression that is understood here: {why}")


def _number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 4


def _same(char: str) -> Test:
    lower = char.lower()
    return lambda found: found.lower() == lower


def _between(first: str, last: str) -> Test:
    return lambda found: first <= found.lower() <= last or first <= found.upper() <= last
