"""A server's serial console in this terminal: what ``novalite console`` does."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING

from novalite.errors import ConfigError, Forbidden, Unavailable

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

LEAVE = b"\x1d"  # Ctrl-], as virsh, telnet and docker have it
_BLOCK = 4096
_OPEN_SECONDS = 15.0


def join(url: str) -> str:
    """Put standard input and output through to the console at a URL; return why it has ended.

    It ends with the guest's or the proxy's end, with Ctrl-], and with the input's end. ``url`` is
    what the Compute API said, and is good once. Raises ConfigError without websockets or for
    what isn't such a URL, Forbidden when it isn't good any more, and Unavailable.
    """
    try:
        from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
        from websockets.sync.client import connect
    except ImportError as error:
        raise ConfigError(f"this needs websockets: pip install glancelike[serial] ({error})") from error
    try:
        connection = connect(url, compression=None, open_timeout=_OPEN_SECONDS)
    except InvalidURI as error:
        raise ConfigError(f"that is no URL of a console: {error}") from error
    except InvalidStatus as error:
        said = error.response.body.decode(errors="replace").strip()
        kind = Forbidden if error.response.status_code == 403 else Unavailable
        raise kind(f"HTTP {error.response.status_code}: {said}") from error
    except (InvalidHandshake, OSError) as error:
        raise Unavailable(f"the console doesn't answer: {error}") from error
    with connection, _raw(), _Output(connection) as output:
        return _type(connection, output)


def _type(connection: ClientConnection, output: _Output) -> str:
    """Send what is typed until either side ends."""
    from websockets.exceptions import ConnectionClosed

    typed, ended = sys.stdin.fileno(), output.ended
    while True:
        ready, _, _ = select.select([typed, ended], [], [])
        if ended in ready:
            return connection.close_reason or "the connection is closed"
        data = os.read(typed, _BLOCK)
        before, left, _ = data.partition(LEAVE)
        with contextlib.suppress(ConnectionClosed):  # which ``ended`` tells
            if before:
                connection.send(before)
        if left or not data:
            return "left"


class _Output:
    """Prints what the guest says, on a thread; ``ended`` can be read from when it says no more."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.ended, self._end = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            for message in self._connection:
                data = message.encode() if isinstance(message, str) else message
                while data:
                    data = data[os.write(sys.stdout.fileno(), data) :]
        except OSError:
            pass  # nobody reads it any more
        finally:
            os.write(self._end, b"!")

    def __enter__(self) -> _Output:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._thread.join()
        for each in (self.ended, self._end):
            os.close(each)


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Have keys go to the guest as they are pressed, if they are pressed on a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
