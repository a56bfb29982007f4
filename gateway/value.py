"""The JSON side that all values share; pydantic does it and is imported at the first such call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

from gateway.types import JSON

if TYPE_CHECKING:
    from typing import Self

    from pydantic import TypeAdapter

_Copier = Callable[[Any, dict[str, Any]], Any]

_type_adapters: dict[type[Any], TypeAdapter[Any]] = {}
_copiers: dict[type[Any], _Copier] = {}


def _make_type_adapter(cls: type[Any]) -> TypeAdapter[Any]:
    if cls not in _type_adapters:
        from pydantic import TypeAdapter

        _type_adapters[cls] = TypeAdapter(cls)
    return _type_adapters[cls]


def _make_copier(cls: type[Any]) -> _Copier:
    """Return what copies a value with changes, written out for its fields.

    What is being made is of a class with the same slots that is not frozen, until all is in place.
    """
    lines = [
        "def copy(old, changes):",
        "new = draft()",
        *(f"new.{one.name} = old.{one.name}" for one in fields(cls)),
        "for name in changes: setattr(new, name, changes[name])",
        "new.__class__ = cls",
        "return new",
    ]
    draft = type(f"{cls.__name__}Draft", cls.__bases__, {"__slots__": cls.__slots__})
    scope: dict[str, Any] = {"cls": cls, "draft": draft}
    exec("\n ".join(lines), scope)  # noqa: S102  as dataclasses do; the names are those of the fields
    _copiers[cls] = scope["copy"]
    return _copiers[cls]


class Value:
    """The JSON side that all of these values share."""

    __slots__ = ()

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid", "val_json_bytes": "base64"}

    def replace(self, **changes: Any) -> Self:
        """Return it with changes: as `dataclasses.replace`, in a fifth of its time, for what is hot.

        Nothing is checked: `__post_init__` is not called. Raises AttributeError for what is no field.
        """
        cls = type(self)
        new: Self = (_copiers.get(cls) or _make_copier(cls))(self, changes)
        return new

    def model_dump_json(self) -> bytes:
        """Return the value as JSON text in UTF-8.

        Integers are exact; NaN and Infinity, which Infernet containers may answer, are bare words.
        """
        from pydantic_core import to_json

        return to_json(self, inf_nan_mode="constants", bytes_mode="base64")

    def model_dump(self) -> dict[str, JSON]:
        """Return the value as plain JSON data."""
        from pydantic_core import to_jsonable_python

        data: dict[str, JSON] = to_jsonable_python(self, inf_nan_mode="constants", bytes_mode="base64")
        return data

    @classmethod
    def model_validate_json(cls, text: str | bytes) -> Self:
        """Read back what `model_dump_json` wrote. Raises pydantic.ValidationError."""
        value: Self = _make_type_adapter(cls).validate_json(text)
        return value

    @classmethod
    def model_validate(cls, data: JSON) -> Self:
        """Read back what `model_dump` gave. Raises pydantic.ValidationError."""
        value: Self = _make_type_adapter(cls).validate_python(data)
        return value

    @classmethod
    def model_json_schema(cls) -> dict[str, JSON]:
        """Return the JSON Schema of the type."""
        return _make_type_adapter(cls).json_schema()
