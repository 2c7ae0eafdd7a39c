"""How long a program of novalite takes to end when it is told to, in seconds.

What it was to write is in the database by then, or is done by the next one; so no peer that doesn't answer (a
database, a broker, a hypervisor behind a cut network) is worth more.
"""

from __future__ import annotations

#: It has ended by then, whoever doesn't answer it.
END_SECONDS = 10.0
#: For requests that are under way. The rest is for what is closed, each part of which gives up on its peer
#: after a second or two.
REQUEST_SECONDS = 5.0
