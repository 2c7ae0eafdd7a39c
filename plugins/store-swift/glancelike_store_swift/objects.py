"""Swift's verbs on containers and objects, typed; no policy of this driver."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from glancelike.errors import BlobNotFound, StoreFault
from glancelike_store_swift.client import Answer, Client

# Defaults of Swift, for clusters that don't tell theirs.
MAX_FILE = 5 * (1 << 30)
MAX_SEGMENTS = 1000
COPY_PATIENCE = 10.0  # a copy is answered only when it is done
BULK = 1000
Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a cluster can do, by its ``/info``."""

    features: frozenset[str]
    told: bool
    max_file: int
    max_segments: int
    digests: tuple[str, ...]

    @classmethod
    def of(cls, info: Any) -> Cluster:
        known = info if isinstance(info, dict) else {}
        swift, slo, tempurl = (known.get(name) or {} for name in ("swift", "slo", "tempurl"))
        return cls(
            features=frozenset(known),
            told=bool(known),
            max_file=int(swift.get("max_file_size") or MAX_FILE),
            max_segments=int(slo.get("max_manifest_segments") or MAX_SEGMENTS),
            digests=tuple(tempurl.get("allowed_digests") or ("sha256",)),
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a container's listing."""

    name: str
    size: int
    modified: datetime
    etag: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A stored piece of a blob, as a manifest names it."""

    container: str
    name: str
    size: int
    etag: str

    def line(self) -> dict[str, Any]:
        return {"path": f"/{self.container}/{self.name}", "etag": self.etag, "size_bytes": self.size}


class Objects:
    """Containers and objects of one account."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @property
    def url(self) -> str:
        """Return the storage URL, account included."""
        return self.client.url

    @property
    def account(self) -> str:
        return urlsplit(self.url).path.rpartition("/")[2]

    def head(self, container: str, name: str, *, newest: bool = False) -> Headers | None:
        """Return the object's headers, None if there is none.

        ``newest`` asks all replicas, not just the first that answers.
        """
        headers = {"X-Newest": "true"} if newest else {}
        answer = self.client.call("HEAD", f"{container}/{name}", headers=headers, expect={404})
        return answer.headers if answer.ok else None

    def at(self, account: str) -> Objects:
        """Return the containers and objects of another account."""
        return Objects(self.client.at(account))

    def may_read(self, path: str) -> bool:
        """Tell whether the user can read an object, which may be in another's account."""
        return self.client.call("HEAD", path, expect={401, 403, 404}).ok

    def put(self, container: str, name: str, data: bytes = b"") -> None:
        self.client.call("PUT", f"{container}/{name}", body=data)

    def put_if_possible(self, container: str, name: str) -> bool:
        """Put an empty object; tell whether there is a container to put it in."""
        return self.client.call("PUT", f"{container}/{name}", expect={404}).ok

    def send(self, container: str, name: str, blocks: Iterator[bytes], length: int | None) -> str:
        """Upload one object as its bytes come; return its etag."""
        answer = self.client.send(f"{container}/{name}", blocks, length)
        return answer.headers["Etag"].strip('"')

    def put_manifest(self, container: str, name: str, body: bytes, headers: Headers) -> Answer:
        """Store a static large object; 202, 409 and 412 are returned as answers."""
        return self.client.call(
            "PUT",
            f"{container}/{name}",
            query={"multipart-manifest": "put"},
            headers=headers,
            body=body,
            expect={202, 409, 412},
            patience=COPY_PATIENCE,  # Swift looks at each segment first
        )

    def get_manifest(self, container: str, name: str) -> list[dict[str, Any]]:
        """Return the raw lines of a static large object's manifest."""
        answer = self.client.call(
            "GET", f"{container}/{name}", query={"multipart-manifest": "get", "format": "raw"}
        )
        lines: list[dict[str, Any]] = answer.json()
        return lines

    def copy_range(self, source: str, headers: Headers, container: str, name: str) -> Answer:
        """Copy what ``headers`` (Range, If-Match, …) choose of ``source`` inside the cluster."""
        sent = {**headers, "X-Copy-From": f"/{quote(source)}", "X-Fresh-Metadata": "true"}
        return self.client.call(
            "PUT", f"{container}/{name}", headers=sent, expect={404, 412}, patience=COPY_PATIENCE
        )

    def delete(self, container: str, name: str) -> bool:
        """Delete an object; tell whether it was there."""
        answer = self.client.call("DELETE", f"{container}/{name}", expect={404})
        # After a repeat it may have been this very call that deleted it.
        return answer.ok or answer.tries > 1

    def delete_all(self, container: str, names: Iterable[str], *, bulk: bool) -> None:
        """Delete objects, those that are gone already, too."""
        left = list(names)
        while bulk and len(left) > 1:
            some, left = left[:BULK], left[BULK:]
            body = "\n".join(quote(f"{container}/{name}") for name in some).encode()
            headers = {"Content-Type": "text/plain", "Accept": "application/json"}
            answer = self.client.call(
                "POST",
                "",
                query={"bulk-delete": ""},
                headers=headers,
                body=body,
                expect={400, 401, 403, 404, 405},
                patience=COPY_PATIENCE,
            )
            if not answer.ok or not str(answer.json().get("Response Status", "")).startswith("200"):
                left, bulk = some + left, False  # one by one, to see what is wrong
        for name in left:
            self.delete(container, name)

    def list(
        self, container: str, prefix: str = "", *, delimiter: str = "", marker: str = ""
    ) -> Iterator[Entry]:
        """Walk a container's listing behind ``marker`` page by page."""
        while True:
            query: dict[str, str | int] = {"format": "json", "prefix": prefix, "marker": marker}
            if delimiter:
                query["delimiter"] = delimiter
            page = self.client.call("GET", container, query=query).json() or []
            for line in page:
                if "subdir" not in line:
                    yield _entry(line)
            if not page:
                return
            marker = page[-1].get("subdir") or page[-1]["name"]

    def containers(self, prefix: str) -> Iterator[str]:
        """List the account's containers by name."""
        marker = ""
        while True:
            query: dict[str, str | int] = {"format": "json", "prefix": prefix, "marker": marker}
            page = self.client.call("GET", "", query=query).json() or []
            yield from (line["name"] for line in page if "name" in line)
            if not page:
                return
            marker = page[-1].get("name") or page[-1]["subdir"]

    def head_container(self, container: str) -> Headers | None:
        answer = self.client.call("HEAD", container, expect={404})
        return answer.headers if answer.ok else None

    def put_container(self, container: str, headers: Headers | None = None) -> None:
        self.client.call("PUT", container, headers=headers)

    def post_container(self, container: str, headers: Headers) -> None:
        self.client.call("POST", container, headers=headers)

    def delete_container(self, container: str) -> bool:
        """Delete a container; tell whether it's gone, which one that has objects isn't."""
        return self.client.call("DELETE", container, expect={404, 409}).status != 409

    def head_account(self) -> Headers | None:
        """Return the account's headers, None where they may not be seen."""
        answer = self.client.call("HEAD", "", expect={401, 403, 404})
        return answer.headers if answer.ok else None


def manifest(segments: Iterable[Segment]) -> bytes:
    """Write a manifest; Swift refuses empty segments in it."""
    return json.dumps([segment.line() for segment in segments if segment.size]).encode()


def size_of(headers: Headers) -> int:
    """Return what an object's headers tell of its size."""
    try:
        return int(headers["Content-Length"])
    except (KeyError, ValueError) as error:
        raise StoreFault("Swift doesn't tell the size of an object") from error


def modified_of(headers: Headers) -> datetime | None:
    """Return when an object was written, by the cluster's clock."""
    try:
        return datetime.fromtimestamp(float(headers["X-Timestamp"]), UTC)
    except (KeyError, ValueError):
        return None


def require(headers: Headers | None) -> Headers:
    """Return the headers of what must be there; raise BlobNotFound."""
    if headers is None:
        raise BlobNotFound("no such blob")
    return headers


def _entry(line: Mapping[str, Any]) -> Entry:
    modified = datetime.fromisoformat(line["last_modified"]).replace(tzinfo=UTC)
    return Entry(line["name"], int(line["bytes"]), modified, str(line.get("hash", "")))
