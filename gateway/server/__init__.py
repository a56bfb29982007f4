"""The HTTP face: `gateway serve`. Plain ASGI; what a request needs is decided once, at the start.

How to add routes, whatever protocol they speak:

1. A handler is `async def handle(request: Request) -> Response | Stream` (gateway.server.wire). It reads with
   `await request.read(Model)`, `read_json()`, `read_body()`, `stream_body()` (bounded in size and time),
   `request.read_query(Model)`, `request.params["id"]`, `request.get_header(b"x-name")`, and answers with
   `answer_json(value)`, `Response(status, body, headers)` or `Stream(async_generator_of_bytes)`. It raises
   what the gateway raises, or `Refusal(KIND, "why")` (gateway.server.problems); nobody catches for it.
2. Who calls is `request.caller` (gateway.server.callers): `caller.key` is the API key's name, under which
   runs are submitted and found; None while there are no keys, on loopback. Never read a run past
   `await request.service.get_run(request.caller, run_id)`: another key's run is not found. The gateway is
   `request.service.gateway`, asked for anew in each request (a reload swaps it); submit through
   `request.service.submit(request.caller, task, backend, ...)`: it says whose run it is and refuses files of
   this machine.
3. A Route (gateway.server.routes) is a method, a template, the handler and the scope that the key must have
   (`KeyScope.READ`, `RUN`, `ADMIN`, or None for what anybody may see); with an `Operation` it is in
   /openapi.json.
4. Routes stand in a Face: a prefix, how its errors are told (`tell`: RFC 9457 unless said otherwise), and
   where its clients put the key (`read_key`: Authorization: Bearer, or X-API-Key). `make_faces` in
   gateway/server/app.py lists the faces; a dialect lives in gateway/server/dialects/. The tests in
   tests/server/test_every_route.py go over every route of the table.

What must be done beside requests stands in `Service` (gateway.server.service).
"""
