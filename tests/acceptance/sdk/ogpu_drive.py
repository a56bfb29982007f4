"""Drive OGPU's contracts and pin service with the official SDK, ogpu 0.2.3, and check every answer.

Usage: python ogpu_drive.py '{"rpc_url": ..., "pin_url": ..., "contracts": {"nexus", "controller", "terminal",
"vault"}, "keys": {"client", "agent", "stranger", "provider"}, "providers": 3}'

The SDK knows two networks and one pin service by heart. Here its main network is made the local one, by three
assignments to its own module variables (see `point_at`); the chain behind `rpc_url` must have that id, 1071.
The script runs in an environment of its own (ogpu.txt beside this file), for the SDK wants web3 below 8, and
imports nothing of the gateway. Prints one line per check; the exit status is 1 at the first wrong answer.
"""
# ruff: noqa: T201 - its lines are its result

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from eth_account import Account
from ogpu import client
from ogpu.chain.config import ChainConfig, ChainId
from ogpu.ipfs import publish
from ogpu.protocol import Master, Provider, Response, Source, Task, nexus, terminal, vault
from ogpu.types import errors
from ogpu.types.enums import DeliveryMethod, Environment, ResponseStatus, SourceStatus, TaskStatus
from ogpu.types.metadata import ImageEnvironments, SourceInfo, TaskInfo, TaskInput

OGPU = 10**18
PRICE = OGPU // 100
TEXT = "VADER is smart, handsome, and funny."
SCORES = {"neg": 0.0, "neu": 0.254, "pos": 0.746, "compound": 0.8316}  # as published with VADER
WAIT_SECONDS = 60.0


@dataclass
class World:
    """What the checks know and hand on to each other."""

    keys: dict[str, str]
    providers: int
    sources: dict[str, Source] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)

    def address(self, who: str) -> str:
        """Return the address of one of the keys."""
        return str(Account.from_key(self.keys[who]).address)


def point_at(place: dict[str, Any]) -> None:
    """Make the SDK's main network the local one."""
    ChainConfig.CHAIN_CONTRACTS[ChainId.OGPU_MAINNET] = {
        name.upper(): address for name, address in place["contracts"].items()
    }
    ChainConfig.set_chain(ChainId.OGPU_MAINNET)
    ChainConfig.set_rpc(place["rpc_url"])
    publish._IPFS_PUBLISH_URL = place["pin_url"]


def check(what: str, got: Any, expected: Any) -> None:
    """Fail unless it is what was expected (an assert would vanish under -O)."""
    if got != expected:
        raise AssertionError(f"{what}: got {got!r}, expected {expected!r}")


def refuse(kind: type[Exception], act: Callable[[], Any]) -> str:
    """Fail unless `act` raises that error; return its name."""
    try:
        act()
    except kind as error:
        return type(error).__name__
    raise AssertionError(f"it was not refused with {kind.__name__}")


def wait_for(what: str, look: Callable[[], Any], expected: Any) -> None:
    """Wait until `look` returns what is expected."""
    until = time.monotonic() + WAIT_SECONDS
    while (got := look()) != expected:
        if time.monotonic() > until:
            check(what, got, expected)
        time.sleep(0.1)


def make_source(name: str, **changes: Any) -> SourceInfo:
    """Describe a source that all providers can serve."""
    fields: dict[str, Any] = {
        "name": name,
        "description": "sentiment",
        "logoUrl": "",
        "imageEnvs": ImageEnvironments(cpu="https://compose.invalid/cpu.yml"),
        "minPayment": PRICE // 10,
        "minAvailableLockup": OGPU,
        "maxExpiryDuration": 3600,
        "deliveryMethod": DeliveryMethod.FIRST_RESPONSE,
    }
    return SourceInfo(**{**fields, **changes})


def put_task(source: Source, key: str, **changes: Any) -> Task:
    """Publish a task that asks for the demo text's sentiment."""
    fields: dict[str, Any] = {
        "source": source.address,
        "config": TaskInput(function_name="predict", data={"text": TEXT}),
        "expiryTime": int(time.time()) + 900,
        "payment": PRICE,
    }
    return client.publish_task(TaskInfo(**{**fields, **changes}), key)


def check_vault(world: World) -> str:
    key, me = world.keys["stranger"], world.address("stranger")
    before = vault.get_balance_of(me)
    vault.deposit(me, 3 * OGPU, signer=key)
    check("deposited", vault.get_balance_of(me), before + 3 * OGPU)
    vault.lock(2 * OGPU, signer=key)
    vault.unbond(OGPU, signer=key)
    check("lockup and unbonding", (vault.get_lockup_of(me), vault.get_unbonding_of(me)), (OGPU, OGPU))
    refused = refuse(errors.UnbondingPeriodNotElapsedError, lambda: vault.claim(signer=key))
    vault.cancel_unbonding(signer=key)
    check("lockup", vault.get_lockup_of(me), 2 * OGPU)
    vault.withdraw(OGPU, signer=key)
    check("withdrawn", vault.get_balance_of(me), before)
    more = refuse(errors.InsufficientBalanceError, lambda: vault.withdraw(before + 1, signer=key))
    check("eligible", vault.is_eligible(me), True)
    return f"deposit, lock, unbond, cancel_unbonding, withdraw; {refused}, {more}"


def check_sources(world: World) -> str:
    key = world.keys["client"]
    world.sources["first"] = client.publish_source(make_source("first"), key)
    manual = make_source("manual", deliveryMethod=DeliveryMethod.MANUAL_CONFIRMATION)
    world.sources["manual"] = client.publish_source(manual, key)
    unserved = make_source("unserved", minAvailableLockup=10**9 * OGPU)
    world.sources["unserved"] = client.publish_source(unserved, key)
    source = world.sources["first"]
    check("client", source.get_client(), world.address("client"))
    check("metadata", source.get_metadata()["name"], "first")
    for name in ("first", "manual"):
        wait_for("registrants", world.sources[name].get_registrant_count, world.providers)
    provider = source.get_registrants()[0]
    check("id", source.get_registrant_id(provider), 1)
    check("environment", source.get_preferred_environment_of(provider), Environment.CPU)
    check("tasks", source.snapshot().task_count, 0)
    return f"three, with {world.providers} providers each but for the one that wants too much lockup"


def check_first_response(world: World) -> str:
    task = world.tasks["first"] = put_task(world.sources["first"], world.keys["client"])
    wait_for("status", task.get_status, TaskStatus.FINALIZED)
    response = task.get_confirmed_response()
    if response is None:
        raise AssertionError("no response is confirmed")
    check("confirmed", (response.is_confirmed(), response.get_status()), (True, ResponseStatus.CONFIRMED))
    output = response.fetch_data()
    check("scores", {name: output[name] for name in SCORES}, SCORES)
    winner = task.get_winning_provider()
    check("winner", winner, response.get_params().provider)
    if Provider(winner).get_total_earnings() < PRICE:
        raise AssertionError("the winner was not paid the whole price")
    check("frozen", vault.get_frozen_payment(task.address), 0)
    late = refuse(
        errors.TaskAlreadyFinalizedError, lambda: client.cancel_task(task.address, world.keys["client"])
    )
    check("snapshot", task.snapshot().status, TaskStatus.FINALIZED)
    return f"{output['label']}, {output['compound']}; cancel: {late}"


def check_manual(world: World) -> str:
    key = world.keys["client"]
    task = world.tasks["manual"] = put_task(world.sources["manual"], key)
    wait_for("responses", lambda: len(task.get_responses()), world.providers)
    check("attempts", (task.get_attempt_count(), len(task.get_attempters())), (world.providers,) * 2)
    check("timestamps", len(task.get_attempt_timestamps()), world.providers)
    check("status", task.get_status(), TaskStatus.RESPONDED)
    check("frozen", vault.get_frozen_payment(task.address), PRICE)
    responses = client.get_task_responses(task.address)
    cheapest = min(responses, key=lambda response: int(response.get_params().payment))
    asked = int(cheapest.get_params().payment)
    before = vault.get_balance_of(world.address("client"))
    client.confirm_response(cheapest.address, key)
    check("status", task.get_status(), TaskStatus.FINALIZED)
    check("change", vault.get_balance_of(world.address("client")), before + PRICE - asked)
    check("snapshot", Response(cheapest.address).snapshot().status, ResponseStatus.CONFIRMED)
    twice = refuse(
        errors.ResponseAlreadyConfirmedError, lambda: client.confirm_response(cheapest.address, key)
    )
    other = next(response for response in responses if response.address != cheapest.address)
    late = refuse(errors.TaskAlreadyFinalizedError, lambda: client.confirm_response(other.address, key))
    return f"{len(responses)} answers, the cheapest for {asked / PRICE:.0%} confirmed; {twice}, {late}"


def check_cancel(world: World) -> str:
    key, me = world.keys["client"], world.address("client")
    before = vault.get_balance_of(me)
    task = put_task(world.sources["unserved"], key)
    check("status", task.get_status(), TaskStatus.NEW)
    check("paid", vault.get_balance_of(me), before - PRICE)
    foreign = refuse(
        errors.NotTaskOwnerError, lambda: client.cancel_task(task.address, world.keys["stranger"])
    )
    client.cancel_task(task.address, key)
    check("status", task.get_status(), TaskStatus.CANCELED)
    check("refunded", vault.get_balance_of(me), before)
    twice = refuse(errors.TaskAlreadyFinalizedError, lambda: client.cancel_task(task.address, key))
    return f"refunded; {foreign}, {twice}"


def check_expiry(world: World) -> str:
    key, me = world.keys["client"], world.address("client")
    before = vault.get_balance_of(me)
    task = put_task(world.sources["unserved"], key, expiryTime=int(time.time()) + 4)
    while time.time() < task.get_expiry_time() + 2:
        time.sleep(0.2)
    check("status is lazy", task.get_status(), TaskStatus.NEW)
    nexus.attempt(task.address, world.address("provider"), 0, signer=world.keys["provider"])
    check("status", task.get_status(), TaskStatus.EXPIRED)
    check("attempts", task.get_attempt_count(), 0)
    check("refunded", vault.get_balance_of(me), before)
    return "the attempt after it marks EXPIRED and refunds"


def check_refusals(world: World) -> str:
    key, source = world.keys["client"], world.sources["first"]
    said = [
        refuse(errors.TxRevertError, lambda: put_task(source, key, payment=1)),
        refuse(errors.TxRevertError, lambda: put_task(source, key, expiryTime=int(time.time()) + 7200)),
        refuse(errors.InsufficientBalanceError, lambda: put_task(source, key, payment=10**9 * OGPU)),
        refuse(errors.OGPUError, lambda: put_task(source, world.keys["stranger"])),
    ]
    return ", ".join(said)


def check_agent(world: World) -> str:
    client_key, agent_key = world.keys["client"], world.keys["agent"]
    agent, source = world.address("agent"), world.sources["first"]
    client.set_agent(agent, True, client_key)
    check("agent", terminal.is_agent_of(world.address("client"), agent), True)
    before = vault.get_balance_of(world.address("client"))
    put_task(source, agent_key)
    check("the client pays", vault.get_balance_of(world.address("client")), before - PRICE)
    client.set_agent(agent, False, client_key)
    revoked = refuse(errors.OGPUError, lambda: put_task(source, agent_key))
    client.set_agent(agent, True, client_key)
    return f"publishes for the client; revoked: {revoked}"


def check_lists(world: World) -> str:
    source = world.sources["first"]
    tasks = source.get_tasks()
    check("count", len(tasks), source.get_task_count())
    check("from the second on", source.get_tasks(lower=1), tasks[1:])
    provider = Provider(world.address("provider"))
    check("provider", provider.snapshot().is_provider, True)
    check("master", Master(provider.get_master()).is_master(), True)
    return f"{len(tasks)} tasks"


def check_source_changes(world: World) -> str:
    key, source = world.keys["client"], world.sources["unserved"]
    foreign = refuse(
        errors.NotSourceOwnerError, lambda: client.inactivate_source(source.address, world.keys["stranger"])
    )
    client.update_source(source.address, make_source("renamed"), key)
    check("metadata", source.get_metadata()["name"], "renamed")
    client.inactivate_source(source.address, key)
    check("status", source.get_status(), SourceStatus.INACTIVE)
    inactive = refuse(errors.SourceInactiveError, lambda: put_task(source, key))
    return f"renamed, inactivated; {foreign}, {inactive}"


CHECKS: list[tuple[str, Callable[[World], str]]] = [
    ("vault", check_vault),
    ("publish_source", check_sources),
    ("publish_task, FIRST_RESPONSE", check_first_response),
    ("publish_task, MANUAL_CONFIRMATION, confirm_response", check_manual),
    ("cancel_task", check_cancel),
    ("expiry", check_expiry),
    ("tasks that are refused", check_refusals),
    ("set_agent", check_agent),
    ("lists", check_lists),
    ("update_source, inactivate_source", check_source_changes),
]


def drive(place: dict[str, Any]) -> int:
    """Run all checks; return the exit status."""
    point_at(place)
    print(f"ogpu {version('ogpu')} at {place['rpc_url']}")
    world = World(place["keys"], place["providers"])
    for name, run in CHECKS:
        try:
            said = run(world)
        except Exception:  # noqa: BLE001 - whatever goes wrong is a failed check, and shown
            traceback.print_exc()
            print(f"FAILED {name}")
            return 1
        print(f"ok {name}: {said}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(drive(json.loads(sys.argv[1])))
