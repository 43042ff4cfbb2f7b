"""One way to read a body, or none."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.clock import monotonic
from worker.domain.strict_json import (
    MAX_DEPTH,
    _parse_slowly,
    canonical,
    member,
    number,
    objects,
    parse,
    parse_object,
    strings,
    text,
)
from worker.errors import UnreadableJson

ORDINARY = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**200), 10**200) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b" \n", "not JSON", id="blank"),
        pytest.param(b"\xff\xfe{\x00}\x00", "not UTF-8", id="UTF-16"),
        pytest.param(b'{"a": "\xe9"}', "not UTF-8", id="Latin-1"),
        pytest.param(b'{"a": "\xed\xa0\x80"}', "not UTF-8", id="surrogate in UTF-8"),
        pytest.param(b'{"a": "\xc0\x80"}', "not UTF-8", id="overlong NUL"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}', "byte order mark", id="BOM"),
        pytest.param(b'{"a": 1, "a": 1}', "same key twice", id="duplicate key"),
        pytest.param(b'{"a": 1, "\\u0061": 2}', "same key twice", id="duplicate key, escaped"),
        pytest.param(b'[{"b": {"a": 1, "a": 2}}]', "same key twice", id="duplicate key, inside"),
        pytest.param(b"NaN", "NaN", id="NaN"),
        pytest.param(b'{"a": Infinity}', "infinity", id="Infinity"),
        pytest.param(b"[-Infinity]", "infinity", id="-Infinity"),
        pytest.param(b"1e400", "too large", id="1e400"),
        pytest.param(b"-1e400", "too large", id="-1e400"),
        pytest.param(b"9" * 5000, "too large", id="5000 digits"),
        pytest.param(b"9" * 5000 + b".5", "too large", id="5000 digits and a fraction"),
        pytest.param(b'{"a": 1} {"a": 2}', "not JSON", id="two values"),
        pytest.param(b'{"a": 1}\x00', "not JSON", id="NUL behind"),
        pytest.param(b'{"a": "\x00"}', "not JSON", id="raw control character"),
        pytest.param(b"{'a': 1}", "not JSON", id="single quotes"),
        pytest.param(b'{"a": 01}', "not JSON", id="leading zero"),
        pytest.param(b'{"a": 1,}', "not JSON", id="trailing comma"),
        pytest.param(b'{"a": 1} // why', "not JSON", id="comment"),
        pytest.param(b'{"name": "Ma', "not JSON", id="cut"),
    ],
)
def test_refused(body, reason):
    with pytest.raises(UnreadableJson, match=reason):
        parse(body)


def test_a_reason_quotes_nothing_of_the_body():
    with pytest.raises(UnreadableJson) as refusal:
        parse(b'{"name": "Maria", "name": "Maria", oops}')

    assert "Maria" not in str(refusal.value)
    assert "oops" not in str(refusal.value)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":', b'"\\"",['])
def test_a_hundred_thousand_brackets_are_refused_at_once(opening):
    started = monotonic()
    with pytest.raises(UnreadableJson):
        parse(opening * 100_000)

    assert monotonic() - started < 1


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_has_an_end(opening, closing):
    parse(opening * MAX_DEPTH + b"1" + closing * MAX_DEPTH)

    with pytest.raises(UnreadableJson, match=f"deeper than {MAX_DEPTH}"):
        parse(opening * (MAX_DEPTH + 1) + b"1" + closing * (MAX_DEPTH + 1))


def test_brackets_in_strings_and_side_by_side_are_no_depth():
    parse(b'["' + b"[" * 1000 + b'\\"' + b"{" * 1000 + b'"]')
    parse(b"[" + b"[]," * 1000 + b"{}]")


def test_a_ten_megabyte_picture_among_many_brackets_is_read_at_once():
    body = b'{"image": "' + b"x" * 10_000_000 + b'", "frames": [' + b"{}," * 100 + b"{}]}"
    started = monotonic()

    assert len(str(member(parse(body), "image"))) == 10_000_000
    assert monotonic() - started < 1


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'"\\ud800"', "\ud800"),
        (b'"\\u0000"', "\x00"),
        (b'{"a\\u0000": "\\ud83d"}', {"a\x00": "\ud83d"}),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b" \t\r\n[1] \n", [1]),
        (b"9" * 300, int("9" * 300)),
        (b"-0", 0),
        (b"1e-400", 0.0),
    ],
)
def test_legal_oddities_pass(body, value):
    assert parse(body) == value


@given(ORDINARY)
@example({"": ""})
def test_ordinary_json_is_read_as_the_standard_library_reads_it(value):
    for ensure_ascii in (True, False):
        try:
            body = json.dumps(value, ensure_ascii=ensure_ascii).encode()
        except UnicodeEncodeError:
            continue
        assert parse(body) == json.loads(body) == value


@given(st.binary(max_size=60) | st.text(alphabet='[]{}",:\\u0d8e1-.+Ee truefalsn\ufeff', max_size=60).map(str.encode))
def test_nothing_else_is_ever_raised(body):
    try:
        value = parse(body)
    except UnreadableJson:
        return
    assert value == json.loads(body)


TOKENS = (
    "{", "}", "[", "]", ",", ":", " ", '"a"', '"b"', '"\\u0061"', '"\\ud800"', '"é"', '""', '":"', "null", "true",
    "NaN", "1", "-0", "-0.0", "1.0", "1e5", "1E400", "1e300", "9" * 19, "9" * 400, "18446744073709551616",
)  # fmt: skip


def written(pieces):
    """JSON or nearly so, in which a key may stand twice and a number be odd."""
    scalar = st.sampled_from([piece for piece in TOKENS if piece not in "{}[],: "])
    inner = st.recursive(
        scalar,
        lambda value: (
            st.lists(value, max_size=3).map(lambda items: f"[{','.join(items)}]")
            | st.lists(st.tuples(st.sampled_from(['"a"', '"b"', '"\\u0061"', '":"']), value), max_size=3).map(
                lambda members: "{" + ",".join(f"{key}:{item}" for key, item in members) + "}"
            )
        ),
        max_leaves=12,
    )
    return inner | st.lists(pieces, max_size=12).map("".join)


@given(written(st.sampled_from(TOKENS)).map(str.encode))
@example(b'{"a":1,"a":1}')
@example(b'[{"b":{"\\u0061":1,"a":2}}]')
@example(b"18446744073709551616")
@example(b"[-9223372036854775809]")
@example(b"-0")
@example(b"1e400")
@example(b'"\xed\xa0\x80"')
@example(b"\xef\xbb\xbf[]")
def test_the_quick_way_and_the_strict_one_agree(body):
    def outcome(read):
        try:
            # As text, 1 and 1.0 and true differ, and so do 0.0 and -0.0.
            return repr(read(body))
        except UnreadableJson as refusal:
            return str(refusal)

    assert outcome(parse) == outcome(_parse_slowly)


@given(ORDINARY)
def test_equal_values_have_one_canonical_form(value):
    def reversed_keys(item):
        if isinstance(item, dict):
            return {name: reversed_keys(item[name]) for name in reversed(item)}
        return [reversed_keys(inner) for inner in item] if isinstance(item, list) else item

    assert canonical(value) == canonical(reversed_keys(value))
    assert json.loads(canonical(value)) == value


def without_exponents(value):
    if isinstance(value, dict):
        return {name: without_exponents(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_exponents(item) for item in value]
    return 7 if isinstance(value, float) and "e" in repr(value) else value


PLAIN_FLOATS = st.floats(1e-4, 1e16, exclude_max=True) | st.floats(-1e16, -1e-4, exclude_min=True)


@given(ORDINARY | PLAIN_FLOATS)
@example({"b": "\x7f\x80\u20ac\x1f\n/\\", "a": [2**64, -(2**63), None, True], "\u20ac": {}})
@example([0.0, -0.0, 1e-4, 9999999999999998.0, 100.0, 0.1 + 0.2, 1e16, 1e-5])
def test_what_is_written_faster_is_the_same(value):
    plain = without_exponents(value)

    assert canonical(plain, exponents=False) == canonical(plain)


def test_canonical_takes_what_parse_lets_through():
    assert canonical(parse(b'{"b": "\\ud800", "a": "\\u0000"}')) == b'{"a":"\\u0000","b":"\\ud800"}'


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"null"])
def test_a_document_is_an_object(body):
    with pytest.raises(UnreadableJson, match="not an object"):
        parse_object(body)
    assert parse_object(b"{}") == {}


def test_looking_into_a_value_never_raises():
    value = parse(b'{"a": {"b": "x", "e": ""}, "n": 1.5, "t": true, "l": [{"i": 1}, "s", 2]}')

    assert (member(value, "a", "b"), member(value, "a", "z", "b"), member(value, "l", "0")) == ("x", None, None)
    assert (text(value, "a", "b"), text(value, "a", "e"), text(value, "n")) == ("x", None, None)
    assert (number(value, "n"), number(value, "t"), number(value, "a")) == (1.5, None, None)
    assert number(10**400) is None
    assert (objects(value, "l"), objects(value, "a")) == ([{"i": 1}], [])
    assert (strings(value, "l"), strings(value, "a")) == (("s",), ())
