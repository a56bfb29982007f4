"""Reading a target's words, the same way for every adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from gateway.errors import InvalidInput
from gateway.types import JSON

TargetT = TypeVar("TargetT", bound=BaseModel)


class Targets(Generic[TargetT]):
    """Reads the targets of one backend, once where it is the very one of the task before: a model's is.

    What was read must not be changed in place afterwards.
    """

    def __init__(self, kind: type[TargetT], backend: str) -> None:
        """Make it for an adapter's `target_type` and the backend's name."""
        self._kind, self._backend = kind, backend
        self._last: tuple[Mapping[str, JSON], TargetT] | None = None

    def read(self, target: Mapping[str, JSON]) -> TargetT:
        """Return what is to be run. Raises InvalidInput with each word that is wrong."""
        if self._last is None or self._last[0] is not target:
            self._last = target, self._parse(target)
        return self._last[1]

    def _parse(self, target: Mapping[str, JSON]) -> TargetT:
        try:
            return self._kind.model_validate(dict(target))
        except ValidationError as error:
            wrong = "; ".join(
                ": ".join(filter(None, (".".join(map(str, item["loc"])), item["msg"])))
                for item in error.errors(include_url=False, include_input=False)
            )
            raise InvalidInput(f"the target for {self._backend} is wrong: {wrong}") from error
