"""Which of several answers to accept, and pay for."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.task import Accept, Answer
from gateway.types import Money


def choose_answer(
    answers: Sequence[Answer], how: Accept, by_hand: str | None, most: Money | None = None
) -> Answer | None:
    """Return the answer to accept, or None to go on waiting.

    What was chosen by hand wins; else the first valid one, or the valid one of the least price (answers of
    unknown price come last, and of equal price the earlier one), of those that ask for no more than `most`.
    """
    if by_hand is not None:
        return next((answer for answer in answers if answer.id == by_hand), None)
    valid = [answer for answer in answers if answer.valid and not _is_dearer(answer.price, most)]
    if how == "hand" or not valid:
        return None
    if how == "cheapest":
        return min(valid, key=lambda a: (a.price is None, a.price.amount if a.price else 0))
    return valid[0]


def _is_dearer(price: Money | None, most: Money | None) -> bool:
    return price is not None and most is not None and price.asset == most.asset and most < price
