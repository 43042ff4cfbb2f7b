"""What each type of sink wants of its settings, all in one message, and nothing secret in it."""

import base64

import pytest

from worker.errors import ConfigurationError
from worker.settings import load, summary

SECRET = "whsec_" + base64.b64encode(b"canary-canary-canary-canary").decode()
WEBHOOK = {
    "TYPE": "webhook",
    "URL": "https://hooks.example/canary?key=canary",
    "SECRETS": SECRET,
}
CELERY = {"TYPE": "celery", "TASK": "billing.on_event", "BROKER_URL": "amqp://user:canary@broker//"}
FILE = {"TYPE": "file", "PATH": "/var/log/events.jsonl"}


def environ(values):
    return {f"VERISINK_SINKS__A__{key}": value for key, value in values.items() if value is not None}


def sink(values, directory):
    return load(environ(values), directory).sinks["a"]


def problem(values, directory):
    with pytest.raises(ConfigurationError) as refusal:
        load(environ(values), directory)
    [said] = refusal.value.problems
    assert "canary" not in said
    return said


@pytest.mark.parametrize("values", [WEBHOOK, CELERY, {**CELERY, "QUEUE": "billing"}, FILE, {**FILE, "PATH": "-"}])
def test_what_is_enough(values, tmp_path):
    assert sink(values, tmp_path).type == values["TYPE"]


def test_secrets_are_a_list_and_may_be_in_a_file(tmp_path):
    (tmp_path / "secrets").write_text(f"{SECRET},{SECRET}\n")
    found = sink({**WEBHOOK, "SECRETS": None, "SECRETS_FILE": str(tmp_path / "secrets")}, tmp_path)

    assert [secret.get_secret_value() for secret in found.secrets] == [SECRET, SECRET]
    assert found.timeout_seconds == 15


PUBLIC = "url leads to an address that is not public, unless allow_private is set"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"URL": None}, "url is required"),
        ({"SECRETS": None}, "secrets is required"),
        ({"SECRETS": "canary"}, "secrets must each be whsec_"),
        ({"SECRETS": "whsec_canary"}, "secrets must each be whsec_"),
        ({"SECRETS": "whsec_" + base64.b64encode(b"x" * 23).decode()}, "24 to 64 random bytes"),
        ({"SECRETS": "whsec_" + base64.b64encode(b"x" * 65).decode()}, "24 to 64 random bytes"),
        ({"SECRETS": ",".join([SECRET] * 5)}, "holds more than 4"),
        ({"URL": "http://hooks.example/"}, "url must use https, unless allow_http is set"),
        ({"URL": "ftp://hooks.example/"}, "must be an https URL"),
        ({"URL": "https:///canary"}, "must be an https URL"),
        ({"URL": "https://hooks.example:canary/"}, "must be an https URL"),
        ({"URL": "https://[::1/"}, "must be an https URL"),
        ({"URL": "https://hooks.example/\\@10.0.0.1"}, "must be an https URL"),
        ({"URL": "https://bücher.example/"}, "is written as xn--"),
        ({"URL": "https://\uff11\uff12\uff17.0.0.1/"}, "is written as xn--"),
        ({"URL": "https://hooks.example/a b"}, "must be an https URL"),
        ({"URL": "https://hooks.example./"}, "without a dot at the end"),
        ({"URL": "https://canary:canary@hooks.example/"}, "must not hold a user name"),
        ({"URL": "https://hooks.example/#canary"}, "or a fragment"),
        *(
            ({"URL": f"https://{host}/"}, PUBLIC)
            for host in (
                "localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "10.1.2.3",
                "169.254.169.254", "0.0.0.0",  # noqa: S104
                "[::1]", "[::ffff:127.0.0.1]", "[fd00::1]", "[64:ff9b::7f00:1]",
            )
        ),
        ({"URL": "https://169.254.169.254/", "ALLOW_PRIVATE": "true"}, "an address that no receiver has"),
        ({"URL": "https://134744072/"}, "must spell its address plainly, as 8.8.8.8"),
        ({"STREAM": "x"}, "stream: not used by a sink of type webhook"),
        ({"TIMEOUT_SECONDS": "61"}, "less than or equal to 60"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_webhook_is_said_at_the_start(change, said, tmp_path):
    assert said in problem({**WEBHOOK, **change}, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"URL": "http://127.0.0.1:8000/", "ALLOW_PRIVATE": "true"},
        {"URL": "https://10.0.0.1/", "ALLOW_PRIVATE": "true"},
        {"URL": "http://hooks.example/", "ALLOW_HTTP": "true"},
        {"URL": "https://xn--bcher-kva.example:8443/x"},
        {"URL": "https://8.8.8.8/"},
    ],
)
def test_what_is_allowed(change, tmp_path):
    assert sink({**WEBHOOK, **change}, tmp_path)


def test_all_that_is_wrong_is_in_one_message(tmp_path):
    said = problem({**WEBHOOK, "URL": "http://canary@10.0.0.1/", "SECRETS": "canary"}, tmp_path)

    assert said.count("; ") == 3


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"TYPE": "celery"}, "task is required; broker_url is required"),
        ({**CELERY, "BROKER_URL": "sqs://canary"}, "broker_url must begin with redis://"),
        ({**CELERY, "SECRETS": SECRET}, "secrets: not used by a sink of type celery"),
        ({"TYPE": "file"}, "path is required"),
        ({**FILE, "PATH": "events.jsonl"}, "the whole path of a file"),
        ({**FILE, "PATH": "/var/log/"}, "the whole path of a file"),
    ],
)
def test_what_is_wrong_with_the_others_is_said(values, said, tmp_path):
    assert said in problem(values, tmp_path)


def test_the_summary_shows_no_secret(tmp_path):
    shown = [summary(load(environ(values), tmp_path)) for values in (WEBHOOK, CELERY)]

    assert "canary" not in str(shown)
    webhook, celery = (each["sinks"]["a"] for each in shown)  # type: ignore[index]
    assert (webhook["url"], webhook["secrets"]) == ("https://hooks.example/…", "1 set")
    assert celery["broker_url"] == "amqp://broker//"
