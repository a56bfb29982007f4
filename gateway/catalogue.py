"""The catalogue: our model names, and each backend's own words for them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gateway.adapter import Adapter
from gateway.config import ModelSettings, parse_money, validate
from gateway.errors import ConfigError, InvalidInput, UnknownBackend, UnknownModel
from gateway.limits import Limits
from gateway.task import Task
from gateway.types import JSON, Money

if TYPE_CHECKING:
    from jsonpath import CompoundJSONPath, JSONPath


@dataclass(frozen=True, slots=True)
class Mapper:
    """Reshapes JSON: a text that begins with "$" is a JSONPath, all else is built as it stands."""

    shape: JSON
    paths: Mapping[str, JSONPath | CompoundJSONPath] = field(default_factory=dict)
    steps: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, shape: JSON, where: str) -> Mapper:
        """Compile every path. Raises ConfigError that names the place."""
        texts = _list_paths(shape)
        steps = {text: found for text in texts if (found := parse_steps(text)) is not None}
        return cls(shape, {text: _compile(text, where) for text in texts if text not in steps}, steps)

    def apply(self, value: JSON) -> JSON:
        """Return the reshaped value. Raises InvalidInput if a path finds nothing."""
        return self._build(self.shape, value)

    def _build(self, shape: JSON, value: JSON) -> JSON:
        if isinstance(shape, dict):
            return {name: self._build(item, value) for name, item in shape.items()}
        if isinstance(shape, list):
            return [self._build(item, value) for item in shape]
        if not isinstance(shape, str):
            return shape
        if shape in self.steps:
            try:
                return _walk(value, self.steps[shape])
            except (LookupError, TypeError):
                raise InvalidInput(f"there is nothing at {shape} in {_shorten(value)}") from None
        if shape not in self.paths:
            return shape
        container = isinstance(value, dict | list)
        found = self.paths[shape].findall(value) if container else []
        if not found:
            raise InvalidInput(f"there is nothing at {shape} in {_shorten(value)}")
        return found[0] if len(found) == 1 else found


def _compile(text: str, where: str) -> JSONPath | CompoundJSONPath:
    """Return a path that is more than names and places. Raises ConfigError."""
    try:
        import jsonpath
    except ImportError:
        message = f"{where}: {text!r} needs python-jsonpath: pip install 'inference-gateway[jsonpath]'"
        raise ConfigError(message) from None
    try:
        return jsonpath.compile(text)
    except (jsonpath.JSONPathError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise ConfigError(f"{where}: {text!r} is not a JSONPath: {why}") from error


_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[(0|-?[1-9][0-9]*)\]")


def parse_steps(path: str) -> tuple[str | int, ...] | None:
    """Return the names and places of a path that has nothing else ("$.a[0].b"); None for another one."""
    found = list(_STEP.finditer(path, 1))
    if path[:1] != "$" or sum(len(step.group()) for step in found) != len(path) - 1:
        return None
    return tuple(step.group(1) or int(step.group(2)) for step in found)


def _walk(value: JSON, steps: tuple[str | int, ...]) -> JSON:
    """Follow names into objects and places into lists. Raises LookupError, TypeError."""
    found: Any = value
    for step in steps:
        kind: type[Any] = dict if isinstance(step, str) else list
        if not isinstance(found, kind):
            raise TypeError(step)
        found = found[step]
    return found


def _list_paths(shape: JSON) -> list[str]:
    if isinstance(shape, dict):
        return [path for item in shape.values() for path in _list_paths(item)]
    if isinstance(shape, list):
        return [path for item in shape for path in _list_paths(item)]
    return [shape] if isinstance(shape, str) and shape.startswith("$") else []


def _shorten(value: JSON) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What one backend needs to know to run one model."""

    backend: str
    words: Mapping[str, JSON]
    input: Mapper | None = None
    output: Mapper | None = None
    cost: Money | None = None

    def reshape_task(self, task: Task) -> Task:
        """Return the task as this backend wants its input. Raises InvalidInput."""
        return task if self.input is None else replace(task, input=self.input.apply(task.input))

    def reshape_output(self, output: JSON) -> JSON:
        """Return the answer as the model promises it. Raises InvalidInput."""
        return output if self.output is None else self.output.apply(output)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a face's request becomes a model's input, and its output the answer; None passes it as it is.

    Attributes:
        input: from the request to the task's input.
        output: from the run's output to what the answer says.
        piece: from a piece of output to what it says.
        usage: from the run's output to what was used.
    """

    input: Mapper | None = None
    output: Mapper | None = None
    piece: Mapper | None = None
    usage: Mapper | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One alias with its targets by backend, the limits it sets, and its shapes in faces by operation."""

    name: str
    targets: Mapping[str, Target]
    limits: Limits = field(default_factory=Limits)
    description: str | None = None
    shapes: Mapping[str, Shape] = field(default_factory=dict)


class Catalogue:
    """All models, checked against the adapters that shall run them."""

    def __init__(self, models: Mapping[str, ModelSettings], adapters: Mapping[str, Adapter[Any]]) -> None:
        """Check every target. Raises ConfigError that names the place."""
        self.backends = adapters
        self.models = {name: self._make_model(name, settings) for name, settings in models.items()}

    def find_targets(self, task: Task, backends: tuple[str, ...] | None) -> list[Target]:
        """Return the targets a task could go to, among `backends` (None for all).

        Raises:
            UnknownModel, UnknownBackend: with the nearest right name.
            InvalidInput: a task without model and target, or a target of its own without one named backend.
        """
        for name in backends or ():
            if name not in self.backends:
                raise UnknownBackend(_unknown("backend", name, self.backends))
        if task.target is not None:
            if backends is None or len(backends) != 1:
                raise InvalidInput(
                    'a task with a target of its own needs a named backend, as in backend="node1"'
                )
            return [self._make_own_target(task, backends[0])]
        if task.model is None:
            raise InvalidInput("a task needs a model, or a target and a named backend")
        targets = self.get_model(task.model).targets
        found = [target for name, target in targets.items() if backends is None or name in backends]
        if not found:
            has, named = ", ".join(sorted(targets)), " or ".join(backends or ())
            raise InvalidInput(f"the model {task.model!r} has no target at {named}; it has one at {has}")
        return found

    def get_model(self, name: str) -> Model:
        """Return one model. Raises UnknownModel with the nearest right name."""
        if name not in self.models:
            raise UnknownModel(_unknown("model", name, self.models))
        return self.models[name]

    def get_target(self, task: Task, backend: str, words: Mapping[str, JSON]) -> Target:
        """Return the target that an earlier attempt was made from, for its output."""
        model = self.models.get(task.model) if task.model is not None else None
        known = model.targets.get(backend) if model is not None else None
        if known is None:
            return Target(backend=backend, words=words)
        return known if known.words is words else replace(known, words=words)

    def _make_own_target(self, task: Task, backend: str) -> Target:
        own = deepcopy(dict(task.target or {}))  # it is kept, and the caller may change his
        if task.model is not None:
            known = self.get_model(task.model).targets.get(backend)
            if known is not None:
                return replace(known, words=self._check_words(backend, {**known.words, **own}, InvalidInput))
        return Target(backend=backend, words=self._check_words(backend, own, InvalidInput))

    def _make_model(self, name: str, settings: ModelSettings) -> Model:
        targets = {
            backend: self._make_target(backend, words, f"models.{name}.targets.{backend}")
            for backend, words in settings.targets.items()
        }
        return Model(
            name=name,
            targets=targets,
            limits=settings.make_limits(),
            description=settings.description,
            shapes=_make_shapes(settings, f"models.{name}.openai"),
        )

    def _make_target(self, backend: str, table: Mapping[str, JSON], where: str) -> Target:
        if backend not in self.backends:
            raise ConfigError(f"{where}: {_unknown('backend', backend, self.backends)}")
        words = dict(table)
        shapes = {side: words.pop(side, None) for side in ("input", "output")}
        mappers = {side: Mapper.parse(s, f"{where}.{side}") for side, s in shapes.items() if s is not None}
        try:
            cost = parse_money(words.pop("cost")) if "cost" in words else None
        except ValueError as error:
            raise ConfigError(f"{where}.cost: {error}") from error
        words = self._check_words(backend, words, ConfigError, where)
        return Target(
            backend=backend, words=words, input=mappers.get("input"), output=mappers.get("output"), cost=cost
        )

    def _check_words(
        self, backend: str, words: dict[str, JSON], kind: type[Exception], where: str | None = None
    ) -> dict[str, JSON]:
        try:
            validate(self.backends[backend].target_type, words, where or f"the target for {backend}")
        except ConfigError as error:
            raise kind(str(error)) from None
        return words


def _make_shapes(settings: ModelSettings, where: str) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for operation, shape in settings.openai or ():
        if shape is not None:
            mappers = {
                side: Mapper.parse(words, f"{where}.{operation}.{side}")
                for side, words in shape
                if words is not None
            }
            shapes[operation] = Shape(**mappers)
    return shapes


def _unknown(what: str, name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known)) or 'none'}"
    return f"there is no {what} {name!r}; {hint}"
