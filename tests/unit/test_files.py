"""A file is what is said to be one, and nothing else ever is."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidInput
from gateway.files import File, encode_files, has_files, parse_file, replace_files
from gateway.types import JSON

pytestmark = pytest.mark.anyio

words = st.text(st.characters(codec="utf-8"), max_size=12)
likely = st.sampled_from(
    ["/etc/passwd", "file:///etc/passwd", "data:text/plain,x", "$file", "https://a.test/b.png"]
)
leaves = st.none() | st.booleans() | st.integers() | words | likely
keys = words | st.sampled_from(["$file", "path", "data", "uri", "filename"])


def nest(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)


def is_marked(value: JSON) -> bool:
    """Say it as docs do: an object whose only name is $file, and whose value is an object."""
    return isinstance(value, dict) and list(value) == ["$file"] and isinstance(value["$file"], dict | File)


def holds_marked(value: JSON) -> bool:
    if is_marked(value):
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(holds_marked(item) for item in inner)


plain = st.recursive(leaves, nest).filter(lambda value: not holds_marked(value))
files = st.one_of(
    st.builds(lambda data, name: File(data=data, filename=name), st.binary(), st.none() | words),
    st.builds(lambda name: File(path=f"/tmp/{name}"), st.from_regex(r"[a-z]{1,8}\.png", fullmatch=True)),
    st.builds(lambda data: File(uri=f"data:;base64,{base64.b64encode(data).decode()}"), st.binary()),
)


async def refuse(file: File) -> JSON:
    raise AssertionError(f"{file} was taken for a file")


@given(plain)
async def test_nothing_but_a_marked_object_is_ever_a_file(value: JSON) -> None:
    assert encode_files(value) == value
    assert not has_files(value)
    assert parse_file(value) is None
    assert await replace_files(value, refuse) == value


@given(st.recursive(leaves | files, nest).filter(lambda value: not holds_marked(value)))
async def test_each_file_is_replaced_by_what_it_became_and_nothing_else(value: JSON) -> None:
    seen: list[File] = []

    def list_files(part: JSON) -> list[File]:
        inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        return [part] if isinstance(part, File) else [file for item in inner for file in list_files(item)]

    def expect(part: JSON) -> JSON:
        if isinstance(part, File):
            return {"was": part.name}
        if isinstance(part, dict):
            return {name: expect(item) for name, item in part.items()}
        return [expect(item) for item in part] if isinstance(part, list) else part

    async def upload(file: File) -> JSON:
        seen.append(file)
        return {"was": file.name}

    stored = json.loads(json.dumps(encode_files(value)))
    assert has_files(stored) is bool(list_files(value))
    assert await replace_files(stored, upload) == expect(value)
    assert [file.name for file in seen] == [file.name for file in list_files(value)]
    assert [file.data for file in seen] == [file.data for file in list_files(value)]


@given(files)
def test_a_file_survives_the_store(file: File) -> None:
    again = parse_file(json.loads(json.dumps(encode_files(file))))
    assert again == (File(path=str(file.path)) if file.path else file)


@pytest.mark.parametrize(
    "sources",
    [
        {},
        {"path": "a", "data": b"b"},
        {"path": "a", "uri": "data:,x"},
        {"data": b"", "uri": "data:,x"},
        {"path": "a", "data": b"b", "uri": "data:,x"},
        {"filename": "a"},
    ],
)
def test_a_file_has_exactly_one_source(sources: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="exactly one of path, data and uri"):
        File(**sources)
    assert File(data=b"").load() == (b"", "application/octet-stream")


@pytest.mark.parametrize("uri", ["https://a.test/b.png", "file:///etc/passwd", "", "DATA"])
def test_a_web_address_is_no_data_uri(uri: str) -> None:
    with pytest.raises(InvalidInput, match="takes a data URI"):
        File(uri=uri)


@pytest.mark.parametrize(
    ("uri", "data", "kind"),
    [
        ("data:,hello%20w%C3%B6rld", "hello wörld".encode(), "text/plain"),
        ("data:text/html,<b>", b"<b>", "text/html"),
        ("data:image/png;base64,AAEC", b"\x00\x01\x02", "image/png"),
        ("data:text/plain;charset=utf-8;base64,aGk=", b"hi", "text/plain;charset=utf-8"),
        ("data:image/png;name=a,b;base64,AAEC", b"b;base64,AAEC", "image/png;name=a"),
        ("data:;base64,aGk=", b"hi", "text/plain"),
        ("data:;charset=utf-8,hi", b"hi", "text/plain;charset=utf-8"),
        ("data:,", b"", "text/plain"),
        ("data:text/plain,base64,aGk=", b"base64,aGk=", "text/plain"),
    ],
)
def test_data_uris(uri: str, data: bytes, kind: str) -> None:
    assert File(uri=uri).load() == (data, kind)
    assert File(uri=uri, content_type="x/y").load() == (data, "x/y")


@given(st.binary(), st.sampled_from(["", "image/png", "text/plain;charset=utf-8"]))
def test_bytes_survive_a_data_uri(data: bytes, kind: str) -> None:
    uri = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    assert File(uri=uri).load() == (data, kind or "text/plain")


@pytest.mark.parametrize("kind", ["text/plain\r\nx-other: y", "text/plain\n", "text/пл", "a/b\x00", " "])
def test_what_no_header_can_hold_is_no_content_type(kind: str) -> None:
    for file in (File(data=b"x", content_type=kind), File(uri=f"data:a{kind};base64,eA==")):
        with pytest.raises(InvalidInput, match="no content type"):
            file.load()


@pytest.mark.parametrize(
    "uri",
    ["data:", "data:image/png;base64", *(f"data:;base64,{body}" for body in ("a", "%%%", "ü", "a b="))],
)
def test_a_broken_data_uri_is_said(uri: str) -> None:
    with pytest.raises(InvalidInput, match="data URI"):
        File(uri=uri).load()


def test_a_path_is_read_when_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    file = File(path=path)
    with pytest.raises(InvalidInput, match=r"cat\.png can't be read: No such file"):
        file.load()
    path.write_bytes(b"meow")
    assert file.load() == (b"meow", "image/png")
    assert file.name == "cat.png"
    assert File(path=path, filename="dog.txt").load() == (b"meow", "text/plain")
    with pytest.raises(InvalidInput, match="can't be read"):
        File(path=tmp_path).load()


def test_a_relative_path_means_the_folder_of_who_said_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stored = encode_files({"image": File(path="cat.png")})
    monkeypatch.chdir("/")
    assert stored == {"image": {"$file": {"path": str(tmp_path / "cat.png")}}}


@pytest.mark.parametrize(
    "inside",
    [
        {},
        {"path": 5},
        {"path": None},
        {"path": ["a"]},
        {"data": 5},
        {"data": "no base64!"},
        {"data": "ü"},
        {"path": "a", "data": "aGk="},
        {"path": "a", "what": "b"},
        {"uri": "https://a.test/b"},
        {"path": "a", "filename": 7},
        {"data": "aGk=", "content_type": {}},
    ],
)
async def test_a_marked_object_that_is_no_file_is_refused(inside: JSON) -> None:
    marked = {"$file": inside}
    with pytest.raises(InvalidInput):
        parse_file(marked)
    with pytest.raises(InvalidInput):
        await replace_files({"a": [marked]}, refuse)
    assert has_files({"a": [marked]})


@pytest.mark.parametrize(
    "value",
    [
        object(),
        b"bytes",
        {1, 2},
        {"a": [object()]},
        {1: "a"},
        {None: 1},
        {b"a": 1},
        "\ud800",
        {"\udfff": 1},
        1j,
    ],
)
def test_an_input_that_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match=r"the input (is not JSON|has text that is no Unicode)"):
        encode_files(value)


def test_tuples_are_lists() -> None:
    assert encode_files({"a": (1, File(data=b"x"))}) == {"a": [1, {"$file": {"data": "eA=="}}]}


def test_an_input_that_is_nested_beyond_all_measure_is_refused() -> None:
    deep: JSON = "the end"
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidInput, match="nested too deep"):
        encode_files(deep)
