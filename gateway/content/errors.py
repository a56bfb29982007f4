"""What can be wrong with content, each as an error of its own kind.

    BackendError
    ├── Rejected                    no/no/yes
    │   ├── ContentTampered         the bytes do not hash to the CID that was asked for
    │   │   └── ContentSwapped      a whole and proper answer, but of other content
    │   ├── ContentUnverified       nothing proves the answer, right or wrong; it is not given out
    │   ├── ContentTooLarge         more than the caller's limit
    │   └── ContentUnreadable       the CID is right, but what it names is no file that we read
    └── Unavailable                 no/yes/yes
        ├── ContentNotFound         nobody who was asked has it (yet)
        └── ContentTruncated        the answer ended too early; nobody is to blame

Storing and reading content spends nothing, so none of them ever leaves a submission in doubt.
"""

from __future__ import annotations

from gateway.errors import BackendError, Rejected, Unavailable


class BadCid(ValueError):
    """This text or these bytes are not a CID, or not one that we read. Raised by the pure functions."""


class ContentTampered(Rejected):
    """The bytes do not hash to the CID that was asked for. Nothing of them is given out."""


class ContentSwapped(ContentTampered):
    """The answer is whole and proper, but it is other content than was asked for."""


class ContentUnverified(Rejected):
    """Nothing proves that the answer belongs to the CID: no blocks, and no known import profile gives it."""


class ContentTooLarge(Rejected):
    """More than the caller's limit; the reading stopped there."""


class ContentUnreadable(Rejected):
    """The CID names no file that we read: a directory, an unknown codec or hash, a DAG against the rules."""


class ContentNotFound(Unavailable):
    """Nobody who was asked has it. It may come: what was just stored takes time to be found elsewhere."""


class ContentTruncated(Unavailable):
    """The answer ended too early, or blocks are missing. The next answer may be whole."""


def rename_error(error: BackendError, backend: str) -> BackendError:
    """Make the same error again with the name of who answered so."""
    if error.backend:
        return error
    return type(error)(
        error.message, backend=backend, code=error.code, http_status=error.http_status, detail=error.detail
    )
