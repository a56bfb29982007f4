"""The API of inference.sh: apps, tasks, streams, files, and sessions where a backend has them.

An app is the model of its name: "ns/name@version:function" is looked for whole, then without the function,
without the version, and last as "name" alone. Answers are as the API's three generations read them: bare with
`X-API-Version: 2`, else in an envelope that the older and the newer clients both take. A task is a run.
Differences: a task can't be deleted, for it is on the bill, and its files are not listed.
"""

from __future__ import annotations

from gateway.server.callers import KeyScope
from gateway.server.dialects.inferencesh import files, running, sessions, streams, tasks
from gateway.server.dialects.inferencesh.words import PREFIX, tell
from gateway.server.routes import Face, Route

READ, RUN = KeyScope.READ, KeyScope.RUN


def make_face() -> Face:
    """Return the face of the inference.sh API."""
    table = (
        ("POST", "/apps/run", running.run_app, RUN),
        ("POST", "/run", running.run_and_wait, RUN),
        ("POST", "/tasks/list", tasks.list_tasks, READ),
        ("GET", "/tasks/{id}", tasks.get_task, READ),
        ("GET", "/tasks/{id}/status", tasks.get_status, READ),
        ("GET", "/tasks/{id}/stream", streams.stream_task, READ),
        ("POST", "/tasks/{id}/cancel", tasks.cancel_task, RUN),
        ("GET", "/sessions", sessions.list_sessions, READ),
        ("GET", "/sessions/{id}", sessions.get_session, READ),
        ("POST", "/sessions/{id}/keepalive", sessions.keep_session, RUN),
        ("DELETE", "/sessions/{id}", sessions.end_session, RUN),
        ("POST", "/files", files.create_files, RUN),
        ("GET", "/files/{id}", files.get_file, READ),
        ("DELETE", "/files/{id}", files.delete_file, RUN),
        ("PUT", "/files/{id}/content", files.put_content, None),
    )
    routes = [Route(method, PREFIX + path, handle, scope) for method, path, handle, scope in table]
    return Face(PREFIX, routes, tell)
