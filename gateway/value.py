"""The JSON side that all values share; pydantic does it and is imported at the first such call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
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


def _write_init(cls: type[Any]) -> None:
    """Give a frozen class the `__init__` that it has, in a third of its time, written out for its fields.

    While a value is being made it is a draft: of a class with the same slots that is not frozen.
    """
    names, lines = [one.name for one in fields(cls)], ["become(self, '__class__', draft)"]
    scope: dict[str, Any] = {"become": object.__setattr__, "cls": cls, "draft": _make_draft(cls)}
    words: list[str] = []
    for one in fields(cls):
        if one.kw_only and "*" not in words:
            words.append("*")
        given = one.name
        if one.default_factory is not MISSING:
            scope[f"make_{one.name}"], scope["missing"] = one.default_factory, MISSING
            words.append(f"{one.name}=missing")
            given = f"make_{one.name}() if {one.name} is missing else {one.name}"
        elif one.default is not MISSING:
            scope[f"default_{one.name}"] = one.default
            words.append(f"{one.name}=default_{one.name}")
        else:
            words.append(one.name)
        lines.append(f"self.{one.name} = {given}")
    lines.append("self.__class__ = cls")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    written = _write(f"__init__(self, {', '.join(words)})", lines, scope)
    written.__qualname__ = cls.__init__.__qualname__
    written.__annotations__ = {name: cls.__init__.__annotations__[name] for name in (*names, "return")}
    cls.__init__ = written


def _make_copier(cls: type[Any]) -> _Copier:
    """Return what copies a value with changes."""
    lines = [
        "new = draft()",
        *(f"new.{one.name} = old.{one.name}" for one in fields(cls)),
        "for name in changes: setattr(new, name, changes[name])",
        "new.__class__ = cls",
        "return new",
    ]
    _copiers[cls] = _write("copy(old, changes)", lines, {"cls": cls, "draft": _make_draft(cls)})
    return _copiers[cls]


def _make_draft(cls: type[Any]) -> type[Any]:
    return type(f"{cls.__name__}Draft", cls.__bases__, {"__slots__": cls.__slots__})


def _write(head: str, lines: Sequence[str], scope: dict[str, Any]) -> Any:
    exec("\n ".join([f"def {head}:", *lines]), scope)  # noqa: S102  as dataclasses do: of our own fields' names
    return scope[head.partition("(")[0]]


class Value:
    """The JSON side that all of these values share."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        """Hasten a dataclass that is finished: only then it has its slots."""
        if "__slots__" in vars(cls) and "__dataclass_fields__" in vars(cls):
            _write_init(cls)

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
