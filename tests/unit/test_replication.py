"""The replication policy: so many stores for each active image."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from typing import Any

import pytest

from glancelike.errors import ConfigError
from glancelike.model import Location, TaskQuery, TaskStatus, TaskType
from glancelike.service import ImportRequest, rounds
from glancelike.vfs import MountOptions
from tests.copies_fixtures import (
    ADMIN,
    ALICE,
    DATA,
    Breakable,
    Serve,
    active,
    content,
    keys,
    stores_of,
)
from tests.copies_fixtures import serve as serve  # a fixture


def round_due(service: Any) -> None:
    """Let the time until the next round pass."""
    leases = service._context.registry._leases
    for name in [name for name in leases if name.startswith("next:")]:
        del leases[name]


def look_after(service: Any) -> int:
    round_due(service)
    service.look_after()
    done: int = service.run_tasks()
    return done


def last(service: Any) -> Any:
    query = TaskQuery(type=TaskType.REPLICATE, limit=1)
    return service.list_tasks(ADMIN, query).tasks[0]


def test_an_image_that_becomes_active_is_copied(serve: Serve) -> None:
    service = serve("a", "b", "c", replicas=2)
    image = active(service)
    assert stores_of(service, image) == ["a"]
    assert service.run_tasks() == 1
    assert stores_of(service, image) == ["a", "b"]
    assert content(service, image) == DATA
    assert (last(service).status, last(service).result["copies"]) == (TaskStatus.SUCCESS, 1)
    # The work is the service's: its owner isn't shown what nobody asked for.
    assert service.image_tasks(ALICE, image.id) == ()


def test_by_default_nothing_is_copied(serve: Serve) -> None:
    service = serve("a", "b")
    image = active(service)
    assert look_after(service) == 0
    assert stores_of(service, image) == ["a"]


def test_the_order_of_preference(serve: Serve) -> None:
    service = serve("a", "b", "c", "d", replicas=2, replica_stores=("d", "c"))
    image = active(service)
    service.run_tasks()
    # a isn't among those that count
    assert stores_of(service, image) == ["a", "d", "c"]


def test_imports_are_copied_too(serve: Serve) -> None:
    service = serve("a", "b", replicas=2)
    image = service.create_image(ALICE, {"disk_format": "raw", "container_format": "bare"})
    service.stage(ALICE, image.id, io.BytesIO(DATA))
    service.import_image(ALICE, image.id, ImportRequest("glance-direct"))
    service.run_tasks()
    assert stores_of(service, image) == ["a", "b"]


def test_a_store_that_is_away_gets_its_copy_later(serve: Serve) -> None:
    b = Breakable({})
    service = serve("a", drivers={"b": b}, replicas=2)
    b.away = True
    image = active(service)
    service.run_tasks()
    assert stores_of(service, image) == ["a"]
    assert last(service).status is TaskStatus.FAILURE
    assert "away" in last(service).message
    b.away = False
    assert look_after(service) == 1
    assert stores_of(service, image) == ["a", "b"]
    assert last(service).result == {"copies": 1, "failed": 0}


def test_another_store_stands_in_for_one_that_is_away(serve: Serve) -> None:
    b = Breakable({})
    service = serve("a", "c", drivers={"b": b}, replicas=2, replica_stores=("a", "b", "c"))
    b.away = True
    image = active(service)
    service.run_tasks()
    assert stores_of(service, image) == ["a", "c"]
    b.away = False
    look_after(service)
    assert stores_of(service, image) == ["a", "c"]


def test_a_copy_that_was_taken_away_comes_back_but_not_at_once(serve: Serve) -> None:
    service = serve("a", "b", replicas=2)
    image = active(service)
    service.run_tasks()
    look_after(service)
    service.remove_copy(ADMIN, "b", image.id)
    service.look_after()
    assert service.run_tasks() == 0
    assert stores_of(service, image) == ["a"]
    look_after(service)
    assert stores_of(service, image) == ["a", "b"]


def test_a_round_copies_all_that_lack_copies(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "PAGE", 3)
    before = serve("a", "b")
    images = [active(before, bytes([number]) * 100) for number in range(8)]
    deactivated = active(before)
    before.deactivate_image(ADMIN, deactivated.id)
    before._context.settings = type(before.settings)(replicas=2)
    look_after(before)
    assert [stores_of(before, image) for image in images] == [["a", "b"]] * 8
    assert stores_of(before, deactivated) == ["a"]
    assert look_after(before) == 1
    assert len(keys(before, "b")) == 8


def test_copies_count_for_the_quota_and_stop_at_it(serve: Serve) -> None:
    service = serve("a", "b", replicas=2, user_storage_quota=len(DATA) * 3)
    first, second = active(service), None
    service.run_tasks()
    second = active(service)
    service.run_tasks()
    assert stores_of(service, first) == ["a", "b"]
    assert stores_of(service, second) == ["a"]
    assert last(service).status is TaskStatus.FAILURE
    assert keys(service, "b") == {service.show_image(ADMIN, first.id).locations[1].key}


def test_an_image_that_is_gone_needs_no_copy(serve: Serve) -> None:
    service = serve("a", "b", replicas=2)
    image = active(service)
    service.delete_image(ALICE, image.id)
    service.run_tasks()
    assert last(service).status is TaskStatus.SUCCESS
    assert keys(service, "a") == keys(service, "b") == set()


def test_many_workers_make_one_copy(serve: Serve) -> None:
    service = serve("a", drivers={"b": Breakable({})}, replicas=2)
    image = active(service)
    for _ in range(5):
        round_due(service)
        service.look_after()
    threads = [threading.Thread(target=service.run_tasks) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stores_of(service, image) == ["a", "b"]
    assert len(keys(service, "b")) == 1


def test_a_copy_by_hand_in_the_meantime_isnt_made_twice(serve: Serve) -> None:
    class Overtaken(Breakable):
        def write(self, key: str, source: Any, *, size: int | None) -> Any:
            info = super().write(key, source, size=size)
            if not self.made:
                self.made = 1
                service.import_image(ADMIN, image.id, ImportRequest("copy-image", stores=("b",)))
                service.run_tasks()
            return info

    service = serve("a", drivers={"b": Overtaken({})}, replicas=2)
    image = active(service)
    service.run_tasks()
    assert stores_of(service, image) == ["a", "b"]
    assert len(keys(service, "b")) == 1


def test_a_replica_in_the_meantime_isnt_made_twice_by_hand(serve: Serve) -> None:
    class Overtaken(Breakable):
        def write(self, key: str, source: Any, *, size: int | None) -> Any:
            info = super().write(key, source, size=size)
            # As a replica's record that was begun before the import took the image.
            service._context.amend(
                image.id,
                lambda fresh: replace(fresh, locations=(*fresh.locations, Location("b", "replica"))),
            )
            return info

    service = serve("a", drivers={"b": Overtaken({})})
    image = active(service)
    service.import_image(ADMIN, image.id, ImportRequest("copy-image", stores=("b",)))
    service.run_tasks()
    assert service.image_tasks(ADMIN, image.id)[0].status is TaskStatus.SUCCESS
    found = service.show_image(ADMIN, image.id)
    assert [location.key for location in found.locations][1:] == ["replica"]
    assert found.properties["os_glance_importing_to_stores"] == ""
    assert keys(service, "b") == set()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"replicas": 3}, "only 2 stores"),
        ({"replicas": 2, "replica_stores": ("a", "nowhere")}, "nowhere"),
        ({"replicas": 2, "replica_stores": ("a", "kept")}, "kept"),
        ({"replicas": 2, "replica_stores": ("a", "a")}, "only 1 stores"),
    ],
)
def test_a_policy_that_cant_be_kept_stops_the_start(serve: Serve, settings: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        serve("a", "b", "kept", store_options={"kept": MountOptions(read_only=True)}, **settings)
