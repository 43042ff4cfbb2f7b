"""A mask hides everything that is not declared plain, and keeps the shape of what is declared."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.documents import MASK, dotted, mask, plain_word
from worker.domain.model import LONGEST_DRIFT, Drift

PLAIN = dotted("id status score checks.*.name checks.*.passed nested.deep.code tags.*")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"id": "x1", "name": "Ada"}, {"id": "x1", "name": MASK}),
        ({"status": None, "name": None, "note": ""}, {"status": None, "name": None, "note": ""}),
        ({"score": 0, "age": 0, "alive": False}, {"score": 0, "age": MASK, "alive": MASK}),
        ({"fields": {"name": {"value": "Ada"}}}, {"fields": MASK}),
        ({"hits": [{"name": "Ada"}], "none": [], "nothing": {}}, {"hits": MASK, "none": [], "nothing": {}}),
        (
            {"checks": [{"name": "a", "passed": True, "who": "Ada"}, "Ada", None]},
            {"checks": [{"name": "a", "passed": True, "who": MASK}, MASK, None]},
        ),
        ({"nested": {"deep": {"code": "a", "b": 1}, "new": {"c": 1}}}, {"nested": {"deep": {"code": "a", "b": MASK},
                                                                                  "new": MASK}}),
        ({"tags": ["one", "Ada Lovelace"]}, {"tags": ["one", MASK]}),
        # What was a code becomes an object or a list, a list becomes an object, an object a text.
        ({"status": {"code": "a"}}, {"status": MASK}),
        ({"status": ["a"]}, {"status": MASK}),
        ({"nested": "Ada"}, {"nested": MASK}),
        ({"checks": {"ada@example.com": {"name": "a"}}}, {"checks": MASK}),
        ({"checks": {"one": {"name": "a"}}}, {"checks": {"one": {"name": "a"}}}),
        # A plain path is no licence for free text.
        ({"status": "Ada Lovelace, born 1815"}, {"status": MASK}),
        ({"status": "ada@example.com", "id": "https://example.com/a.jpg?token=1"}, {"status": MASK, "id": MASK}),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_hidden(document: dict[str, Any], expected: dict[str, Any]) -> None:
    before = repr(document)

    assert mask(document, PLAIN) == expected
    assert repr(document) == before, "the given document is left as it was"


def test_without_any_plain_path_nothing_is_shown() -> None:
    assert mask({"id": 1}, ()) == MASK
    assert mask([1], ()) == MASK
    assert mask("Ada", ()) == MASK
    assert mask(None, ()) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "status", "checks", "name", "new"]), inner),
)


@given(JSON)
def test_masking_twice_changes_nothing_more(document: Any) -> None:
    once = mask(document, PLAIN)

    assert mask(once, PLAIN) == once


@given(JSON)
def test_nothing_is_made_up(document: Any) -> None:
    """Every value of the masked document is the mask, or is at the same place in the given one."""

    def check(shown: Any, given: Any) -> None:
        if shown == MASK:
            return
        assert type(shown) is type(given)
        if isinstance(shown, dict):
            assert shown.keys() == given.keys()
            for name in shown:
                check(shown[name], given[name])
        elif isinstance(shown, list):
            for one, other in zip(shown, given, strict=True):
                check(one, other)
        else:
            assert shown == given

    check(mask(document, PLAIN), document)


def test_paths_are_written_with_dots_below_prefixes() -> None:
    assert dotted("a.*.b c") == (("a", "*", "b"), ("c",))
    assert dotted("a", "x.y", "") == (("x", "y", "a"), ("a",))


@pytest.mark.parametrize(
    "word", [None, "", "passed", "2026-01-01T00:00:00+00:00", "FACE_MATCH_SCORE_LOW", "liveness#2"]
)
def test_words_stay(word: str | None) -> None:
    assert plain_word(word) == word


@pytest.mark.parametrize(
    "text", ["Ada Lovelace", "ada@example.com", "+15551234567", "a" * 129, "Zoë", "ok\n", "?x", "https://a/b?c"]
)
def test_anything_else_does_not(text: str) -> None:
    assert plain_word(text) == MASK


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("TELEPORTED", "TELEPORTED"),
        (None, "missing"),
        ("", "missing"),
        ("Ada Lovelace", MASK),
        ("ada@example.com", MASK),
        ("x" * 200, "x" * LONGEST_DRIFT),
    ],
)
def test_drift_quotes_codes_only(value: str | None, shown: str) -> None:
    assert Drift.seen("status", value) == Drift("status", shown)
