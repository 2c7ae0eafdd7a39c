"""Any sequence of calls by anybody: the service does what a plain model of it says."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from glancelike.embedded import open_service
from glancelike.errors import (
    Conflict,
    Forbidden,
    GlancelikeError,
    ImageExists,
    ImageNotFound,
    ImageProtected,
    InvalidInput,
    InvalidTransition,
    MemberExists,
    MemberNotFound,
    NoImageData,
    ReadOnlyProperty,
    TagNotFound,
)
from glancelike.model import Caller, Change, ChangeOp, MemberStatus, Query, Status, Visibility
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import ImageService
from glancelike.stores.memory import MemoryStore
from tests.conformance.service_model import Known
from tests.conformance.test_registry_model import PROJECTS, TAGS

MEMBER, READER = frozenset({"member", "reader"}), frozenset({"reader"})
ADMIN = Caller.administrator("admin")
OF_PROJECT = {project: Caller("u", project, MEMBER) for project in PROJECTS}
OWNER, MEMBERS, STRANGER, READERS, ADMINS = "owner", "member", "stranger", "reader", "admin"
ROLES = (OWNER, MEMBERS, STRANGER, READERS, ADMINS)
FORMATS = {"disk_format": "raw", "container_format": "bare"}
FEW = 5  # images, so that many calls are about the same
EVERYTHING = Query(visibility="all", member_status="all", hidden=None, limit=100)
V = Visibility

projects = st.sampled_from(PROJECTS)
visibilities = st.sampled_from((V.SHARED, *V))


Refusal = type[GlancelikeError] | None


def first(*reasons: tuple[bool, type[GlancelikeError]]) -> Refusal:
    """Return the error of the first reason there is, None for success."""
    return next((error for there, error in reasons if there), None)


def anybody(*often: str) -> st.SearchStrategy[tuple[Caller, Known]]:
    """Choose an image and who is to do something to it; those in ``often`` more than others."""

    def choose(model: ServiceModel) -> st.SearchStrategy[tuple[Caller, Known]]:
        images = [*list(model.known.values()) * 3, *model.gone[-1:]]
        return st.tuples(st.sampled_from(images), st.sampled_from((*often, *ROLES))).map(
            lambda chosen: (model.caller(chosen[1], chosen[0]), chosen[0])
        )

    return st.runner().flatmap(choose)


class ServiceModel(RuleBasedStateMachine):
    """Each rule says which error it must be, or changes the model as the service was told."""

    def __init__(self) -> None:
        super().__init__()
        self.service: ImageService = open_service(MemoryRegistry({}), stores={"memory": MemoryStore({})})
        self.known: dict[str, Known] = {}
        self.gone: list[Known] = []

    def teardown(self) -> None:
        self.service.close()

    def call(self, expected: Refusal, act: Callable[[], Any]) -> Any:
        """Do it; it has to raise exactly that error, None being none."""
        if expected is None:
            return act()
        with pytest.raises(GlancelikeError) as raised:
            act()
        assert raised.type is expected, (
            f"{raised.type.__name__} instead of {expected.__name__}: {raised.value}"
        )
        return None

    def caller(self, role: str, image: Known) -> Caller:
        """Return somebody who is that to the image, as far as there is anybody."""
        owner = image.owner if image.owner in PROJECTS else PROJECTS[0]
        others = [project for project in PROJECTS if project != owner]
        members = [project for project in others if project in image.members]
        return {
            OWNER: OF_PROJECT[owner],
            MEMBERS: OF_PROJECT[(members or others)[0]],
            STRANGER: OF_PROJECT[next((each for each in others if each not in members), others[0])],
            READERS: Caller("r", owner, READER),
            ADMINS: ADMIN,
        }[role]

    def update(
        self, caller: Caller, image: Known, *more: tuple[bool, type[GlancelikeError]], **changes: Any
    ) -> bool:
        """Replace fields; tell whether it was done."""
        expected = first(self.unseen(caller, image), (not image.changeable(caller), Forbidden), *more)
        asked = [Change(ChangeOp.REPLACE, (name,), value) for name, value in changes.items()]
        self.call(expected, lambda: self.service.update_image(caller, image.id, asked))
        return expected is None

    def unseen(self, caller: Caller, image: Known) -> tuple[bool, type[GlancelikeError]]:
        return image.id not in self.known or not image.seen(caller), ImageNotFound

    # Records

    @initialize(visibility=visibilities)
    def begin(self, visibility: Visibility) -> None:
        """Begin with images that have all that takes steps to get."""
        for project in PROJECTS[:2]:
            owner = OF_PROJECT[project]
            image = self._create(owner, V.SHARED, formats=True)
            self.upload((owner, image), b"data")
            self.share((owner, image), PROJECTS[2])
            self.add_tag((owner, image), TAGS[0])
        self._create(ADMIN, visibility, formats=False)

    @precondition(lambda self: len(self.known) < FEW)
    @rule(who=anybody(OWNER), visibility=visibilities, formats=st.booleans())
    def create(self, who: tuple[Caller, Known], visibility: Visibility, formats: bool) -> None:
        caller, _ = who
        if "member" not in caller.roles or (visibility is V.PUBLIC and not caller.admin):
            self.call(Forbidden, lambda: self.service.create_image(caller, {"visibility": str(visibility)}))
        else:
            self._create(caller, visibility, formats=formats)

    @rule(who=anybody(OWNER))
    def create_again(self, who: tuple[Caller, Known]) -> None:
        """An id is taken for ever, also where it isn't seen."""
        caller, image = who
        expected = Forbidden if "member" not in caller.roles else ImageExists
        self.call(expected, lambda: self.service.create_image(caller, {"id": image.id}))

    def _create(self, caller: Caller, visibility: Visibility, *, formats: bool) -> Known:
        values = {"visibility": str(visibility), **(FORMATS if formats else {})}
        made = self.service.create_image(caller, values)
        image = Known(made.id, caller.project, visibility, formats)
        self.known[made.id] = image
        return image

    @rule(who=anybody(OWNER, OWNER, OWNER), name=st.sampled_from((None, "a", "b")))
    def rename(self, who: tuple[Caller, Known], name: str | None) -> None:
        caller, image = who
        if self.update(caller, image, name=name):
            image.name = name

    @rule(who=anybody(OWNER, OWNER, OWNER), visibility=visibilities)
    def show_to(self, who: tuple[Caller, Known], visibility: Visibility) -> None:
        caller, image = who
        public = visibility is V.PUBLIC and image.visibility is not V.PUBLIC and not caller.admin
        if self.update(caller, image, (public, Forbidden), visibility=str(visibility)):
            image.visibility = visibility

    @rule(who=anybody(OWNER, OWNER, OWNER), protected=st.booleans(), hidden=st.booleans())
    def protect(self, who: tuple[Caller, Known], protected: bool, hidden: bool) -> None:
        caller, image = who
        if self.update(caller, image, protected=protected, os_hidden=hidden):
            image.protected, image.hidden = protected, hidden

    @rule(who=anybody(OWNER, OWNER, OWNER), owner=projects)
    def give_away(self, who: tuple[Caller, Known], owner: str) -> None:
        caller, image = who
        theirs = owner != image.owner and not caller.admin
        if self.update(caller, image, (theirs, Forbidden), owner=owner):
            image.owner = owner

    @rule(who=anybody(OWNER, OWNER, OWNER), op=st.sampled_from(ChangeOp), value=st.sampled_from(TAGS))
    def set_property(self, who: tuple[Caller, Known], op: ChangeOp, value: str) -> None:
        """One of two changes may fail, then there is none."""
        caller, image = who
        absent = op is not ChangeOp.ADD and "os" not in image.properties
        expected = first(
            self.unseen(caller, image), (not image.changeable(caller), Forbidden), (absent, Conflict)
        )
        both = [Change(ChangeOp.REPLACE, ("name",), value), Change(op, ("os",), value)]
        self.call(expected, lambda: self.service.update_image(caller, image.id, both))
        if expected is None:
            image.name = value
            image.properties = {} if op is ChangeOp.REMOVE else {"os": value}

    @rule(who=anybody(OWNER, OWNER, OWNER), tag=st.sampled_from(TAGS))
    def add_tag(self, who: tuple[Caller, Known], tag: str) -> None:
        caller, image = who
        expected = first(self.unseen(caller, image), (not image.changeable(caller), Forbidden))
        self.call(expected, lambda: self.service.add_tag(caller, image.id, tag))
        if expected is None:
            image.tags.add(tag)

    @rule(who=anybody(OWNER, OWNER, OWNER), tag=st.sampled_from(TAGS))
    def remove_tag(self, who: tuple[Caller, Known], tag: str) -> None:
        caller, image = who
        expected = first(
            self.unseen(caller, image),
            (not image.changeable(caller), Forbidden),
            (tag not in image.tags, TagNotFound),
        )
        self.call(expected, lambda: self.service.remove_tag(caller, image.id, tag))
        image.tags -= {tag} if expected is None else set()

    @rule(who=anybody(OWNER, OWNER, OWNER))
    def set_format(self, who: tuple[Caller, Known]) -> None:
        caller, image = who
        frozen = image.status is not Status.QUEUED
        if self.update(caller, image, (frozen, ReadOnlyProperty), disk_format="qcow2"):
            # And back, so that what is uploaded later is what it should be.
            assert self.update(caller, image, disk_format="raw", container_format="bare")
            image.formats = True

    @rule(who=anybody(OWNER, OWNER, OWNER))
    def delete(self, who: tuple[Caller, Known]) -> None:
        caller, image = who
        expected = first(
            self.unseen(caller, image),
            (not image.changeable(caller), Forbidden),
            (image.protected, ImageProtected),
        )
        self.call(expected, lambda: self.service.delete_image(caller, image.id))
        if expected is None:
            self.gone.append(self.known.pop(image.id))

    # Data

    @rule(who=anybody(OWNER, OWNER, OWNER), data=st.binary(max_size=20))
    def upload(self, who: tuple[Caller, Known], data: bytes) -> None:
        caller, image = who
        expected = first(
            self.unseen(caller, image),
            (not image.changeable(caller), Forbidden),
            (not image.formats, InvalidInput),
            (image.status is not Status.QUEUED, InvalidTransition),
        )
        self.call(expected, lambda: self.service.upload(caller, image.id, io.BytesIO(data)))
        if expected is None:
            image.data, image.status = data, Status.ACTIVE

    @rule(who=anybody(OWNER, OWNER, OWNER), there=st.booleans())
    def switch(self, who: tuple[Caller, Known], there: bool) -> None:
        caller, image = who
        act, after = (
            (self.service.reactivate_image, Status.ACTIVE)
            if there
            else (self.service.deactivate_image, Status.DEACTIVATED)
        )
        without = image.data is None
        expected = first(self.unseen(caller, image), (not image.changeable(caller) or without, Forbidden))
        self.call(expected, lambda: act(caller, image.id))
        if expected is None:
            image.status = after

    @rule(who=anybody(MEMBERS, MEMBERS))
    def download(self, who: tuple[Caller, Known]) -> None:
        caller, image = who
        expected = first(
            self.unseen(caller, image),
            ("member" not in caller.roles, Forbidden),
            (image.status is Status.DEACTIVATED and not caller.admin, Forbidden),
            (image.data is None, NoImageData),
        )
        read = self.call(expected, lambda: self.service.read(caller, image.id))
        if expected is None:
            assert b"".join(read.chunks()) == image.data

    # Members

    def unshared(self, image: Known) -> tuple[bool, type[GlancelikeError]]:
        return image.visibility is not V.SHARED, Forbidden

    def stranger(self, caller: Caller, image: Known, project: str) -> tuple[bool, type[GlancelikeError]]:
        """Others than the owner know of no membership but their own."""
        known = caller.admin or image.mine(caller) or caller.project == project
        return not known or project not in image.members, MemberNotFound

    @rule(who=anybody(OWNER, OWNER, OWNER), project=projects)
    def share(self, who: tuple[Caller, Known], project: str) -> None:
        caller, image = who
        expected = first(
            self.unseen(caller, image),
            self.unshared(image),
            (not image.changeable(caller), Forbidden),
            (project in image.members, MemberExists),
        )
        self.call(expected, lambda: self.service.add_member(caller, image.id, project))
        if expected is None:
            image.members[project] = MemberStatus.PENDING

    @rule(who=anybody(MEMBERS, MEMBERS), project=projects, status=st.sampled_from(MemberStatus))
    def answer(self, who: tuple[Caller, Known], project: str, status: MemberStatus) -> None:
        caller, image = who
        theirs = caller.project == project and "member" in caller.roles
        expected = first(
            self.unseen(caller, image),
            self.unshared(image),
            self.stranger(caller, image, project),
            (not caller.admin and not theirs, Forbidden),
        )
        self.call(expected, lambda: self.service.set_member_status(caller, image.id, project, status))
        if expected is None:
            image.members[project] = status

    @rule(who=anybody(OWNER, OWNER, OWNER), project=projects)
    def unshare(self, who: tuple[Caller, Known], project: str) -> None:
        caller, image = who
        expected = first(
            self.unseen(caller, image),
            self.unshared(image),
            self.stranger(caller, image, project),
            (not image.changeable(caller), Forbidden),
        )
        self.call(expected, lambda: self.service.remove_member(caller, image.id, project))
        if expected is None:
            del image.members[project]

    @rule(who=anybody(MEMBERS, MEMBERS))
    def members(self, who: tuple[Caller, Known]) -> None:
        caller, image = who
        expected = first(self.unseen(caller, image), self.unshared(image))
        found = self.call(expected, lambda: self.service.list_members(caller, image.id))
        if expected is None:
            everybody = caller.admin or image.mine(caller)
            assert {member.project: member.status for member in found} == {
                project: status
                for project, status in image.members.items()
                if everybody or project == caller.project
            }

    # What everybody sees in the end

    @rule(who=anybody(MEMBERS, MEMBERS))
    def show(self, who: tuple[Caller, Known]) -> None:
        caller, image = who
        expected = first(self.unseen(caller, image))
        record = self.call(expected, lambda: self.service.show_image(caller, image.id))
        if expected is None:
            assert self.facts(record) == self.facts(image)
            assert record.size == (None if image.data is None else len(image.data))

    @staticmethod
    def facts(image: Any) -> tuple[Any, ...]:
        fields = ("id", "owner", "visibility", "status", "protected", "hidden", "name", "properties")
        return *(getattr(image, name) for name in fields), set(image.tags)

    @rule(who=anybody(MEMBERS, MEMBERS))
    def list_(self, who: tuple[Caller, Known]) -> None:
        caller, _ = who
        default = self.service.list_images(caller, Query(limit=100)).images
        assert {image.id for image in default} == {
            image.id for image in self.known.values() if image.listed(caller)
        }
        assert {image.id for image in self.service.list_images(caller, EVERYTHING).images} == {
            image.id for image in self.known.values() if image.seen(caller)
        }

    @invariant()
    def records_are_what_was_written(self) -> None:
        records = {image.id: image for image in self.service.list_images(ADMIN, EVERYTHING).images}
        assert records.keys() == self.known.keys()
        for image in self.known.values():
            assert self.facts(records[image.id]) == self.facts(image)
            listed = self.service._context.registry.list_members(image.id)
            assert {member.project: member.status for member in listed} == image.members

    @invariant()
    def stores_hold_what_is_named(self) -> None:
        context = self.service._context
        stored = [blob.key for mount in context.mounts.all() for blob in mount.store.list()]
        assert len(stored) == sum(image.data is not None for image in self.known.values())


TestServiceModel = ServiceModel.TestCase
TestServiceModel.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestServiceModel.pytestmark = [pytest.mark.slow]
