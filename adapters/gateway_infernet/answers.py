"""What nodes write on the chain, read back: two encodings of one container's output (measured on 1.4.0)."""

from __future__ import annotations

import ast
import math
import warnings
from enum import StrEnum

from gateway.types import JSON
from gateway_infernet.subscription import load_extra

_MAX_TEXT = 4 * 1024 * 1024  # Python's parser takes a hundred times the text's size in memory


class Form(StrEnum):
    """How an answer lies on the chain."""

    OBJECT = "object"  # the repr of a Python object, read back into it
    TEXT = "text"  # such a text that is no repr of JSON: given as it stands
    PROOF = "proof"  # the five keys of a container that is made for chains
    BYTES = "bytes"  # none of these: the three fields in hex
    UNREADABLE = "unreadable"  # it was delivered by way of another contract; only the owner has it


def parse_answer(input_: bytes, output: bytes, proof: bytes) -> tuple[Form, JSON]:
    """Read the three fields of a delivery back into what the container answered.

    A container that gave raw_input, processed_input, raw_output, processed_output and proof gets these five
    back, in hex without 0x. Any other output comes as Python's repr of it, which is not JSON.
    """
    if not input_ and not proof:
        text = _decode(("string",), output)
        if text is not None:
            return _parse_repr(text[0])
    inputs, outputs = _decode(("bytes", "bytes"), input_), _decode(("bytes", "bytes"), output)
    if inputs is not None and outputs is not None:
        return Form.PROOF, {
            "raw_input": inputs[0].hex(),
            "processed_input": inputs[1].hex(),
            "raw_output": outputs[0].hex(),
            "processed_output": outputs[1].hex(),
            "proof": proof.hex(),
        }
    return Form.BYTES, {"input": input_.hex(), "output": output.hex(), "proof": proof.hex()}


def _decode(types: tuple[str, ...], data: bytes) -> tuple[JSON, ...] | None:
    """Decode exactly these types; None if the bytes are anything else."""
    abi = load_extra("eth_abi")
    try:
        values: tuple[JSON, ...] = abi.decode(types, data)
    except (abi.exceptions.DecodingError, OverflowError, UnicodeDecodeError):
        return None
    # A decoder follows any offsets that fit; an encoder writes one form only.
    return values if abi.encode(types, values) == data else None


def _parse_repr(text: str) -> tuple[Form, JSON]:
    if len(text) > _MAX_TEXT:
        return Form.TEXT, text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in a text that is no repr
            tree = ast.parse(text, mode="eval")
        value = ast.literal_eval(_NamedFloats().visit(tree))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return Form.TEXT, text
    return (Form.OBJECT, value) if _is_json(value) else (Form.TEXT, text)


class _NamedFloats(ast.NodeTransformer):
    """Python writes floats that are no numbers as the names nan and inf."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        values = {"nan": math.nan, "inf": math.inf}
        return ast.copy_location(ast.Constant(values[node.id]), node) if node.id in values else node


def _is_json(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, list):
        return all(_is_json(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
