"""`/api/v1/docs`: the page, as a real browser shows it without reaching anything but this server."""

import re

import pytest

from tests.api.problems import assert_problem
from tests.support import browser
from tests.support.raw_http import RunningServer, Served
from web.api import description


class Api(Served):
    def __init__(self, flask):
        self.flask = flask


@pytest.fixture
def server(detached):
    with RunningServer(Api(detached.application), lambda _path: 0) as running:
        yield running


def shown(server, folder):
    return browser.load(f"http://127.0.0.1:{server.port}/api/v1/docs", folder)


@pytest.mark.browser
def test_a_browser_shows_every_operation_and_complains_of_nothing(server, detached, tmp_path):
    document = detached.get("/api/v1/openapi.json").get_json()
    operations = {item["operationId"] for path in document["paths"].values() for item in path.values()}

    page = shown(server, tmp_path)

    assert set(re.findall(r'id="operations-(?!tag-)[a-z]+-([a-z_]+)"', page.html)) == operations
    assert page.complaints == []


@pytest.mark.browser
def test_a_browser_runs_nothing_that_is_not_ours(server, tmp_path, monkeypatch):
    """The same page with a script in it, as if somebody's text had become one."""
    page = description._file(*description.PAGE[:2])
    evil = page.replace(b"</body>", b"<script>document.title='taken'</script><img src=//example.org/x></body>")
    monkeypatch.setattr(description, "_file", lambda *path: evil if path == description.PAGE[:2] else b"")

    found = shown(server, tmp_path)

    assert "taken</title>" not in found.html
    assert len([line for line in found.complaints if "Content Security Policy" in line]) == 2


def test_what_the_page_loads_is_there(detached):
    page = detached.get("/api/v1/docs")

    assert page.mimetype == "text/html"
    for name in re.findall(r'(?:src|href)="docs/([^"]+)"', page.text):
        asset = detached.get(f"/api/v1/docs/{name}")
        assert asset.status_code == 200
        assert asset.mimetype == {"js": "text/javascript", "css": "text/css"}[name.rsplit(".")[-1]]
        assert b"sourceMappingURL" not in asset.data[-200:]
        assert asset.headers["Content-Security-Policy"] == page.headers["Content-Security-Policy"]


@pytest.mark.parametrize("name", ["docs.html", "..%2f__init__.py", "swagger-ui.js", "%2fetc%2fpasswd", ""])
def test_nothing_else_of_the_packages_is_served(detached, name):
    assert_problem(detached.get(f"/api/v1/docs/{name}"), 404)


def test_neither_page_nor_document_needs_a_token(detached):
    for path in ("docs", "docs/docs.js", "openapi.json"):
        assert detached.get(f"/api/v1/{path}", environ_base={"HTTP_AUTHORIZATION": ""}).status_code == 200
