"""The page: python app.py

What the server offers, nothing else: visualize/answers.py answers, visualize/server.py says what it lets in,
and visualize/page is the page. Host and port come from Gradio's own environment variables, GRADIO_SERVER_NAME
and GRADIO_SERVER_PORT.
"""

import errno
import gzip
import hashlib
import logging
import os
import sys
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles

from visualize.server import bound_connections, check_port, end_on_sigterm, kept, prepare, wait_until_stopped

REFRESH = {"Cache-Control": "no-cache"}  # kept by the browser, which asks whether there is something newer
KEEP = {"Cache-Control": "public, max-age=31536000, immutable"}  # another content has another name


def make_app() -> FastAPI:
    """The whole app, for any ASGI server, or for another app: `other.mount("/attnscope", make_app())`."""
    server = make_server()
    import gradio as gr

    from visualize.picture import MAX_BYTES

    with gr.Blocks(mode="server", analytics_enabled=False) as blocks:
        for name, function in server.state.functions.items():
            gr.api(function, api_name=name, concurrency_limit=None)
    blocks.max_file_size, blocks.state_session_capacity = MAX_BYTES, 100  # as for `launch` below
    blocks.show_error = blocks.run_history = False
    return server.create_app(blocks, app=server, mcp_server=False)


@kept()
def make_server() -> FastAPI:
    """The app without Gradio's part, which `launch` adds."""
    prepare()  # before what else is imported: Gradio makes folders among the temporary files
    import gradio as gr

    from visualize.answers import PAGE, REFUSALS, Answers, page_with, refuse, start_value
    from visualize.device import PARTS, device, edition
    from visualize.gate import Gate

    answers = Answers()
    server = gr.Server(title="AttnScope", openapi_url=None, docs_url=None, redoc_url=None)
    alone = device()
    page = page_with(start_value() | {"device": alone})
    packed, tag = gzip.compress(page), f'"{hashlib.sha256(page).hexdigest()[:16]}"'

    @server.api_route("/", methods=["GET", "HEAD"])
    def index(request: Request) -> Response:
        headers = REFRESH | {"ETag": tag, "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(packed, media_type="text/html", headers=headers | {"Content-Encoding": "gzip"})
        return Response(page, media_type="text/html", headers=headers)

    class Files(StaticFiles):
        def __init__(self, directory: Path, headers: dict[str, str]):
            super().__init__(directory=directory)
            self.headers = headers

        def file_response(self, *arguments, **settings) -> Response:
            response = super().file_response(*arguments, **settings)
            response.headers.update(self.headers)
            return response

    server.mount("/page", Files(PAGE, REFRESH))
    if alone:
        server.mount(f"/{PARTS}", Files(edition() / PARTS, KEEP))
    for name in ("look", "row", "file", "decode", "features", "probabilities"):
        server.post(f"/{name}", response_model=None)(getattr(answers, name))
    for name in ("card", "evidence"):
        server.get(f"/{name}/{{name}}", response_model=None)(getattr(answers, name))
    for error in REFUSALS:
        server.add_exception_handler(error, refuse)

    functions = server.state.functions = {"compare": answers.compare, "mechanisms": answers.mechanisms}
    for name, function in functions.items():
        server.api(function, name=name, concurrency_limit=None)  # answers.line is the queue

    async def start() -> None:
        if not server.startup_events_triggered:
            server.startup_events_triggered = True
            server.get_blocks().run_startup_events()
            await server.get_blocks().run_extra_startup_events()

    def waiting(session: str) -> bool:
        return bool(server.get_blocks()._queue.pending_event_ids_session.get(session))

    async def forget(session: str) -> None:
        queue = server.get_blocks()._queue
        await queue.clean_events(session_hash=session)  # what is under way says nothing any more
        for held in (queue.pending_messages_per_session, queue.pending_event_ids_session):
            held.pop(session, None)

    whose = {"waiting": waiting, "gone": answers.gone, "forget": forget}
    server.add_middleware(Gate, functions=functions, start=start, **whose)
    return server


def where() -> tuple[str, int]:
    """Host and port, as Gradio reads them: before it is there, for it takes seconds to come."""
    return os.getenv("GRADIO_SERVER_NAME", "127.0.0.1"), int(os.getenv("GRADIO_SERVER_PORT", "7860"))


def main() -> None:
    logging.basicConfig(format="%(message)s")
    try:
        host, port = where()
        check_port(host, port)
    except (ValueError, OverflowError):
        sys.exit("GRADIO_SERVER_PORT must be a number up to 65535.")
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = (
            "is taken: set GRADIO_SERVER_PORT to a free one" if taken else f"cannot be used: {error.strerror}"
        )
        sys.exit(f"Port {port} of {host} {why}.")
    end_on_sigterm()
    server = make_server()
    server.launch(
        server_port=port,
        max_threads=400,
        max_file_size="20mb",
        footer_links=[],
        show_error=False,
        enable_monitoring=False,
        run_history=False,
        ssr_mode=False,
        strict_cors=True,
        pwa=False,
        state_session_capacity=100,
        prevent_thread_lock=True,
    )
    running = server.get_blocks().server
    bound_connections(running.config)
    wait_until_stopped(running)


if __name__ == "__main__":
    main()
