"""web3's log without the RPC's URL: it writes it at DEBUG, and many URLs carry a key in their path."""

from __future__ import annotations

import logging
import re

_LOGGERS = ("web3.providers.AsyncHTTPProvider", "web3.providers.HTTPProvider")
_URL = re.compile(r"(https?://)[^\s'\"`,]+", re.IGNORECASE)


class _HidesUrls(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        record.msg, record.args = _URL.sub(r"\1...", text), ()
        return True


_FILTER = _HidesUrls()


def silence_urls() -> None:
    """Let web3's own loggers hide every URL, from now on and for all who use web3 in this process."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)  # once: a filter that is there is not added again
