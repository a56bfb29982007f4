"""One script per client, each in a process of its own: it publishes tasks when it is told to.

Argument: the place as JSON, see `benchmarks.ogpu.drive.make_place`. It prints "ready", then answers each line
"publish" or "settle" with a line of JSON, and ends with any other line or with its standard input.
"""
