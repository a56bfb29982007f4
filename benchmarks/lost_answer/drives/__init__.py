"""One script per peer: it runs in the peer's own environment and makes one user call as its docs say.

Arguments: how long the client may wait for an answer in seconds, then the address of each server.
Prints what the caller gets as its last line. These scripts can import nothing of this repository.
"""
