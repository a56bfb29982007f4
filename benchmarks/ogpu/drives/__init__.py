"""One script per client, each in a process of its own: it publishes tasks when it is told to.

Argument: the place as JSON, see `benchmarks.ogpu.drive.make_place`. It prints "ready", waits for a line, publishes,
prints what came of it as JSON, and ends with its standard input.
"""
