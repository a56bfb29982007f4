"""The nodes that UnixFS files are made of: protobuf, written canonically and read strictly.

    PBNode  { 1: Data, 2: repeated PBLink }     links are written before the data
    PBLink  { 1: Hash, 2: Name, 3: Tsize }
    UnixFS  { 1: Type, 2: Data, 3: filesize, 4: repeated blocksizes, 5..8: not ours }

Sources: the specifications of dag-pb and UnixFS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.content.cid import Cid, decode_cid, decode_varint, encode_varint
from gateway.content.errors import BadCid, ContentUnreadable

MOST_LINKS = 10_000
_TYPE_RAW, _TYPE_FILE = 0, 2
_TYPE_NAMES = {1: "a directory", 3: "metadata", 4: "a symbolic link", 5: "a directory"}


@dataclass(frozen=True, slots=True)
class Link:
    """A child: its CID, its DAG's bytes as stored, and how many bytes of the file are in it."""

    cid: Cid
    stored_size: int
    file_size: int


@dataclass(frozen=True, slots=True)
class FileNode:
    """A part of a file: its own bytes, then those of its links in their order. Sizes are in bytes."""

    data: bytes
    links: tuple[Link, ...]
    file_size: int


def encode_leaf_ends(size: int) -> tuple[bytes, bytes]:
    """Make what stands before and after the data in a leaf of `size` bytes, so that data isn't copied."""
    length = encode_varint(size)
    before = b"\x08\x02" + (b"\x12" + length if size else b"")
    after = b"\x18" + length
    return b"\x0a" + encode_varint(len(before) + size + len(after)) + before, after


def encode_parent(links: Sequence[Link]) -> bytes:
    """Write a node that has only children."""
    sizes = b"".join(b"\x20" + encode_varint(link.file_size) for link in links)
    unixfs = b"\x08\x02\x18" + encode_varint(sum(link.file_size for link in links)) + sizes
    return b"".join(map(_encode_link, links)) + b"\x0a" + encode_varint(len(unixfs)) + unixfs


def decode_file_node(block: bytes) -> FileNode:
    """Read a node of a file, its sizes checked against each other. Raises ContentUnreadable."""
    try:
        return _decode_file_node(block)
    except BadCid as error:
        raise ContentUnreadable(f"a block of the file is not a proper node: {error}") from error


def _encode_link(link: Link) -> bytes:
    cid = link.cid.encode()
    body = b"\x0a" + encode_varint(len(cid)) + cid + b"\x12\x00\x18" + encode_varint(link.stored_size)
    return b"\x12" + encode_varint(len(body)) + body


def _decode_file_node(block: bytes) -> FileNode:
    unixfs: bytes | None = None
    links: list[tuple[Cid, int]] = []
    for number, value in _read_fields(block):
        if number == 1 and unixfs is None and isinstance(value, bytes):
            unixfs = value
        elif number == 2 and isinstance(value, bytes) and len(links) < MOST_LINKS:
            links.append(_decode_link(value))
        else:
            raise ContentUnreadable(
                f"a node has an unexpected field {number}, or more than {MOST_LINKS} links"
            )
    if unixfs is None:
        raise ContentUnreadable("a node without UnixFS data is no part of a file")
    data, file_size, sizes = _decode_unixfs(unixfs)
    if len(sizes) != len(links) or (links and 0 in sizes):
        raise ContentUnreadable("a node's block sizes do not fit its links")
    if file_size != len(data) + sum(sizes):
        raise ContentUnreadable("a node's file size is not the sum of its parts")
    joined = (Link(cid, stored, size) for (cid, stored), size in zip(links, sizes, strict=True))
    return FileNode(data, tuple(joined), file_size)


def _decode_link(body: bytes) -> tuple[Cid, int]:
    cid, stored_size = None, 0
    for number, value in _read_fields(body):
        if number == 1 and isinstance(value, bytes):
            cid, end = decode_cid(value)
            if end != len(value):
                raise ContentUnreadable("a link has bytes after its CID")
        elif number == 3 and isinstance(value, int):
            stored_size = value
        elif number != 2:
            raise ContentUnreadable(f"a link has an unexpected field {number}")
    if cid is None:
        raise ContentUnreadable("a link without a CID")
    return cid, stored_size


def _decode_unixfs(body: bytes) -> tuple[bytes, int, list[int]]:
    kind, data, sizes = -1, b"", []
    file_size: int | None = None
    for number, value in _read_fields(body):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and isinstance(value, bytes):
            data = value
        elif number == 3 and isinstance(value, int):
            file_size = value
        elif number == 4:
            sizes += [value] if isinstance(value, int) else _unpack_varints(value)
        elif number not in (5, 6, 7, 8):
            raise ContentUnreadable(f"UnixFS data has an unexpected field {number}")
    if kind not in (_TYPE_RAW, _TYPE_FILE):
        raise ContentUnreadable(f"this is {_TYPE_NAMES.get(kind, 'of an unknown type')}, not a file")
    return data, len(data) + sum(sizes) if file_size is None else file_size, sizes


def _unpack_varints(packed: bytes) -> list[int]:
    numbers, at = [], 0
    while at < len(packed):
        number, at = decode_varint(packed, at)
        numbers.append(number)
    return numbers


def _read_fields(body: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of varint and length-delimited fields; these have no other."""
    at = 0
    while at < len(body):
        tag, at = decode_varint(body, at)
        value, at = decode_varint(body, at)
        if tag & 7 == 0:
            yield tag >> 3, value
        elif tag & 7 == 2 and at + value <= len(body):
            yield tag >> 3, body[at : at + value]
            at += value
        else:
            raise ContentUnreadable("a field is of an unexpected type or cut off")
