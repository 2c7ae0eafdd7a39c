"""What the commands print."""

from __future__ import annotations

import re

import pytest

from glancelike.cli_output import Progress, complain, print_table


def test_a_table_is_aligned_by_what_a_terminal_shows(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("Name", "Size"), [("x", "1"), ("日本", "2"), ("e\u0301ve", "3"), ("longest", "")])
    assert capsys.readouterr().out.splitlines() == [
        "Name     Size",
        "-------  ----",
        "x        1",
        "日本     2",
        "e\u0301ve      3",
        "longest",
    ]


def test_an_empty_table_has_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("ID", "Name"), [])
    assert capsys.readouterr().out == "ID  Name\n--  ----\n"


@pytest.mark.parametrize("name", ["\x1b[2Jgone", "two\nlines", "back\x08", "\x9b31m", "\u202ertl", "\udc80"])
def test_a_name_does_nothing_to_the_terminal(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("Name",), [(name,)])
    *_, line = capsys.readouterr().out.splitlines()
    assert line.isprintable()
    assert line.encode().decode("unicode_escape") == name


class Terminal:
    """Standard error as it is on a terminal."""

    def __init__(self) -> None:
        self.said = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.said += text
        return len(text)

    def flush(self) -> None:
        pass


def test_progress_is_one_line_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("upload", 4 << 20) as progress:
        for _ in range(4):
            progress.advance(1 << 20)
    said = capsys.readouterr().err
    assert re.fullmatch(r"upload  4\.0 of 4\.0 MiB  100%  \d+\.\d MiB/s\n", said), said


def test_progress_of_a_pipe_has_no_end_to_tell(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("upload", None) as progress:
        progress.advance(3 << 19)
    assert re.fullmatch(r"upload  1\.5 MiB  \d+\.\d MiB/s\n", capsys.readouterr().err)


def test_progress_is_drawn_anew_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("glancelike.cli_output.REDRAWN_SECONDS", 0)
    with Progress("download", 2 << 20) as progress:
        progress.advance(1 << 20)
        progress.advance(1 << 20)
    assert re.findall(r"\r[^\r]* (\d+)%", terminal.said) == ["50", "100", "100"]
    assert terminal.said.endswith("\x1b[K\n")


def test_errors_are_red_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    complain("no [such] thing")
    assert capsys.readouterr().err == "glancelike: no [such] thing\n"
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    complain("no\x1b[2J")
    assert terminal.said == "\x1b[31mglancelike: no\\x1b[2J\x1b[0m\n"
