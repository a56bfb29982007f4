"""An EVM chain over JSON-RPC, for reading: web3 without its own retries, and errors in the gateway's words.

web3 repeats failed requests by default, sent transactions included; here nothing is repeated, for the gateway
has one retry loop. No message quotes the URL: many carry a key in their path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from gateway.errors import BackendError, ConfigError, InDoubt, Misbehaved, Rejected, Throttled, Unavailable
from gateway.types import JSON

if TYPE_CHECKING:
    from web3 import AsyncHTTPProvider, AsyncWeb3

    Web3: TypeAlias = AsyncWeb3[AsyncHTTPProvider]

_BATCH_SIZE = 100  # what public endpoints take in one batch
_SCAN_BLOCKS = 10_000  # and in one eth_getLogs
_REVERTED, _LIMIT_EXCEEDED = 3, -32005


class RpcRefused(Rejected):
    """The RPC answered with an error object; `code` is its number, `detail` its data."""


class Reverted(RpcRefused):
    """A contract refused the call.

    Attributes:
        data: the revert data: four bytes of selector and the arguments; empty if the contract said nothing
            (or is none).
    """

    def __init__(self, message: str, data: bytes) -> None:
        super().__init__(message, code=str(_REVERTED), detail="0x" + data.hex())
        self.data = data


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
        from aiohttp import ClientTimeout
        from web3 import AsyncHTTPProvider, AsyncWeb3
    except ImportError as error:
        raise ConfigError('a chain needs web3: pip install "web3>=7.10" eth-account') from error
    provider = AsyncHTTPProvider(
        rpc_url,
        request_kwargs={"timeout": ClientTimeout(total=timeout_seconds)},
        exception_retry_configuration=None,
    )
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
        raise Unavailable(f"{what}: the RPC can't be reached ({type(error).__name__})") from error
    except ClientResponseError as error:
        # Its text and its request both hold the URL.
        raise _make_http_error(what, error.status, lands=lands) from None
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
    except (Web3Exception, ValueError) as error:
        raise Misbehaved(f"{what}: the RPC's answer can't be read ({type(error).__name__})") from error


def make_rpc_error(what: str, error: Mapping[str, JSON]) -> BackendError:
    """Make the error for a JSON-RPC error object."""
    code, message = error.get("code"), str(error.get("message", ""))
    if code == _REVERTED or "revert" in message.lower():
        return Reverted(f"{what}: {message}", _parse_hex(error.get("data")))
    if code in (_LIMIT_EXCEEDED, 429):
        return Throttled(f"{what}: the RPC wants us to wait ({message})", code=str(code))
    return RpcRefused(
        f"{what}: the RPC refused ({code}: {message})", code=str(code), detail=error.get("data")
    )


async def request(web3: Web3, method: str, params: Sequence[JSON]) -> JSON:
    """Ask one question; return its `result`, as JSON-RPC has it.

    Raises Unavailable, Throttled, Misbehaved, RpcRefused or Reverted.
    """
    with translated(method):
        response: Any = await web3.provider.make_request(method, list(params))
    return _read_response(method, response)


async def request_many(web3: Web3, questions: Sequence[tuple[str, Sequence[JSON]]]) -> list[JSON]:
    """Ask many questions in as few requests as the RPC allows; return the results in their order.

    Raises as `request`, for the first that failed.
    """
    results: list[JSON] = []
    for start in range(0, len(questions), _BATCH_SIZE):
        chunk = [(method, list(params)) for method, params in questions[start : start + _BATCH_SIZE]]
        if len(chunk) == 1:
            results.append(await request(web3, *chunk[0]))
            continue
        responses = await _ask_batch(web3, chunk)
        pairs = zip(chunk, responses, strict=True)
        results += [_read_response(method, response) for (method, _), response in pairs]
    return results


async def _ask_batch(web3: Web3, questions: list[tuple[str, list[JSON]]]) -> list[Any]:
    try:
        with translated("a batch"):
            answer: Any = await web3.provider.make_batch_request(questions)  # type: ignore[arg-type]
    except (TypeError, KeyError, AttributeError) as error:
        # web3 sorts the answers by their ids, and trusts that they have some.
        raise Misbehaved(f"the RPC's answer to a batch can't be read ({type(error).__name__})") from error
    responses = answer if isinstance(answer, list) else [answer]
    if len(responses) == 1:
        _read_response("a batch", responses[0])  # one error object for all of them
    if len(responses) != len(questions):
        raise Misbehaved(f"the RPC answered {len(responses)} of {len(questions)} questions")
    if any(not isinstance(response, dict) or response.get("id") is None for response in responses):
        raise Misbehaved("the RPC's answer to a batch does not say what it answers")
    return responses


async def fetch_head(web3: Web3, *, behind: int = 0) -> Head:
    """Fetch the newest block, or the one that many blocks before it."""
    head = _parse_head(await request(web3, "eth_getBlockByNumber", ["latest", False]))
    if behind:
        [head] = await fetch_blocks(web3, [max(0, head.number - behind)])
    return head


async def fetch_blocks(web3: Web3, numbers: Sequence[int]) -> list[Head]:
    """Fetch blocks by their numbers. Raises Unavailable for one that the RPC does not have (yet)."""
    questions = [("eth_getBlockByNumber", [hex(number), False]) for number in numbers]
    blocks = await request_many(web3, questions)
    if None in blocks:
        raise Unavailable("the RPC does not have that block yet")
    return [_parse_head(block) for block in blocks]


async def fetch_chain_id(web3: Web3) -> int:
    """Fetch the chain's id."""
    return _parse_int({"chain_id": await request(web3, "eth_chainId", [])}, "chain_id")


async def fetch_calls(
    web3: Web3, calls: Sequence[tuple[str, bytes]], *, block: int | None = None
) -> list[bytes]:
    """Call views: (contract, calldata) pairs, at one block; return what each returns. Raises as `request`."""
    at = "latest" if block is None else hex(block)
    questions = [("eth_call", [{"to": contract, "data": "0x" + data.hex()}, at]) for contract, data in calls]
    return [_parse_hex(result) for result in await request_many(web3, questions)]


async def fetch_logs(
    web3: Web3, address: str, topics: Sequence[Sequence[bytes] | None], *, first: int, last: int
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
        logs += [_parse_log(log) for log in found]
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


def _make_http_error(what: str, status: int, *, lands: bool) -> BackendError:
    message = f"{what}: the RPC answered HTTP {status}"
    if status == 429:
        return Throttled(message, http_status=status)
    if status < 500:
        return Rejected(message, http_status=status)
    if lands and status != 503:
        return InDoubt(message, http_status=status)
    return Unavailable(message, http_status=status)


def _parse_log(log: Any) -> Log:
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
