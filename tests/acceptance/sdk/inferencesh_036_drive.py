"""Drive the official SDK inferencesh 0.36.0: `inferencesh_036_drive.py BASE_URL API_KEY [runs]`.

With "runs", what concerns a task's own files is left out: not everything that speaks the API keeps them.

Run it with the Python of a virtual environment that has inferencesh_036.txt installed.
"""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version

import inferencesh
from inferencesh.models import errors
from inferencesh_drive import AsyncDrive, SyncDrive, catch, check, make_words_run


class _Sdk:
    APIError = errors.APIError
    RequirementsNotMetError = errors.RequirementsNotMetError
    UploadFileOptions = inferencesh.UploadFileOptions


def _drive_task_files(client: inferencesh.Inference) -> None:
    """Look at the files of a task, delete them, delete the task."""
    uploaded = client.files.upload(b"abc")
    task = client.run({"app": "demo/file-length", "input": {"file": uploaded["uri"]}})
    listed = client.tasks.files(task["id"], role="input").data
    check("sync tasks.files: the input file", [file["id"] for file in listed] == [uploaded["id"]])
    deleted = client.tasks.delete_files(task["id"]).data
    check("sync tasks.delete_files", deleted == {"deleted": [uploaded["id"]], "skipped": []})
    client.tasks.delete(task["id"])
    gone = catch(_Sdk.APIError, lambda: client.tasks.get(task["id"]))
    check("sync tasks.delete: gone", (gone.status_code, gone.code) == (404, "not_found"))


def _drive_news(client: inferencesh.Inference, base_url: str) -> None:
    """Do what 0.7.8 could not: rejected tasks, deltas, codes of errors."""
    rejected = catch(RuntimeError, lambda: client.run({"app": "demo/rejected", "input": {}}))
    check("sync run refused at admission: rejected", "rejected: payment method" in str(rejected))
    updates = client.run(make_words_run(), stream=True)
    check("sync stream: deltas", any(update.get("_delta") for update in updates))
    stranger = inferencesh.Inference(api_key="inf_wrong", base_url=base_url)
    refused = catch(_Sdk.APIError, lambda: stranger.run({"app": "demo/echo", "input": {}}))
    check("sync run with a wrong key: 401", (refused.status_code, refused.code) == (401, "unauthorized"))


def main(base_url: str, api_key: str, part: str = "all") -> None:
    """Drive both clients."""
    check("the SDK is 0.36.0", version("inferencesh") == "0.36.0")
    client = inferencesh.Inference(api_key=api_key, base_url=base_url)
    SyncDrive(client, _Sdk, lambda response: response.data).drive()
    _drive_news(client, base_url)
    if part == "all":
        _drive_task_files(client)
    asynchronous = inferencesh.AsyncInference(api_key=api_key, base_url=base_url)
    asyncio.run(AsyncDrive(asynchronous, _Sdk, lambda response: response.data).drive())


if __name__ == "__main__":
    main(*sys.argv[1:])
