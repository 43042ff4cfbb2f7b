"""What every error answer of the API must look like."""


def assert_problem(answer, status, *, words=""):
    """An RFC 9457 problem document with this status, whose detail holds `words`."""
    document = answer.get_json(force=True)
    assert answer.status_code == status, document
    assert answer.content_type == "application/problem+json"
    assert document.keys() >= {"type", "title", "status", "detail", "instance"}
    assert document["status"] == status
    assert document["instance"] == answer.request.path
    assert words in document["detail"]
    return document
