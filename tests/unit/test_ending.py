"""Programs end when they are told to, whichever thread the kernel tells."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import signal, threading
from glancelike.ending import Ending

ending = Ending()
assert not ending.wait(0)

def tell():
    signal.pthread_kill({whom}, signal.{name})

thread = threading.Timer(0.1, tell)
thread.start()
assert ending.wait()
print("ended")
"""


@pytest.mark.parametrize("whom", ["threading.get_ident()", "threading.main_thread().ident"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_the_main_thread_learns_of_a_signal(name: str, whom: str) -> None:
    program = PROGRAM.format(name=name, whom=whom)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("ended\n", "")


HANGING = """
import atexit, threading, sys
from glancelike.ending import end, end_within

for_ever = threading.Event()
threading.Thread(target=for_ever.wait).start()
atexit.register(for_ever.wait)
print("said", end="")
{ending}
"""


@pytest.mark.parametrize("ending", ["end(3)", "end_within(0.1)\nfor_ever.wait()\n", "end_within(0.1)"])
def test_a_program_ends_whatever_its_threads_wait_for(ending: str) -> None:
    program = HANGING.format(ending=ending)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("said", 3 if ending == "end(3)" else 0)
    assert ("ending without" in done.stderr) == (ending != "end(3)")
