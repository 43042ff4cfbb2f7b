"""Names become path segments of URLs that carry credentials."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.model import ResourceKey, ResourceRef


@pytest.mark.parametrize(
    "external_id",
    ["inq_1", "A", "0", "66b1f0a2c4d5e6f708192a3b", "8e2f89ab-c216-4eb4-90eb-ca5d44499b10", "x" * 128, "a_-_-"],
)
def test_ids(external_id):
    assert ResourceRef("inquiry", external_id).external_id == external_id


@pytest.mark.parametrize(
    "external_id",
    ["", "a/b", "..", ".", "a.b", "../a", "%2e%2e", "a%2fb", "a b", " a", "a\n", "a\x00", "\x7fa", "a?b", "a#b", "a;b",
     "a:b", "a@b", "a\\b", "_a", "-a", "é", "\uff41", "\uff11", "a\u200b", "\ud800", "x" * 129, "x" * 10_240],
)  # fmt: skip
def test_no_ids(external_id):
    with pytest.raises(ValueError, match="an id is"):
        ResourceRef("inquiry", external_id)


@pytest.mark.parametrize("kind", ["inquiry", "verification/selfie", "report/integration/sentilink-scores", "a" * 64])
def test_kinds(kind):
    assert ResourceRef(kind, "1").kind == kind


@pytest.mark.parametrize(
    "kind",
    ["", "/", "a/", "/a", "a//b", "a/b/c/d", "A", "a_b", "a.b", "..", "a/..", "-a", "a b", "a\n", "a%2fb", "a" * 65],
)
def test_no_kinds(kind):
    with pytest.raises(ValueError, match="a kind is"):
        ResourceRef(kind, "1")


@given(st.text(max_size=140))
def test_whatever_is_an_id_cannot_steer_a_path(external_id):
    try:
        ResourceRef("inquiry", external_id)
    except ValueError:
        return
    assert external_id.isascii()
    assert not set(external_id) & set("/.%?#\\ \t\r\n")


def test_keys_sort_by_source_kind_and_id():
    keys = [
        ResourceKey("b", ResourceRef("a", "1")),
        ResourceKey("a", ResourceRef("b", "1")),
        ResourceKey("a", ResourceRef("a", "2")),
    ]

    assert sorted(keys) == keys[::-1]
