"""Single tasks, for those who want them without the gateway's runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway_ogpu.acting import Acting
from gateway_ogpu.answers import Answers
from gateway_ogpu.config import parse_address
from gateway_ogpu.errors import NotCancellable, NothingToConfirm, TaskUnknown
from gateway_ogpu.reading import Response, TaskOnChain, fetch_tasks, fetch_views
from gateway_ogpu.wire import TaskStatus

if TYPE_CHECKING:
    from gateway.chain.receipts import Receipt
    from gateway_ogpu.answers import Content


class TaskActs(Acting):
    """Tasks by their addresses."""

    async def get_task(self, address: str) -> TaskOnChain:
        """Fetch a task with its responses. Raises TaskUnknown."""
        parse_address(address)
        async with self.connection.named():
            found = await fetch_tasks(self.connection.rpc, self.connection.contracts.vault, [address])
            task = found[address]
            if task is None:
                raise TaskUnknown(f"there is no task at {address}")
            return task

    async def get_task_responses(
        self, address: str, lower: int = 0, upper: int | None = None
    ) -> Sequence[Response]:
        """Fetch a task's responses, or a slice of them: the upper bound is excluded, as in Python."""
        return (await self.get_task(address)).responses[lower:upper]

    async def get_content(self, response: Response) -> Content:
        """Read what a response says, from the configured gateways, verified; its host is never asked."""
        answers = Answers(self.connection)
        try:
            return (await answers.read_many([response.url], wait_seconds=None))[response.url]
        finally:
            await answers.aclose()

    async def confirm_response(self, response: str) -> Receipt | None:
        """Accept a response, which pays its provider; None if it was confirmed already.

        Raises NothingToConfirm if it is none.
        """
        async with self.connection.named():
            [is_final] = await fetch_views(self.connection.rpc, [(parse_address(response), "confirmedFinal")])
        if is_final is None:
            raise NothingToConfirm(f"there is no response at {response}")
        return None if is_final else await self._call("confirmResponse", response)

    async def cancel_task(self, address: str) -> Receipt:
        """Take a task back that nobody has attempted. Raises NotCancellable, TaskUnknown."""
        task = await self.get_task(address)
        if task.status is not TaskStatus.NEW:
            name = task.status.name
            raise NotCancellable(f"{address} is {name}; only a NEW task can be cancelled", code=name)
        return await self._call("cancelTask", address)

    async def _call(self, function: str, address: str) -> Receipt:
        return await self.act(self.connection.contracts.controller, function, address)
