"""The apps that the stand-in ships: namespace `demo`, and the official session test app."""

from __future__ import annotations

from gateway.devnet.inferencesh.apps import App, AppFailure, Call, Catalogue, Function, Pricing
from gateway.devnet.model import analyze
from gateway.types import JSON

_TEXT = {"text": {"type": "string"}}
_SECONDS = {"seconds": {"type": "number"}}
_FREE = Pricing("exact", 0, description="free")
_KEY = {"key": {"type": "string"}}


async def _sentiment(call: Call) -> JSON:
    return analyze(call.input["text"])


async def _echo(call: Call) -> JSON:
    return call.input


async def _sleep(call: Call) -> JSON:
    await call.clock.sleep(call.input["seconds"])
    return {"slept_seconds": call.input["seconds"]}


async def _fail(call: Call) -> JSON:
    call.log("about to fail")
    raise AppFailure((call.input or {}).get("message", "the app failed, as it was made to"))


async def _words(call: Call) -> JSON:
    words = call.input["text"].split()
    said = ""
    for word in words:
        await call.clock.sleep(call.input.get("delay_seconds", 0.0))
        piece = f" {word}" if said else word
        said += piece
        call.publish_delta({"response": piece})
        call.publish_output({"response": said})
    return {"response": said}


async def _needs_secret(_call: Call) -> JSON:
    return {"ok": True}


async def _file_length(call: Call) -> JSON:
    return {"length": len(call.read_file(call.input["file"]))}


async def _set_value(call: Call) -> JSON:
    call.values[call.input["key"]] = call.input.get("value")
    return {"key": call.input["key"], "value": call.input.get("value")}


async def _get_value(call: Call) -> JSON:
    return {"key": call.input["key"], "value": call.values.get(call.input["key"])}


async def _get_all(call: Call) -> JSON:
    return {"values": dict(call.values)}


async def _increment(call: Call) -> JSON:
    key = (call.input or {}).get("key", "counter")
    value = call.values.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AppFailure(f"{key} is not a number")
    call.values[key] = value + (call.input or {}).get("by", 1)
    return {"key": key, "value": call.values[key]}


def make_catalogue() -> Catalogue:
    """Return the shipped apps.

    - `demo/sentiment` {text}: VADER's real scores. Costs exactly 0.002 USD.
    - `demo/echo` {...}: the input. `demo/file-length` {file}: the number of bytes behind a file uri.
    - `demo/sleep` {seconds, stubborn?}: takes its time; a stubborn one ignores a cancel that is not forced.
    - `demo/quiet` {seconds}: the same with heartbeats only, and a price that nobody knows before.
    - `demo/fail` {message?}: FAILED with that text. `demo/rejected`: REJECTED at admission.
    - `demo/words` {text, delay_seconds?}: the words one by one, as deltas and as the output so far.
    - `demo/needs-secret`: 412 until the account has the secret DEMO_TOKEN.
    - `infsh/session-test`: set_value {key, value}, get_value {key}, get_all, increment {key, by?}.
    """
    ranged = Pricing("range", 10_000, 1_000_000, ("output_tokens",), "by the word")
    unknown = Pricing("unknown", 50_000, depends_on=("duration_ms",), description="by the second")
    file = {"file": {"type": "string", "format": "file"}}
    sleep_input = {**_SECONDS, "stubborn": {"type": "boolean"}}
    words_input = {**_TEXT, "delay_seconds": {"type": "number"}}
    session_functions = {
        "set_value": Function(_set_value, {**_KEY, "value": {}}, ("key",)),
        "get_value": Function(_get_value, _KEY, ("key",)),
        "get_all": Function(_get_all),
        "increment": Function(_increment, {**_KEY, "by": {"type": "number"}}),
    }
    return Catalogue(
        [
            _make_demo("sentiment", Function(_sentiment, _TEXT, ("text",)), _make_exact(200_000)),
            _make_demo("echo", Function(_echo), _make_exact(1_000)),
            _make_demo(
                "sleep", Function(_sleep, sleep_input, ("seconds",), ignores_cancel="stubborn"), unknown
            ),
            _make_demo("fail", Function(_fail, {"message": {"type": "string"}}), _make_exact(1_000)),
            _make_demo("rejected", Function(_echo), _FREE, admitted=False),
            _make_demo("words", Function(_words, words_input, ("text",), capabilities=("llm",)), ranged),
            _make_demo("needs-secret", Function(_needs_secret), _FREE, secrets=("DEMO_TOKEN",)),
            _make_demo("quiet", Function(_sleep, _SECONDS, ("seconds",)), unknown),
            _make_demo("file-length", Function(_file_length, file, ("file",)), _make_exact(1_000)),
            App(
                "infsh",
                "session-test",
                "Remembers values within a session.",
                session_functions,
                _FREE,
                default_function="get_all",
                versions=("3c4d", "5e6f"),
            ),
        ]
    )


def _make_exact(microcents: int) -> Pricing:
    return Pricing("exact", microcents, description=f"{microcents} microcents a run")


def _make_demo(
    name: str, function: Function, pricing: Pricing, *, admitted: bool = True, secrets: tuple[str, ...] = ()
) -> App:
    return App(
        "demo",
        name,
        f"The devnet's app {name}.",
        {"run": function},
        pricing,
        required_secrets=secrets,
        admitted=admitted,
    )
