"""The table of docs/compute-faults.md, made of the points and of what each order ends in.

``python -m tests.fault_table`` writes it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from novalite.faults import LIVE, LOST, ORDERS, POINTS

DOCUMENT = Path(__file__).parents[1] / "docs" / "compute-faults.md"
START, END = "<!-- table, made by tests/fault_table.py -->\n", "<!-- end of the table -->\n"
ENDS = {
    "boot": "ACTIVE",
    "stop": "SHUTOFF",
    "start": "ACTIVE",
    "delete": "gone",
    "rebuild": "ACTIVE",
    "rescue": "RESCUE",
    "unrescue": "ACTIVE",
    "image": "ACTIVE",
    "shelve": "SHELVED_OFFLOADED",
    "unshelve": "ACTIVE",
    "resize": "VERIFY_RESIZE",
    "confirm": "ACTIVE",
    "revert": "ACTIVE",
    "migrate": "VERIFY_RESIZE",
    "confirm the move": "ACTIVE",
    "revert the move": "ACTIVE",
    "evacuate": "ACTIVE",
    "live migration": "ACTIVE",
    "image lost": "ERROR",
}


def cases(orders: Sequence[str] = ORDERS) -> Iterator[tuple[str, str]]:
    """Yield each order with each point of it."""
    for order in orders:
        for name, point in POINTS.items():
            if order in point.orders:
                yield order, name


def table() -> str:
    """Return the table."""
    rows = [
        f"| {order} | `{name}` | {POINTS[name].process} | {POINTS[name].after} | {ENDS[order]} |\n"
        for order, name in cases((*ORDERS, *LIVE, *LOST))
    ]
    head = "| order | point | process killed | when | the server ends |\n|---|---|---|---|---|\n"
    return head + "".join(rows)


def renewed(document: str) -> str:
    """Return the document with the table as it should be."""
    before, _, rest = document.partition(START)
    return before + START + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    DOCUMENT.write_text(renewed(DOCUMENT.read_text()))
