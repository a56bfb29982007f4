"""HTTP for adapters: one pooled client per backend, and its errors in the gateway's words."""

from gateway.http.answer import (
    Answer,
    encode_json,
    make_status_error,
    parse_json,
    parse_retry_after,
)
from gateway.http.client import HttpClient, StreamAnswer
from gateway.http.rates import parse_rate_limit

__all__ = [
    "Answer",
    "HttpClient",
    "StreamAnswer",
    "encode_json",
    "make_status_error",
    "parse_json",
    "parse_rate_limit",
    "parse_retry_after",
]
