"""CAR files (version 1): blocks one after another, each checked against its CID as it comes.

    varint(length) header        DAG-CBOR {"roots": [...], "version": 1}; the roots prove nothing
    varint(length) CID block     any number of times, in any order, repeated or not

Sources: the specification of CARv1 and of trustless gateways: an answer may be cut anywhere under HTTP 200.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.content.cid import DAG_PB, IDENTITY, Cid, decode_cid, decode_varint, encode_varint
from gateway.content.errors import (
    BadCid,
    ContentNotFound,
    ContentSwapped,
    ContentTampered,
    ContentTooLarge,
    ContentTruncated,
    ContentUnreadable,
)
from gateway.content.unixfs import V1_2025, Builder, Profile, get_file_size, read_file

LARGEST_BLOCK = 2 * 1024 * 1024
"""Bytes; what the network of IPFS carries at most."""
_LARGEST_HEADER = 64 * 1024
_LARGEST_SECTION = LARGEST_BLOCK + 256
_VERSION_1 = b"gversion\x01"


class CarReader:
    """Takes a CAR in pieces of any size and gives the file of one CID, verified, or an error.

    `feed` raises as soon as anything is wrong; `finish` gives the bytes. Memory is bounded by `max_bytes` of
    content and the little that a CAR adds to it.
    """

    def __init__(self, cid: Cid, *, max_bytes: int) -> None:
        """Expect the file `cid` of at most `max_bytes`."""
        self._cid = cid
        self._max_bytes = max_bytes
        self._left = max_bytes + max_bytes // 8 + (1 << 20)
        self._buffer = bytearray()
        self._has_header = False
        self._blocks: dict[Cid, bytes] = {}

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises ContentTampered (a block is not what its CID says), ContentTooLarge (by the root's own word, or
        by what came) or ContentUnreadable (this is no CAR, or beyond what we read).
        """
        self._left -= len(data)
        if self._left < 0:
            raise ContentTooLarge(f"the CAR of {self._cid} is larger than a file of {self._max_bytes} bytes")
        self._buffer += data
        try:
            self._take_sections()
        except BadCid as error:
            raise ContentUnreadable(f"the answer is no proper CAR: {error}") from error

    def finish(self) -> bytes:
        """End the CAR and return the whole file.

        Raises ContentTruncated (cut off, or blocks are missing), ContentNotFound (no block at all),
        ContentSwapped (blocks, but not the one that was asked for), ContentTooLarge, ContentUnreadable.
        """
        if not self._has_header:
            raise ContentTruncated(f"the CAR of {self._cid} is cut off")
        return b"".join(read_file(self._cid, self._get_block, max_bytes=self._max_bytes))

    def _take_sections(self) -> None:
        at = 0
        while at < len(self._buffer):
            limit = _LARGEST_SECTION if self._has_header else _LARGEST_HEADER
            try:
                length, start = decode_varint(self._buffer, at)
            except BadCid:
                if len(self._buffer) - at < 9:
                    break  # the rest of the varint is still to come
                raise
            if not 0 < length <= limit:
                raise ContentUnreadable(f"a section of {length} bytes is none that a CAR of ours may have")
            if start + length > len(self._buffer):
                break
            self._take_section(bytes(self._buffer[start : start + length]))
            at = start + length
        del self._buffer[:at]

    def _take_section(self, section: bytes) -> None:
        if not self._has_header:
            if _VERSION_1 not in section:
                raise ContentUnreadable("the answer is no CAR of version 1")
            self._has_header = True
            return
        cid, at = decode_cid(section)
        block = section[at:]
        if len(block) > LARGEST_BLOCK:
            raise ContentUnreadable(f"the block {cid} has {len(block)} bytes, the most is {LARGEST_BLOCK}")
        if not cid.matches(block):
            raise ContentTampered(f"the block sent as {cid} hashes to something else")
        self._blocks[cid] = block
        if cid == self._cid and cid.codec == DAG_PB:
            size = get_file_size(cid, block)
            if size > self._max_bytes:
                raise ContentTooLarge(f"{cid} has {size} bytes, the limit is {self._max_bytes}")

    def _get_block(self, cid: Cid) -> bytes:
        if cid.hash_code == IDENTITY:
            return cid.digest  # the bytes stand in the CID; such a block is never sent
        block = self._blocks.get(cid)
        if block is not None:
            return block
        if cid != self._cid or self._buffer:
            raise ContentTruncated(f"the block {cid} of {self._cid} is missing")
        if self._blocks:
            raise ContentSwapped(f"the answer holds other content than {cid}")
        raise ContentNotFound(f"the answer holds no block of {cid}")


def read_inline(cid: Cid, *, max_bytes: int) -> bytes:
    """Read content that stands in its CID itself (the hash `identity`); nobody needs to be asked for it."""
    reader = CarReader(cid, max_bytes=max_bytes)
    reader.feed(encode_car(cid, ()))
    return reader.finish()


def encode_car(root: Cid, blocks: Iterable[tuple[Cid, bytes]]) -> bytes:
    """Write a CAR with one root."""
    name = b"\x00" + root.encode()
    header = b"\xa2eroots\x81\xd8\x2a\x58" + bytes([len(name)]) + name + _VERSION_1
    sections = [header, *(cid.encode() + block for cid, block in blocks)]
    return b"".join(encode_varint(len(section)) + section for section in sections)


def build_car(data: bytes, profile: Profile = V1_2025) -> tuple[Cid, bytes]:
    """Build a file's DAG and write it as a CAR, each block once, the root first."""
    blocks: dict[Cid, bytes] = {}
    builder = Builder(profile, blocks.__setitem__)
    builder.update(data)
    root = builder.finish()
    return root, encode_car(root, reversed(blocks.items()))
