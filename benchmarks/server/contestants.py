"""Who is measured: how each is installed, configured as its documentation says for production, and called."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.environments import PLACE, Environment, NotInstalledError

LITELLM_PROXY = Environment("litellm_proxy", ("litellm[proxy]==1.106.2",))
STARLETTE = Environment("starlette", ("starlette==1.10.0", "uvicorn[standard]==0.54.0", "httpx==0.28.1"))
PORTKEY = "1.15.2"
CHAT_PATH = "/v1/chat/completions"
_DRIVES = Path(__file__).parent / "drives"

_OURS = """\
[gateway]
store = "sqlite:///runs.db"

[backends.node]
adapter = "infernet"
url = "{upstream}"

[backends.api]
adapter = "inferencesh"
url = "{upstream}"
api_key = "none"

[models.echo]
targets = {{ node = {{ containers = ["echo"] }} }}
openai = {{ chat = {{ input = {{ text = "$.messages[-1].content" }}, output = "$.text" }} }}

[models.speaker]
targets = {{ node = {{ containers = ["speaker"] }} }}
openai = {{ chat = {{}} }}

[models.teller]
targets = {{ api = {{ app = "acme/teller@1", cost = "0 USD" }} }}

[models.teller.openai.chat]
input = {{ text = "$.messages[-1].content" }}
output = "$.response"
piece = "$.response"
"""
_LITELLM = """\
model_list:
  - model_name: echo
    litellm_params: {{ model: openai/echo, api_base: "{upstream}/v1", api_key: none }}
  - model_name: speaker
    litellm_params: {{ model: openai/speaker, api_base: "{upstream}/v1", api_key: none }}
litellm_settings: {{ set_verbose: false, request_timeout: 600 }}
"""
_NGINX = """\
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream mock {{ server {address}; keepalive 100; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Started:
    """How a contestant is run: its command, beside what it is told through its environment."""

    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server between the client and the mock.

    Attributes:
        label: in the table.
        start: says how it is run, given an empty folder, the mock's URL and a free port; installs it first.
            Raises NotInstalledError.
        prefix: of its paths.
        speaker: its model that streams.
        headers: that its clients send, given the mock's URL.
    """

    label: str
    start: Callable[[Path, str, int], Started]
    prefix: str = ""
    speaker: str = "speaker"
    headers: Callable[[str], Mapping[str, str]] = lambda _: {"authorization": "Bearer none"}


def _start_ours(folder: Path, upstream: str, port: int) -> Started:
    config = folder / "gateway.toml"
    config.write_text(_OURS.format(upstream=upstream))
    words = ("serve", "--port", str(port), "--config", str(config))
    return Started((sys.executable, "-m", "gateway", *words))


def _start_litellm(folder: Path, upstream: str, port: int) -> Started:
    program = Path(LITELLM_PROXY.install()).with_name("litellm")
    config = folder / "litellm.yaml"
    config.write_text(_LITELLM.format(upstream=upstream))
    words = ("--host", "127.0.0.1", "--port", str(port), "--config", str(config), "--num_workers", "1")
    variables = {
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # ours asks for none either
    }
    return Started((str(program), *words), variables)


def _start_portkey(_: Path, __: str, port: int) -> Started:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NotInstalledError("Portkey's gateway needs node and npm")
    place = PLACE / f"portkey-{PORTKEY}"
    program = place / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    if not program.is_file():
        place.mkdir(parents=True, exist_ok=True)
        words = ("install", "--silent", "--no-audit", "--no-fund", "--prefix", str(place))
        call = [npm, *words, f"@portkey-ai/gateway@{PORTKEY}"]
        if subprocess.run(call, capture_output=True, check=False).returncode:  # noqa: S603  our own words
            raise NotInstalledError(f"npm can't install @portkey-ai/gateway {PORTKEY}")
    return Started((node, str(program), f"--port={port}", "--headless"), {"NODE_ENV": "production"})


def _start_starlette(_: Path, upstream: str, port: int) -> Started:
    python = STARLETTE.install()
    variables = {"UPSTREAM": upstream, "PORT": str(port)}
    return Started((python, str(_DRIVES / "starlette_httpx.py")), variables)


def _start_nginx(folder: Path, upstream: str, port: int) -> Started:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise NotInstalledError("nginx is not installed (Debian: apt-get install nginx-light)")
    config = folder / "nginx.conf"
    address = upstream.removeprefix("http://")
    config.write_text(_NGINX.format(folder=folder, address=address, port=port))
    return Started((program, "-p", str(folder), "-c", str(config)))


OURS = Contestant("this gateway, SQLite store", _start_ours, prefix="/openai")
OURS_TELLING = replace(OURS, label="this gateway, from inference.sh's lines", speaker="teller")
LITELLM = Contestant("LiteLLM proxy 1.106.2", _start_litellm)
PORTKEY_GATEWAY = Contestant(
    f"Portkey gateway {PORTKEY}",
    _start_portkey,
    headers=lambda upstream: {
        "authorization": "Bearer none",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"{upstream}/v1",
    },
)
STARLETTE_HTTPX = Contestant("Starlette 1.10.0 with httpx 0.28.1, by hand", _start_starlette)
NGINX = Contestant("nginx", _start_nginx)


def make_body(model: str, text: str = "hello", *, stream: bool = False) -> bytes:
    """Return a chat completion's request."""
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    return json.dumps({**body, "stream": True} if stream else body).encode()
