"""Column types that mean the same on every database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class Exact(sa.String):
    """Text that is equal only to itself and sorts by code point.

    The databases' defaults differ: MariaDB's ignores case, accents and
    trailing blanks, PostgreSQL sorts as the server's locale says.
    """


@compiles(Exact, "postgresql")
def _exact_postgresql(element: Exact, compiler: Any, **kw: Any) -> str:
    return f'{compiler.visit_VARCHAR(element, **kw)} COLLATE "C"'


@compiles(Exact, "mysql")
@compiles(Exact, "mariadb")
def _exact_mysql(element: Exact, compiler: Any, **kw: Any) -> str:
    collation = "utf8mb4_nopad_bin" if compiler.dialect.is_mariadb else "utf8mb4_0900_bin"
    return f"VARCHAR({element.length}) CHARACTER SET utf8mb4 COLLATE {collation}"


class LongText(sa.Text):
    """Text of up to 65535 bytes that is equal only to itself."""


@compiles(LongText, "mysql")
@compiles(LongText, "mariadb")
def _long_mysql(element: LongText, compiler: Any, **kw: Any) -> str:
    collation = "utf8mb4_nopad_bin" if compiler.dialect.is_mariadb else "utf8mb4_0900_bin"
    return f"TEXT CHARACTER SET utf8mb4 COLLATE {collation}"


class HugeText(sa.Text):
    """Text of up to 16 MiB that nothing is compared with."""


@compiles(HugeText, "mysql")
@compiles(HugeText, "mariadb")
def _huge_mysql(element: HugeText, compiler: Any, **kw: Any) -> str:
    return "MEDIUMTEXT CHARACTER SET utf8mb4"


class UtcTime(sa.types.TypeDecorator[datetime]):
    """An aware datetime, kept in UTC to the microsecond."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            from sqlalchemy.dialects import mysql  # loads all its drivers

            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(sa.DateTime())

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class Document(FunctionElement[str]):
    """Several values as the text of one JSON array.

    Drivers written in Python take a row apart value by value; this is one.
    Times come as text, and booleans as what the database has for them.
    """

    type = sa.Text()
    inherit_cache = True


@compiles(Document)
def _document(element: Document, compiler: Any, **kw: Any) -> str:
    return f"json_array({compiler.process(element.clauses, **kw)})"


@compiles(Document, "mysql")
@compiles(Document, "mariadb")
def _document_mysql(element: Document, compiler: Any, **kw: Any) -> str:
    # Texts of one function have one collation, and JSON has another than what is compared.
    collation = "utf8mb4_nopad_bin" if compiler.dialect.is_mariadb else "utf8mb4_0900_bin"
    pieces = (
        f"{compiler.process(each, **kw)} COLLATE {collation}"
        if isinstance(each.type, sa.JSON | HugeText)
        else compiler.process(each, **kw)
        for each in element.clauses
    )
    return f"json_array({', '.join(pieces)})"


@compiles(Document, "postgresql")
def _document_postgresql(element: Document, compiler: Any, **kw: Any) -> str:
    return f"CAST(json_build_array({compiler.process(element.clauses, **kw)}) AS TEXT)"


def decoded(text: str) -> Any:
    """Return what a Document holds, or a JSON column in one where it came as a text."""
    return msgspec.json.decode(text)


class Packed(FunctionElement[str]):
    """Several texts as one: each but the last has its length in characters before it, and a colon.

    MariaDB makes it in a tenth of the time of a Document. ``unpacked`` is
    the way back. No text may be NULL, or have a NUL in it.
    """

    type = sa.Text()
    inherit_cache = True


@compiles(Packed)
def _packed(element: Packed, compiler: Any, **kw: Any) -> str:
    return f"concat({', '.join(_pieces(element, 'char_length', compiler, **kw))})"


@compiles(Packed, "sqlite")
def _packed_sqlite(element: Packed, compiler: Any, **kw: Any) -> str:
    return " || ".join(_pieces(element, "length", compiler, **kw))


def _pieces(element: Packed, length: str, compiler: Any, **kw: Any) -> list[str]:
    *sized, last = (compiler.process(each, **kw) for each in element.clauses)
    return [piece for each in sized for piece in (f"{length}({each})", "':'", each)] + [last]


def unpacked(text: str, count: int) -> list[str]:
    """Take a Packed of ``count`` texts apart."""
    found = []
    for _ in range(count - 1):
        length, _, text = text.partition(":")
        found.append(text[: int(length)])
        text = text[int(length) :]
    return [*found, text]
