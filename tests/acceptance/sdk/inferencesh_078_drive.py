"""Drive the official SDK inferencesh 0.7.8: `inferencesh_078_drive.py BASE_URL API_KEY`.

Run it with the Python of a virtual environment that has inferencesh_078.txt installed. This version asks for
the V2 envelope and does not know the status REJECTED.
"""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version

import inferencesh
from inferencesh.models import errors
from inferencesh_drive import AsyncDrive, SyncDrive, catch, check, read_code


class _Sdk:
    APIError = errors.APIError
    RequirementsNotMetError = errors.RequirementsNotMetError
    UploadFileOptions = inferencesh.UploadFileOptions


def main(base_url: str, api_key: str) -> None:
    """Drive both clients."""
    check("the SDK is 0.7.8", version("inferencesh") == "0.7.8")
    client = inferencesh.Inference(api_key=api_key, base_url=base_url)
    SyncDrive(client, _Sdk, lambda task: task).drive()
    stranger = inferencesh.Inference(api_key="inf_wrong", base_url=base_url)
    refused = catch(_Sdk.APIError, lambda: stranger.run({"app": "demo/echo", "input": {}}))
    check(
        "sync run with a wrong key: 401", (refused.status_code, read_code(refused)) == (401, "unauthorized")
    )
    asynchronous = inferencesh.AsyncInference(api_key=api_key, base_url=base_url)
    asyncio.run(AsyncDrive(asynchronous, _Sdk, lambda task: task).drive())


if __name__ == "__main__":
    main(*sys.argv[1:3])
