"""CIDs: the names of content. Versions 0 and 1; text in base58btc, base32, base36 and base16.

Sources: the specifications of CID, multibase, multihash and unsigned varint.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from gateway.content.errors import BadCid

RAW, DAG_PB = 0x55, 0x70
"""Codecs: plain bytes, and the protobuf nodes that UnixFS files are made of."""
IDENTITY, SHA2_256 = 0x00, 0x12
"""Hashes: none (the bytes stand in the CID itself), and the one that everybody uses."""

_LONGEST_TEXT = 512
_LONGEST_REFERENCE = 2048
_LONGEST_DIGEST = 128
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_RADIX = {"k": _BASE36, "z": _BASE58}


@dataclass(frozen=True, slots=True)
class Cid:
    """The name of content: what its bytes are (codec) and hash to.

    Two CIDs are equal if codec, hash and digest are: the version is only a way to write it, so `Qm...` equals
    its `bafybei...`. Never compare their texts.
    """

    codec: int
    digest: bytes
    hash_code: int = SHA2_256
    version: int = field(default=1, compare=False)

    def encode(self) -> bytes:
        """Write it as bytes, as in a block or a CAR."""
        multihash = encode_varint(self.hash_code) + encode_varint(len(self.digest)) + self.digest
        return multihash if self.version == 0 else b"\x01" + encode_varint(self.codec) + multihash

    def __str__(self) -> str:
        if self.version == 0:
            return _encode_radix(self.encode(), _BASE58)
        return "b" + base64.b32encode(self.encode()).decode().rstrip("=").lower()

    @property
    def key(self) -> str:
        """Return the version 1 text in base32: the same for all equal CIDs, and safe as a file's name."""
        return str(Cid(self.codec, self.digest, self.hash_code))

    def matches(self, block: bytes) -> bool:
        """Say whether a block is the one that this CID names. Raises BadCid for a hash that we don't know."""
        if self.hash_code == IDENTITY:
            return block == self.digest
        if self.hash_code == SHA2_256:
            return hashlib.sha256(block).digest() == self.digest
        raise BadCid(f"{self} uses the hash 0x{self.hash_code:x}, which we don't read")


def make_cid(block: bytes, codec: int = RAW) -> Cid:
    """Name a block by its SHA2-256."""
    return Cid(codec, hashlib.sha256(block).digest())


def parse_cid(text: str) -> Cid:
    """Read a CID from its text and nothing around it. Raises BadCid."""
    if not text.isascii() or not 0 < len(text) <= _LONGEST_TEXT:
        raise BadCid(f"{text[:60]!r} is not a CID")
    if len(text) == 46 and text.startswith("Qm"):
        multihash = _decode_radix(text, _BASE58)
        if len(multihash) != 34 or multihash[:2] != b"\x12\x20":
            raise BadCid(f"{text!r} is not a CID of version 0")
        return Cid(DAG_PB, multihash[2:], version=0)
    data = _decode_multibase(text)
    if data[:1] != b"\x01":
        raise BadCid(f"{text!r} is not a CID of version 1")
    cid, used = decode_cid(data)
    if used != len(data):
        raise BadCid(f"{text!r} has bytes after the CID")
    return cid


def decode_cid(data: bytes | memoryview, at: int = 0) -> tuple[Cid, int]:
    """Read a CID from bytes; return it and where it ends. Raises BadCid."""
    if bytes(data[at : at + 2]) == b"\x12\x20":
        version, codec = 0, DAG_PB
    else:
        version, at = decode_varint(data, at)
        codec, at = decode_varint(data, at)
        if version != 1:
            raise BadCid(f"CIDs of version {version} are unknown")
    hash_code, at = decode_varint(data, at)
    length, at = decode_varint(data, at)
    if length > _LONGEST_DIGEST or at + length > len(data):
        raise BadCid("the CID's digest is cut off or too long")
    if hash_code == SHA2_256 and length != 32:
        raise BadCid(f"a digest of SHA2-256 has 32 bytes, not {length}")
    return Cid(codec, bytes(data[at : at + length]), hash_code, version), at + length


def find_cid(reference: str) -> Cid:
    """Take the CID out of a URL or a text that others wrote; the host in it is nobody we ask.

    Read are a bare CID, `/ipfs/<cid>`, `ipfs://<cid>`, and web addresses with `/ipfs/<cid>` as the path or
    with the host `<cid>.ipfs.<gateway>`. A file's name, a query or a fragment behind it is dropped. Other
    schemes and `/ipns/`, whose content may change, are refused with BadCid.
    """
    text = reference.strip()
    if len(text) > _LONGEST_REFERENCE:
        raise BadCid(f"a reference of {len(text)} characters is too long")
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise BadCid(f"{text[:100]!r} is not a URL: {error}") from error
    path = [part for part in unquote(parts.path).split("/") if part]
    if parts.scheme == "ipfs":
        named = [part for part in (parts.netloc, *path) if part and part != "ipfs"]
    elif parts.scheme in ("http", "https"):
        labels = parts.netloc.split(".")
        named = labels[:1] if labels[1:2] == ["ipfs"] else path[1:] if path[:1] == ["ipfs"] else []
    elif not parts.scheme and not parts.netloc:
        named = path[1:] if path[:1] == ["ipfs"] else path
    else:
        named = []
    if not named:
        raise BadCid(f"{text[:100]!r} names no content of IPFS")
    return parse_cid(named[0])


def encode_varint(number: int) -> bytes:
    """Write an unsigned varint, as short as it can be."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode_varint(data: bytes | bytearray | memoryview, at: int = 0) -> tuple[int, int]:
    """Read an unsigned varint of at most 9 bytes; return it and where it ends. Raises BadCid."""
    number = 0
    for index in range(9):
        if at + index >= len(data):
            raise BadCid("a varint is cut off")
        byte = data[at + index]
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if byte == 0 and index:
                raise BadCid("a varint is longer than it need be")
            return number, at + index + 1
    raise BadCid("a varint is longer than 9 bytes")


def _decode_multibase(text: str) -> bytes:
    prefix, digits = text[0], text[1:]
    if prefix in _RADIX:
        return _decode_radix(digits, _RADIX[prefix])
    try:
        if prefix == "b":
            data = base64.b32decode(digits.upper() + "=" * (-len(digits) % 8))
            canonical = base64.b32encode(data).decode().rstrip("=").lower()
        else:
            data = bytes.fromhex(digits) if prefix == "f" else b""
            canonical = data.hex()
    except ValueError as error:
        raise BadCid(f"{text[:60]!r} is not a CID: {error}") from error
    if canonical != digits:
        raise BadCid(f"{text[:60]!r} is not a CID: unknown base, or not written as its base is")
    return data


def _decode_radix(text: str, alphabet: str) -> bytes:
    number = 0
    for char in text:
        digit = alphabet.find(char)
        if digit < 0:
            raise BadCid(f"{text[:60]!r} is not a CID: {char!r} is no digit of its base")
        number = number * len(alphabet) + digit
    zeros = len(text) - len(text.lstrip(alphabet[0]))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _encode_radix(data: bytes, alphabet: str) -> str:
    number, out = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, len(alphabet))
        out = alphabet[digit] + out
    return alphabet[0] * (len(data) - len(data.lstrip(b"\0"))) + out
