"""The reference of the HTTP API has the routes, fields and problems of the code."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.server.bodies import RunBody
from gateway.server.native import make_face
from gateway.server.problems import KINDS, REFUSALS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "http.md").read_text(encoding="utf-8")
PAGES = {"/", "/assets/{name}"}  # for people


def read_rows(heading: str) -> list[list[str]]:
    part = re.split(r"^#+ ", PAGE, flags=re.MULTILINE)
    (section,) = [text for text in part if text.startswith(f"{heading}\n")]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:1] == "|"
    ]
    return rows[2:]


def test_every_route_is_there_with_its_scope() -> None:
    told = {(row[0], row[1].strip("`"), row[2]) for row in read_rows("HTTP API")}
    routes = {(r.method, r.template, r.scope.value if r.scope else "none") for r in make_face().routes}
    routes = {route for route in routes if route[1] not in PAGES}
    assert told == routes


def test_every_field_of_a_task_is_there() -> None:
    assert [row[0].strip("`") for row in read_rows("A task")] == list(RunBody.model_fields)


def test_every_problem_is_there() -> None:
    told = {(row[0].removeprefix("`/problems/").strip("`"), int(row[1])) for row in read_rows("Problems")}
    assert told == {(kind.slug, kind.status) for kind in (*KINDS.values(), *REFUSALS)}
