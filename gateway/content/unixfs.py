"""Files as UnixFS DAGs: build their CIDs while the bytes stream by, and read them back block by block.

The same bytes have different CIDs under different import settings; a `Profile` names the settings. The two
ratified profiles are those of IPIP-499; the third is what Kubo does when only version 1 is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.content.cid import DAG_PB, RAW, Cid
from gateway.content.dagpb import FileNode, Link, decode_file_node, encode_leaf_ends, encode_parent
from gateway.content.errors import BadCid, ContentTooLarge, ContentUnreadable

DEEPEST = 32
"""Levels of a DAG that are read."""

BlockSink = Callable[[Cid, bytes], None]


@dataclass(frozen=True, slots=True)
class Profile:
    """How a file is cut and linked: a balanced tree, all leaves at the same depth.

    Attributes:
        name: for messages and records.
        chunk_bytes: of each leaf but the last.
        width: links per node.
        raw_leaves: leaves are plain bytes, not nodes.
        version: of the CIDs; a single raw leaf is always of version 1.
    """

    name: str
    chunk_bytes: int
    width: int
    raw_leaves: bool
    version: int


V0_2015 = Profile("unixfs-v0-2015", 262_144, 174, raw_leaves=False, version=0)
V1_2025 = Profile("unixfs-v1-2025", 1_048_576, 1024, raw_leaves=True, version=1)
V1_KUBO = Profile("kubo-cid-version-1", 262_144, 174, raw_leaves=True, version=1)
PROFILES = (V1_2025, V0_2015, V1_KUBO)
"""Those that unknown content is tried with, ours first."""


class Builder:
    """Computes the CID of a file that comes in pieces; holds one chunk and the links, never the file."""

    def __init__(self, profile: Profile = V1_2025, sink: BlockSink | None = None) -> None:
        """Begin an empty file. `sink` is given each block with its CID, children before parents."""
        self._profile = profile
        self._sink = sink
        self._pending = bytearray()
        self._levels: list[list[Link]] = [[]]

    def update(self, data: bytes | memoryview) -> None:
        """Append bytes to the file."""
        view, chunk = memoryview(data), self._profile.chunk_bytes
        if self._pending:
            missing = chunk - len(self._pending)
            self._pending += view[:missing]
            view = view[missing:]
            if len(self._pending) == chunk:
                self._add_leaf(memoryview(bytes(self._pending)))
                self._pending.clear()
        whole = len(view) - len(view) % chunk
        for at in range(0, whole, chunk):
            self._add_leaf(view[at : at + chunk])
        self._pending += view[whole:]

    def finish(self) -> Cid:
        """End the file and return its CID."""
        is_empty = self._levels == [[]]
        if self._pending or is_empty:
            self._add_leaf(memoryview(bytes(self._pending)))
            self._pending.clear()
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) > 1:
            if self._levels[level]:
                self._close_parent(level)
            level += 1
        return self._levels[level][0].cid

    def _add_leaf(self, chunk: memoryview) -> None:
        before, after = (b"", b"") if self._profile.raw_leaves else encode_leaf_ends(len(chunk))
        hashed = hashlib.sha256(before)
        hashed.update(chunk)
        hashed.update(after)
        cid = self._name(hashed.digest(), RAW if self._profile.raw_leaves else DAG_PB)
        if self._sink is not None:
            self._sink(cid, before + bytes(chunk) + after)
        self._push(0, Link(cid, len(before) + len(chunk) + len(after), len(chunk)))

    def _push(self, level: int, link: Link) -> None:
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(link)
        if len(self._levels[level]) == self._profile.width:
            self._close_parent(level)

    def _close_parent(self, level: int) -> None:
        links = self._levels[level]
        block = encode_parent(links)
        cid = self._name(hashlib.sha256(block).digest(), DAG_PB)
        if self._sink is not None:
            self._sink(cid, block)
        stored = len(block) + sum(link.stored_size for link in links)
        self._levels[level] = []
        self._push(level + 1, Link(cid, stored, sum(link.file_size for link in links)))

    def _name(self, digest: bytes, codec: int) -> Cid:
        return Cid(codec, digest, version=1 if codec == RAW else self._profile.version)


def compute_cid(data: bytes, profile: Profile = V1_2025) -> Cid:
    """Compute the CID of a whole file."""
    builder = Builder(profile)
    builder.update(data)
    return builder.finish()


def find_profile(data: bytes, cid: Cid) -> Profile | None:
    """Find the known profile under which these bytes have this CID; a match proves them.

    None proves the opposite only if the CID's codec is raw: others may have used settings that we don't know.
    """
    if cid.codec == RAW:
        return V1_2025 if _matches(cid, data) else None
    return next((profile for profile in PROFILES if compute_cid(data, profile) == cid), None)


def get_file_size(cid: Cid, block: bytes) -> int:
    """Read a file's size in bytes from its root block, which must have been checked against its CID."""
    return _decode_node(cid, block).file_size


def read_file(cid: Cid, get_block: Callable[[Cid], bytes], *, max_bytes: int) -> Iterator[bytes]:
    """Yield a file's bytes in order from blocks that the caller has checked against their CIDs.

    What each node says of its children is checked too, and the size before anything is read. Raises
    ContentTooLarge, ContentUnreadable, and what `get_block` raises.
    """
    reading = _Reading(cid, get_block, max_bytes)
    root = reading.open_node(Link(cid, 0, -1))
    if root.file_size > max_bytes:
        raise ContentTooLarge(f"{cid} has {root.file_size} bytes, the limit is {max_bytes}")
    yield from reading.walk(root)


class _Reading:
    """One walk over a DAG, with its limits."""

    def __init__(self, cid: Cid, get_block: Callable[[Cid], bytes], max_bytes: int) -> None:
        self._cid = cid
        self._get_block = get_block
        self._nodes_left = 100_000 + max_bytes // 4096

    def open_node(self, link: Link) -> FileNode:
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise ContentUnreadable(f"the DAG of {self._cid} has too many nodes")
        node = _decode_node(link.cid, self._get_block(link.cid))
        if link.file_size not in (-1, node.file_size):
            raise ContentUnreadable(f"{link.cid} has not the size that its parent says")
        return node

    def walk(self, root: FileNode) -> Iterator[bytes]:
        """Yield the bytes below a node; by a list of iterators, so that depth costs no recursion."""
        if root.data:
            yield root.data
        open_links = [iter(root.links)]
        while open_links:
            link = next(open_links[-1], None)
            if link is None:
                open_links.pop()
                continue
            node = self.open_node(link)
            if node.data:
                yield node.data
            if node.links:
                open_links.append(iter(node.links))
                if len(open_links) > DEEPEST:
                    raise ContentUnreadable(f"the DAG of {self._cid} has too many levels")


def _decode_node(cid: Cid, block: bytes) -> FileNode:
    if cid.codec == RAW:
        return FileNode(block, (), len(block))
    if cid.codec == DAG_PB:
        return decode_file_node(block)
    raise ContentUnreadable(f"{cid} is of the codec 0x{cid.codec:x}, which is no file")


def _matches(cid: Cid, data: bytes) -> bool:
    try:
        return cid.matches(data)
    except BadCid as error:
        raise ContentUnreadable(str(error)) from error
