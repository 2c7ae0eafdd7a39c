"""An installed distribution of store drivers that break in every way there is."""

from __future__ import annotations

import textwrap
from pathlib import Path

SECRET = "s3cr3t-w0rd"
# Entry points, and the module of each.
MODULES = {
    "needslibrary": "import no_such_library_at_all",
    "assertsonimport": "assert False, 'not today'",
    "exitsonimport": "raise SystemExit(3)",
    "notastore": "class Store: pass",
    "incomplete": """
        from glancelike.stores.base import Store as Base
        class Store(Base):
            def stat(self, key): ...
    """,
    "oddcapabilities": """
        from glancelike.stores.memory import MemoryStore
        class Store(MemoryStore):
            capabilities = "all of them"
    """,
    "oddoptions": """
        from glancelike.stores.memory import MemoryStore
        class Store(MemoryStore):
            options = ("directory",)
    """,
    "raisesinit": """
        class Store(WithPassword):
            def __init__(self, settings):
                super().__init__(settings)
                raise RuntimeError(f"can't take {settings}")
    """,
    "raisesopen": """
        class Store(WithPassword):
            def open(self):
                password = self.settings["broken_password"]
                raise ConnectionError(f"http://me:pass@host/ refused {password}\\nat all")
    """,
    "hangs": """
        import subprocess, sys, time
        class Store(WithPassword):
            def open(self):
                self.child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(900)"])
                print(self.child.pid, file=open(self.settings["broken_file"], "w"), flush=True)
                time.sleep(900)
    """,
    "lies": """
        from glancelike.stores.base import BlobInfo
        class Store(WithPassword):
            def write(self, key, source, *, size):
                while source.read(1 << 20):
                    pass
                return BlobInfo(key, size)
    """,
    "forgetful": """
        class Store(WithPassword):
            def read(self, key, *, offset=0, length=None):
                blocks = super().read(key, offset=offset, length=length)
                return (b"\\0" * len(block) for block in blocks)
    """,
    "overwrites": """
        class Store(WithPassword):
            def _check_absent(self, key): pass
    """,
    "ends": """
        import os
        class Store(WithPassword):
            def stat(self, key):
                os._exit(0)
    """,
    "crashes": """
        import os, signal
        class Store(WithPassword):
            def stat(self, key):
                os.kill(os.getpid(), signal.SIGSEGV)
    """,
    "chatty": """
        import sys
        print("hello")
        class Store(WithPassword):
            def open(self):
                print('{"done": true}')
                print("hello", file=sys.stderr)
            def probe(self):
                return {"versioning": "ok", "locks": f"no: {self.settings['broken_password']}"}
    """,
}
COMMON = """
from oslo_config import cfg
from glancelike.stores.memory import MemoryStore

class WithPassword(MemoryStore):
    options = (cfg.StrOpt("broken_password", secret=True), cfg.StrOpt("broken_file"))
"""


def write_distribution(directory: Path) -> Path:
    """Make the distribution in a directory that is to be on the path; return it."""
    info = directory / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    points = "".join(f"{name} = broken_{name}:Store\n" for name in MODULES)
    (info / "entry_points.txt").write_text(f"[glancelike.stores]\n{points}")
    for name, text in MODULES.items():
        code = textwrap.dedent(text)
        (directory / f"broken_{name}.py").write_text((COMMON if "WithPassword" in code else "") + code)
    return directory
