"""REST and the annotator in a process of their own, to be killed: `python -m tests.browser.site_process DATA PORT`."""

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from axons.app import pages
from axons.app.build import build_api
from axons.app.gate import Gate
from axons.app.platform import Platform
from axons.app.settings import Settings


def build() -> FastAPI:
    """What `build_site` makes, without Gradio, which takes seconds to import."""
    app = FastAPI(openapi_url=None)
    app.include_router(pages.front)
    app.mount("/api", build_api())
    return app


if __name__ == "__main__":
    folder, port = sys.argv[1:]
    platform = Platform.open(Settings(data=Path(folder), public_url=f"http://127.0.0.1:{port}"))
    uvicorn.run(Gate(build(), platform), host="127.0.0.1", port=int(port), log_level="error")
