"""Files in a task's input: always said with `File`, never guessed from a string."""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from gateway.errors import InvalidInput
from gateway.types import JSON

_MARK = "$file"
_KIND = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # what a header can hold


@dataclass(frozen=True, slots=True)
class File:
    """A file for a model: exactly one of a path, bytes, or a data URI.

    Inside an input it stands where the file is meant. Nothing else in an input is ever taken for a file.

    Attributes:
        path: a file of this machine; read when the task is prepared for a backend.
        data: the bytes themselves.
        uri: a data URI ("data:image/png;base64,..." with or without parameters).
        filename: as the backend shall see it; the path's own name if absent.
        content_type: guessed from the name if absent.
    """

    path: str | Path | None = None
    data: bytes | None = None
    uri: str | None = None
    filename: str | None = None
    content_type: str | None = None

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.path, self.data, self.uri)) != 1:
            raise InvalidInput("a File has exactly one of path, data and uri")
        if self.uri is not None and not self.uri.startswith("data:"):
            raise InvalidInput(
                "File(uri=...) takes a data URI; a web address is an ordinary string of the input"
            )

    @property
    def name(self) -> str:
        """Return the filename to tell the backend."""
        return self.filename or (Path(self.path).name if self.path is not None else "file")

    def load(self) -> tuple[bytes, str]:
        """Read the bytes and say their content type. Raises InvalidInput if either can't be."""
        data, kind = self._load()
        if not _KIND.fullmatch(kind):
            raise InvalidInput(f"{kind[:80]!r} is no content type: it stands in a header, in printable ASCII")
        return data, kind

    def _load(self) -> tuple[bytes, str]:
        if self.uri is not None:
            return self._parse_data_uri(self.uri)
        guessed = self.content_type or mimetypes.guess_type(self.name)[0] or "application/octet-stream"
        if self.data is not None:
            return self.data, guessed
        try:
            return Path(str(self.path)).read_bytes(), guessed
        except OSError as error:
            raise InvalidInput(f"the file {self.path} can't be read: {error.strerror}") from error

    def _parse_data_uri(self, uri: str) -> tuple[bytes, str]:
        head, comma, body = uri.removeprefix("data:").partition(",")
        if not comma:
            raise InvalidInput("a data URI needs a comma before its data")
        is_base64 = head.endswith(";base64")
        kind = head.removesuffix(";base64")
        kind = kind if kind and not kind.startswith(";") else f"text/plain{kind}"  # RFC 2397's default
        try:
            data = base64.b64decode(body, validate=True) if is_base64 else unquote_to_bytes(body)
        except ValueError as error:
            raise InvalidInput(f"the data URI of {self.name} is not base64: {error}") from error
        return data, self.content_type or kind


def encode_files(value: JSON) -> JSON:
    """Return the input with each File as a marked object, so that it survives the store.

    Raises InvalidInput for what is neither JSON nor a File.
    """
    try:
        return _encode(value)
    except RecursionError:
        raise InvalidInput("the input is not JSON that could be stored: it is nested too deep") from None


def _encode(value: JSON) -> JSON:
    if isinstance(value, File):
        data = None if value.data is None else base64.b64encode(value.data).decode()
        path = None if value.path is None else str(Path(value.path).absolute())
        fields = {"path": path, "data": data, "uri": value.uri}
        fields |= {"filename": value.filename, "content_type": value.content_type}
        return {_MARK: {name: field for name, field in fields.items() if field is not None}}
    if isinstance(value, dict):
        return {_check_text(name): _encode(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if isinstance(value, str):
        return _check_text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise InvalidInput(f"the input is not JSON: it holds a value of type {type(value).__name__}")


def _check_text(text: object) -> str:
    if not isinstance(text, str):
        raise InvalidInput(f"the input is not JSON: it has {text!r} for a name, which is no text")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"the input has text that is no Unicode: {error}") from error
    return text


def parse_file(value: JSON) -> File | None:
    """Return the File that a marked object stands for, or None if it is not one.

    Raises InvalidInput if it is marked, but stands for none.
    """
    if not _is_marked(value):
        return None
    fields = dict(value[_MARK])
    wrong = [name for name, text in fields.items() if not isinstance(text, str)]
    if wrong:
        raise InvalidInput(f"a {_MARK} object holds texts; {wrong[0]} is none")
    try:
        if "data" in fields:
            fields["data"] = base64.b64decode(fields["data"], validate=True)
        return File(**fields)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"a {_MARK} object has path, data or uri, filename, content_type: {error}"
        ) from error


def _is_marked(value: JSON) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(_MARK), dict)


def has_files(value: JSON) -> bool:
    """Say whether an encoded input holds a file anywhere."""
    if isinstance(value, dict):
        return _is_marked(value) or any(map(has_files, value.values()))
    return isinstance(value, list) and any(map(has_files, value))


def has_paths(value: JSON) -> bool:
    """Say whether an encoded input means a file of this machine. Raises InvalidInput, as parse_file."""
    if isinstance(value, dict):
        file = parse_file(value)
        return any(map(has_paths, value.values())) if file is None else file.path is not None
    return isinstance(value, list) and any(map(has_paths, value))


async def replace_files(value: JSON, replacement: Callable[[File], Awaitable[JSON]]) -> JSON:
    """Return the input with each file replaced by what `replacement` gives for it (an uploaded URI)."""
    file = parse_file(value)
    if file is not None:
        return await replacement(file)
    if isinstance(value, dict):
        return {name: await replace_files(item, replacement) for name, item in value.items()}
    if isinstance(value, list):
        return [await replace_files(item, replacement) for item in value]
    return value
