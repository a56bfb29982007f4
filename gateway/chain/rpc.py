"""An EVM chain over JSON-RPC, for reading: web3 without its own retries, and errors in the gateway's words.

web3 repeats failed requests by default, sent transactions included; here nothing is repeated, for the gateway
has one retry loop. No message quotes the URL: many carry a key in their path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from gateway.chain.loading import kept_recursion_limit
from gateway.chain.redaction import silence_urls
from gateway.chain.reverts import Reason, ReasonKind, parse_revert
from gateway.chain.sessions import Sessions
from gateway.errors import BackendError, ConfigError, InDoubt, Misbehaved, Rejected, Throttled, Unavailable
from gateway.types import JSON

if TYPE_CHECKING:
    from web3 import AsyncHTTPProvider, AsyncWeb3

    Web3: TypeAlias = AsyncWeb3[AsyncHTTPProvider]

BATCH_SIZE = 100  # what public endpoints take in one batch
_SCAN_BLOCKS = 10_000  # and in one eth_getLogs
_REVERTED, _LIMIT_EXCEEDED = 3, -32005
_BATCH_STATUSES = (400, 405, 413, 415, 422)  # of HTTP, by RPCs that can't read a batch or not so big a one
_SIZE_WORDS = ("too large", "too big", "too many", "limit", "exceed", "maximum", "size")


Question: TypeAlias = tuple[str, Sequence[JSON]]
"""A method of JSON-RPC and its parameters."""

Outcome: TypeAlias = Any
"""What became of one question: its `result`, or the BackendError that it met."""


@runtime_checkable
class Asks(Protocol):
    """Whatever answers many questions, each on its own: a pool of RPCs."""

    async def ask(self, questions: Sequence[Question]) -> list[Outcome]:
        """Return the outcomes in the order of the questions."""


class RpcRefused(Rejected):
    """The RPC answered with an error object; `code` is its number, `detail` its data."""


class Reverted(RpcRefused):
    """A contract refused the call.

    Attributes:
        data: the revert data: four bytes of selector and the arguments; empty if the contract said nothing
            (or is none).
        reason: the data in words, as far as they can be read without the contract's ABI.
    """

    def __init__(self, message: str, data: bytes) -> None:
        super().__init__(message, code=str(_REVERTED), detail="0x" + data.hex())
        self.data = data
        self.reason = self.explain()

    def explain(self, abi: Iterable[Mapping[str, Any]] = ()) -> Reason:
        """Read the reason with the help of an ABI's errors.

        Where the RPC sent no data but the contract's text in its message, that is the reason.
        """
        _, found, text = self.message.partition("execution reverted: ")
        if not self.data and found and text:
            return Reason(ReasonKind.ERROR, text)
        return parse_revert(self.data, abi)


class BatchRefused(RpcRefused):
    """The RPC refused a batch as a whole: it takes none, or a smaller one.

    Attributes:
        too_large: its words were about size.
    """

    def __init__(self, message: str, *, too_large: bool, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.too_large = too_large


@dataclass(frozen=True, slots=True)
class Head:
    """A block: its number and its time in seconds since the epoch."""

    number: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class Log:
    """One event of a contract. Topics and data are bytes, `transaction` and `block_hash` hex."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: str
    transaction: str
    index: int


def make_web3(rpc_url: str, *, timeout_seconds: float = 20.0) -> Web3:
    """Make a web3 that asks once. No I/O. `await web3.provider.disconnect()` closes its connections.

    Raises:
        ConfigError: the URL is no HTTP URL, or web3 is not installed.
    """
    if not rpc_url.startswith(("http://", "https://")):
        raise ConfigError("an RPC URL begins with http:// or https://")
    try:
        with kept_recursion_limit():
            from aiohttp import ClientTimeout
            from web3 import AsyncHTTPProvider, AsyncWeb3
            from web3.types import RPCEndpoint
    except ImportError as error:
        raise ConfigError('a chain needs web3: pip install "web3>=7.10" eth-account') from error
    provider = AsyncHTTPProvider(
        rpc_url,
        request_kwargs={"timeout": ClientTimeout(total=timeout_seconds)},
        exception_retry_configuration=None,
        cache_allowed_requests=True,
        # Nothing else is constant: a reorg changes blocks, and web3 would ask more to know how old one is.
        cacheable_requests={RPCEndpoint("eth_chainId")},
    )
    silence_urls()
    provider._request_session_manager = Sessions()  # type: ignore[assignment]  # noqa: SLF001  see there
    return AsyncWeb3(provider)


@contextmanager
def translated(what: str, *, lands: bool = False) -> Iterator[None]:
    """Let what web3 and its transport raise inside come out as the gateway's errors.

    Args:
        what: the act, for the message.
        lands: it may have had an effect although its answer is lost: then that is InDoubt, not Unavailable.
    """
    from aiohttp import ClientConnectorError, ClientError, ClientResponseError
    from web3.exceptions import ContractLogicError, TooManyRequests, Web3Exception, Web3RPCError

    try:
        yield
    except ClientConnectorError as error:
        raise Unavailable(f"the RPC can't be reached ({type(error).__name__})") from error
    except ClientResponseError as error:
        # Its text and its request both hold the URL.
        raise _make_http_error(what, error.status, error.headers, lands=lands) from None
    except (ClientError, TimeoutError) as error:
        kind = InDoubt if lands else Unavailable
        raise kind(f"{what}: no answer from the RPC ({type(error).__name__})") from error
    except ContractLogicError as error:
        raise Reverted(f"{what}: {error.message}", _parse_hex(error.data)) from error
    except Web3RPCError as error:
        body = (error.rpc_response or {}).get("error")
        raise make_rpc_error(what, body if isinstance(body, dict) else {"message": str(error)}) from error
    except TooManyRequests as error:
        raise Throttled(f"{what}: the RPC wants us to wait") from error
    except (Web3Exception, ValueError, RecursionError) as error:
        raise Misbehaved(f"{what}: the RPC's answer can't be read ({type(error).__name__})") from error


def make_rpc_error(what: str, error: Mapping[str, JSON]) -> BackendError:
    """Make the error for a JSON-RPC error object."""
    code, message = error.get("code"), str(error.get("message", ""))
    if code == _REVERTED or "revert" in message.lower():
        return Reverted(f"{what}: {message}", _parse_hex(error.get("data")))
    if code in (_LIMIT_EXCEEDED, 429) and "results" not in message:  # too many of them: no matter of pace
        return Throttled(f"{what}: the RPC wants us to wait ({message})", code=str(code))
    return RpcRefused(
        f"{what}: the RPC refused ({code}: {message})", code=str(code), detail=error.get("data")
    )


async def request(web3: Web3 | Asks, method: str, params: Sequence[JSON]) -> JSON:
    """Ask one question; return its `result`, as JSON-RPC has it.

    Raises Unavailable, Throttled, Misbehaved, RpcRefused or Reverted.
    """
    if isinstance(web3, Asks):
        return (await request_many(web3, [(method, params)]))[0]
    return await ask_one(web3, method, params)


async def request_many(web3: Web3 | Asks, questions: Sequence[Question]) -> list[JSON]:
    """Ask many questions in as few requests as the RPC allows; return the results in their order.

    Raises as `request`, for the first that failed.
    """
    if isinstance(web3, Asks):
        return _raise_first(await web3.ask(questions))
    results: list[JSON] = []
    for start in range(0, len(questions), BATCH_SIZE):
        chunk = questions[start : start + BATCH_SIZE]
        if len(chunk) == 1:
            results.append(await request(web3, *chunk[0]))
            continue
        results += _raise_first(await ask_batch(web3, chunk))
    return results


async def ask_one(web3: Web3, method: str, params: Sequence[JSON], *, lands: bool = False) -> JSON:
    """Ask one RPC one question, once. `lands`: a lost answer raises InDoubt. Raises as `request`."""
    try:
        with translated(method, lands=lands):
            response: Any = await web3.provider.make_request(method, list(params))
    except AttributeError as error:  # web3's cache trusts that an answer is an object
        raise Misbehaved(f"{method}: the RPC's answer is not an object") from error
    return _read_response(method, response)


async def ask_batch(web3: Web3, questions: Sequence[Question], *, lands: bool = False) -> list[Outcome]:
    """Ask one RPC many questions in one request, once; return their outcomes in their order.

    Raises:
        BatchRefused: the RPC takes no batch, or none of this size.
        BackendError: the request as a whole failed, as `request` does.
    """
    chunk = [(method, list(params)) for method, params in questions]
    try:
        with translated("a batch", lands=lands):
            answer: Any = await web3.provider.make_batch_request(chunk)  # type: ignore[arg-type]
    except (TypeError, KeyError, AttributeError) as error:
        # web3 sorts the answers by their ids, and trusts that they have some.
        raise Misbehaved(f"the RPC's answer to a batch can't be read ({type(error).__name__})") from error
    except Rejected as error:
        if error.http_status in _BATCH_STATUSES:
            raise BatchRefused(error.message, too_large=error.http_status == 413) from None
        raise
    responses = answer if isinstance(answer, list) else [answer]
    if len(responses) == 1 and len(chunk) > 1:
        _raise_refusal(responses[0])
    if len(responses) != len(chunk):
        raise Misbehaved(f"the RPC answered {len(responses)} of {len(chunk)} questions")
    if any(not isinstance(response, dict) or response.get("id") is None for response in responses):
        raise Misbehaved("the RPC's answer to a batch does not say what it answers")
    return [_read_outcome(method, response) for (method, _), response in zip(chunk, responses, strict=True)]


def _raise_refusal(response: Any) -> None:
    """Raise what a single answer to a batch means: an error object is one for all of them."""
    try:
        _read_response("a batch", response)
    except Throttled as error:
        if "batch" not in error.message.lower().removeprefix("a batch"):
            raise
        raise BatchRefused(error.message, too_large=True, code=error.code) from None
    except RpcRefused as error:
        words = error.message.lower()
        raise BatchRefused(
            error.message, too_large=any(word in words for word in _SIZE_WORDS), code=error.code
        ) from None


def _raise_first(outcomes: list[Outcome]) -> list[JSON]:
    for outcome in outcomes:
        if isinstance(outcome, BackendError):
            raise outcome
    return outcomes


def _read_outcome(what: str, response: Any) -> Outcome:
    try:
        return _read_response(what, response)
    except BackendError as error:
        return error


async def fetch_head(web3: Web3 | Asks, *, behind: int = 0) -> Head:
    """Fetch the newest block, or the one that many blocks before it."""
    head = _parse_head(await request(web3, "eth_getBlockByNumber", ["latest", False]))
    if behind:
        [head] = await fetch_blocks(web3, [max(0, head.number - behind)])
    return head


async def fetch_blocks(web3: Web3 | Asks, numbers: Sequence[int]) -> list[Head]:
    """Fetch blocks by their numbers. Raises Unavailable for one that the RPC does not have (yet)."""
    questions = [("eth_getBlockByNumber", [hex(number), False]) for number in numbers]
    blocks = await request_many(web3, questions)
    if None in blocks:
        raise Unavailable("the RPC does not have that block yet")
    return [_parse_head(block) for block in blocks]


async def fetch_chain_id(web3: Web3 | Asks) -> int:
    """Fetch the chain's id."""
    return parse_chain_id(await request(web3, "eth_chainId", []))


def parse_chain_id(result: JSON) -> int:
    """Read the chain's id. Raises Misbehaved."""
    return _parse_int({"chain_id": result}, "chain_id")


async def fetch_calls(
    web3: Web3 | Asks, calls: Sequence[tuple[str, bytes]], *, block: int | None = None
) -> list[bytes]:
    """Call views: (contract, calldata) pairs, at one block; return what each returns. Raises as `request`."""
    at = "latest" if block is None else hex(block)
    questions = [("eth_call", [{"to": contract, "data": "0x" + data.hex()}, at]) for contract, data in calls]
    return [_parse_hex(result) for result in await request_many(web3, questions)]


async def fetch_logs(
    web3: Web3 | Asks, address: str, topics: Sequence[Sequence[bytes] | None], *, first: int, last: int
) -> list[Log]:
    """Fetch the events of a contract between two blocks, both included, in their order.

    `topics` names per position the values that fit (None: any).
    """
    wanted = [None if some is None else ["0x" + topic.hex() for topic in some] for some in topics]
    questions: list[tuple[str, Sequence[JSON]]] = []
    for start in range(first, last + 1, _SCAN_BLOCKS):
        end = min(last, start + _SCAN_BLOCKS - 1)
        scan = {"address": address, "topics": wanted, "fromBlock": hex(start), "toBlock": hex(end)}
        questions.append(("eth_getLogs", [scan]))
    logs: list[Log] = []
    for found in await request_many(web3, questions):
        logs += [parse_log(log) for log in found]
    return logs


def _read_response(what: str, response: Any) -> JSON:
    if not isinstance(response, dict):
        raise Misbehaved(f"{what}: the RPC's answer is not an object")
    if response.get("error") is not None:
        error = response["error"]
        raise make_rpc_error(what, error if isinstance(error, dict) else {"message": str(error)})
    if "result" not in response:
        raise Misbehaved(f"{what}: the RPC's answer has no result")
    return response["result"]


def _make_http_error(
    what: str, status: int, headers: Mapping[str, str] | None, *, lands: bool
) -> BackendError:
    message = f"{what}: the RPC answered HTTP {status}"
    if status == 429:
        seconds = (headers or {}).get("Retry-After", "")
        wait = timedelta(seconds=int(seconds)) if seconds.isdecimal() else None
        return Throttled(message, http_status=status, retry_after=wait)
    if status < 500:
        return Rejected(message, http_status=status)
    if lands and status != 503:
        return InDoubt(message, http_status=status)
    return Unavailable(message, http_status=status)


def parse_log(log: Any) -> Log:
    """Read JSON-RPC's log. Raises Misbehaved."""
    try:
        return Log(
            address=str(log["address"]),
            topics=tuple(_parse_hex(topic) for topic in log["topics"]),
            data=_parse_hex(log["data"]),
            block_number=int(log["blockNumber"], 16),
            block_hash=str(log["blockHash"]),
            transaction=str(log["transactionHash"]),
            index=int(log["logIndex"], 16),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Misbehaved(f"the RPC sent a log that is none ({error!r})") from error


def _parse_head(block: Any) -> Head:
    return Head(_parse_int(block, "number"), _parse_int(block, "timestamp"))


def _parse_int(data: Any, name: str) -> int:
    try:
        return int(data[name], 16)
    except (KeyError, TypeError, ValueError) as error:
        raise Misbehaved(f"the RPC sent no {name} ({error!r})") from error


def _parse_hex(data: Any) -> bytes:
    """Read hex bytes. Some RPCs wrap revert data in an object, and some send none: that is no data."""
    if isinstance(data, dict):
        data = data.get("data")
    if data is None:
        return b""
    try:
        return bytes.fromhex(str(data).removeprefix("0x"))
    except ValueError as error:
        raise Misbehaved("the RPC sent bytes that are not hex") from error
