"""`verisink show`: all about one resource, and its document only when asked for."""

from tests.support.results import ERASED, KIND, SOURCE, fail, key, number_events, reading, receive, store, want

ONE = ("show", SOURCE, KIND, "ver_1")


def test_a_resource_is_shown_whole(shell, database):
    receive(database, key("ver_1"))
    store(database, key("ver_1"), content={"name": "personal"})
    number_events(database)

    found = shell.json(*ONE)

    assert (found["resource"]["state"], found["result"]["outcome"]) == ("settled", "approved")
    assert [check["name"] for check in found["result"]["checks"]] == ["liveness"]
    assert [len(found[name]) for name in ("versions", "attempts", "deliveries", "events")] == [1, 1, 1, 2]


def test_the_document_is_personal_and_printed_on_demand(shell, database):
    store(database, key("ver_1"), content={"name": "personal"})

    assert "personal" not in shell.run(*ONE).stdout
    assert "personal" in shell.run(*ONE, "--document").stdout
    without, whole = shell.json(*ONE), shell.json(*ONE, "--document")
    assert "document" not in without["result"]
    assert "details" not in without["result"]["checks"][0]
    assert whole["result"]["document"] == {"name": "personal"}
    assert whole["result"]["checks"][0]["details"] == {"frames": 3}


def test_tables_say_what_happened(shell, database):
    store(database, key("ver_1"))
    fail(database, key("ver_1"))
    number_events(database)

    output = shell.run(*ONE).stdout

    for words in ("parked", "rejected", "approved", "liveness", "clear", "verification.retrieval.parked", "400"):
        assert words in output


def test_a_resource_without_a_result_is_shown(shell, database):
    want(database, key("ver_1"))

    assert "no result yet" in shell.run(*ONE).stdout
    assert shell.json(*ONE)["result"] is None


def test_an_erased_result_is_shown(shell, database):
    store(database, key("ver_1"), content={"name": "personal"})
    store(database, key("ver_1"), reading(ERASED, checks=(), reference=None), {"redacted": True})

    output = shell.run(*ONE, "--document").stdout

    assert "erased" in output
    assert "personal" not in output


def test_what_nobody_asked_for_is_not_found(shell):
    result = shell.run(*ONE)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "nobody ever asked" in result.stderr
