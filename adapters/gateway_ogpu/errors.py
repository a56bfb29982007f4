"""Why OGPU does not take something, each as an error of its own kind.

    BackendError
    ├── Rejected                    no/no/yes
    │   └── OgpuRefused             the contracts refuse it; `code` is their word, where they have one
    │       ├── SourceUnknown       the Nexus has no source of that address
    │       ├── SourceInactive      its client has taken it out of service, for ever
    │       ├── NotAllowed          the source is somebody else's, and our key is no agent of theirs
    │       ├── PaymentTooLow       less than the source takes
    │       ├── ExpiryRefused       longer than the source allows, or over already
    │       ├── VaultTooLow         the client's balance in the vault does not cover it
    │       ├── NotCancellable      somebody has attempted the task, or it is over
    │       ├── NothingToConfirm    the response is none, or its task is over
    │       ├── TaskUnknown         there is no task at that address
    │       ├── RevertedInBlock     it was sent, and the state had changed: only its gas was paid
    │       └── NoKey               neither key nor signer is configured
    └── (errors of gateway.chain and gateway.content as they are: WrongChain, InsufficientFunds, ...)

All of them but RevertedInBlock are raised before anything is sent, so nothing was paid.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.chain.rpc import Reverted
from gateway.errors import Rejected
from gateway_ogpu.contracts import ERRORS


class OgpuRefused(Rejected):
    """The contracts refuse it."""


class SourceUnknown(OgpuRefused):
    """The Nexus has no source of that address."""


class SourceInactive(OgpuRefused):
    """The source is out of service, which is for ever."""


class NotAllowed(OgpuRefused):
    """The source (or task, or response) is somebody else's, and our key is no agent of theirs."""


class PaymentTooLow(OgpuRefused):
    """The payment is less than the source takes."""


class ExpiryRefused(OgpuRefused):
    """The expiry is longer than the source allows, or has passed."""


class VaultTooLow(OgpuRefused):
    """The client's balance in the vault does not cover it: `deposit` first."""


class NotCancellable(OgpuRefused):
    """Somebody has attempted the task, or it is over."""


class NothingToConfirm(OgpuRefused):
    """The response is none, or its task is over."""


class TaskUnknown(OgpuRefused):
    """There is no task at that address."""


class RevertedInBlock(OgpuRefused):
    """It was sent, and reverted, for the state had changed meanwhile. Only its gas was paid."""


class NoKey(OgpuRefused):
    """Signing needs a key, and the configuration has neither private_key nor keystore."""


_KINDS: Mapping[str, type[OgpuRefused]] = {
    "SourceInactive": SourceInactive,
    "NotOwner": NotAllowed,
    "OwnableUnauthorizedAccount": NotAllowed,
    "AccessControlUnauthorizedAccount": NotAllowed,
    "InsufficientPayment": PaymentTooLow,
    "InsufficientBalance": VaultTooLow,
    "Expired": ExpiryRefused,
    "ExpiryTooLong": ExpiryRefused,
}
"""The contracts' words as far as they are known. The SDK's list was never verified on the live chain, so a
missing word only makes the error a plain OgpuRefused."""


def explain_revert(error: Reverted, what: str) -> OgpuRefused:
    """Make the error for a call that would revert."""
    reason = error.explain(ERRORS)
    kind = _KINDS.get(reason.name, OgpuRefused)
    return kind(f"{what} would revert: {reason}", code=reason.name or None)
