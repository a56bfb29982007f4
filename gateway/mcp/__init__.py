"""The face for assistants: `gateway mcp`, a server of the Model Context Protocol over stdin and stdout.

Nothing is spent without a quote that somebody has seen: `quote` gives each backend's price an id, and `run`
takes such an id. One id is one run, with one attempt, at that backend, for at most that price.
"""
