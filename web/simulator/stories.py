"""What happens to people who are verified, one notification at a time. Each story is a generator of notices.

`STORIES` says how many notices each one yields, so that a run of a given length holds whole stories only.
"""

import random
from collections.abc import Callable, Iterator
from typing import TypeAlias

from web.simulator.notifications import Notice, compose
from web.simulator.world import World
from web.simulator.yoti_documents import check_ids

Story: TypeAlias = Callable[[World, random.Random], Iterator[Notice]]


def _reference(rng: random.Random) -> str:
    return f"customer-{rng.randint(10_000, 99_999)}"


def persona_approved(world: World, rng: random.Random) -> Iterator[Notice]:
    account = world.create("persona", "account", reference=_reference(rng))
    inquiry = world.create("persona", "inquiry", reference=_reference(rng), account=account.ref.external_id).ref
    yield compose(world, world.change(inquiry, "start"))
    for kind in ("verification/government-id", "verification/selfie"):
        verification = world.create("persona", kind, parent=inquiry).ref
        world.change(verification, "start")
        yield compose(world, world.change(verification, "approve"))
    yield compose(world, world.change(inquiry, "complete"))
    yield compose(world, world.change(inquiry, "approve"))


def persona_declined(world: World, rng: random.Random) -> Iterator[Notice]:
    inquiry = world.create("persona", "inquiry", reference=_reference(rng)).ref
    yield compose(world, world.change(inquiry, "start"))
    selfie = world.create("persona", "verification/selfie", parent=inquiry).ref
    yield compose(world, world.change(selfie, rng.choice(("decline", "retry"))))
    yield compose(world, world.change(inquiry, "decline"))


def persona_reversed(world: World, rng: random.Random) -> Iterator[Notice]:
    """A reviewer declines, and a second one sees that it was a mistake."""
    inquiry = world.create("persona", "inquiry", reference=_reference(rng)).ref
    yield compose(world, world.change(inquiry, "review"))
    yield compose(world, world.change(inquiry, "decline"))
    yield compose(world, world.change(inquiry, "reverse"))


def persona_expired(world: World, rng: random.Random) -> Iterator[Notice]:
    inquiry = world.create("persona", "inquiry", reference=_reference(rng)).ref
    yield compose(world, world.change(inquiry, "start"))
    yield compose(world, world.change(inquiry, "expire"))


def verifik_approved(world: World, rng: random.Random) -> Iterator[Notice]:
    registration = world.create("verifik", "app-registration", reference=_reference(rng)).ref
    yield compose(world, world.change(registration, "start"))
    email = world.create("verifik", "email-validation", parent=registration).ref
    yield compose(world, world.change(email, "approve"))
    liveness = world.create("verifik", "document-liveness").ref
    world.change(liveness, "approve")
    paper = world.create("verifik", "document-validation", parent=registration, liveness=liveness.external_id).ref
    yield compose(world, world.change(paper, "approve"))
    face = world.create("verifik", "biometric-validation", parent=registration).ref
    yield compose(world, world.change(face, "approve"))
    yield compose(world, world.change(registration, "approve"))


def verifik_by_hand(world: World, rng: random.Random) -> Iterator[Notice]:
    """The face does not pass, somebody looks, and decides otherwise in the end."""
    registration = world.create("verifik", "app-registration", reference=_reference(rng)).ref
    face = world.create("verifik", "biometric-validation", parent=registration).ref
    yield compose(world, world.change(face, "decline"))
    yield compose(world, world.change(registration, "review"))
    yield compose(world, world.change(registration, "decline"))
    if rng.random() < 0.5:
        world.change(registration, "reverse")
    yield compose(world, world.change(registration, "update"))


def gu1_reviewed(world: World, rng: random.Random) -> Iterator[Notice]:
    entity = world.create("gu1", "entity", reference=_reference(rng)).ref
    validation = world.create("gu1", "kyc-validation", parent=entity, reference=_reference(rng)).ref
    yield compose(world, world.change(validation, "start"))
    yield compose(world, world.change(validation, "review"))
    yield compose(world, world.change(validation, "approve" if rng.random() < 0.7 else "decline"))


def gu1_biometric(world: World, rng: random.Random) -> Iterator[Notice]:
    session = world.create("gu1", "biometric-session", reference=_reference(rng)).ref
    yield compose(world, world.change(session, "decline" if rng.random() < 0.3 else "approve"))


def gu1_reversed(world: World, rng: random.Random) -> Iterator[Notice]:
    validation = world.create("gu1", "kyc-validation", reference=_reference(rng)).ref
    yield compose(world, world.change(validation, "approve"))
    yield compose(world, world.change(validation, "reverse"))


def yoti_checked(world: World, rng: random.Random) -> Iterator[Notice]:
    names = ["ID_DOCUMENT_AUTHENTICITY", "LIVENESS", rng.choice(["ID_DOCUMENT_FACE_MATCH", "FAMILIAR_FACE_SEARCH"])]
    session = world.create("yoti", "session", reference=_reference(rng), checks=[*names]).ref
    yield compose(world, world.change(session, "start"), "client_session_token_deleted")
    for _ in names[:-1]:
        record = world.change(session, "complete")
        yield compose(world, record, "check_completion", check_id=check_ids(record.document, done=True)[-1])
    yield compose(world, world.change(session, "approve" if rng.random() < 0.75 else "decline"), "session_completion")


def yoti_screened(world: World, rng: random.Random) -> Iterator[Notice]:
    session = world.create("yoti", "session", reference=_reference(rng), checks=["WATCHLIST_SCREENING"]).ref
    yield compose(world, world.change(session, "review" if rng.random() < 0.5 else "approve"), "session_completion")


STORIES: dict[Story, int] = {
    persona_approved: 5, persona_declined: 3, persona_reversed: 3, persona_expired: 2,
    verifik_approved: 5, verifik_by_hand: 4,
    gu1_reviewed: 3, gu1_biometric: 1, gu1_reversed: 2,
    yoti_checked: 4, yoti_screened: 1,
}  # fmt: skip
WEIGHTS: dict[Story, int] = {persona_approved: 4, verifik_approved: 3, yoti_checked: 3, gu1_reviewed: 2}
"""How often a story is told, where it is not once."""


class Plot:
    """Tells several stories at once, and stops after `length` notices; without a length it never ends."""

    def __init__(self, world: World, rng: random.Random, *, length: int | None, at_once: int = 8) -> None:
        self._world, self._rng = world, rng
        self._left = length
        self._at_once = at_once
        self._open: list[Iterator[Notice]] = []

    def __iter__(self) -> Iterator[Notice]:
        while True:
            while len(self._open) < self._at_once and (story := self._next_story()) is not None:
                self._open.append(story(self._world, self._rng))
            if not self._open:
                return
            told = self._rng.choice(self._open)
            notice = next(told, None)
            if notice is None:
                self._open.remove(told)
            else:
                yield notice

    def _next_story(self) -> Story | None:
        fitting = [story for story, length in STORIES.items() if self._left is None or length <= self._left]
        if not fitting:
            return None
        story = self._rng.choices(fitting, [WEIGHTS.get(story, 1) for story in fitting])[0]
        if self._left is not None:
            self._left -= STORIES[story]
        return story
