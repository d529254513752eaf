"""``fathom serve``: the gateway and its playground."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fathom.errors import UsageError
from fathom.uris import ModelURI, split_uris

if TYPE_CHECKING:
    from fathom.serve.config import ModelEntry

__all__ = ["serve"]


def serve(
    config: Annotated[Path | None, typer.Argument(help="A TOML file; without it, one model is served locally.")] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="A name or URI to serve; may be given several times.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen at.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = None,
    log: Annotated[bool, typer.Option("--log", help="Log every request; prompts only where the file says so.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes behind the port, each with models of its own.")
    ] = None,
    new_key: Annotated[
        str | None, typer.Option("--new-key", metavar="NAME", help="Make a key for a client, and end.")
    ] = None,
) -> None:
    """Serve models to any OpenAI client, thinking to a deadline, with a playground page.

    [bold]Examples[/bold]

    fathom serve

    fathom serve gateway.toml --port 9000
    """
    import msgspec

    if new_key is not None:
        from fathom.serve.keys import new_key as make_key

        key, lines = make_key(new_key)
        print(f"{lines}\n# The key itself, which is kept nowhere:\n# {key}")
        return
    from fathom.serve.config import Config, check, read_config
    from fathom.serve.listening import event_loop
    from fathom.serve.server import Server

    if model and config is not None:
        raise UsageError("name the models either with --model or in the file, not both")
    settings = read_config(config) if config is not None else Config()
    if model:
        settings = msgspec.structs.replace(settings, models=_entries(model))
    settings = msgspec.structs.replace(
        settings,
        host=host or settings.host,
        port=settings.port if port is None else port,
        workers=workers or settings.workers,
        log=log or settings.log,
    )
    check(settings)

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("fathom.serve").setLevel(logging.INFO if settings.log else logging.WARNING)

    def announce(url: str) -> None:
        print(f"Serving {', '.join(settings.models)} at {url}", flush=True)

    if settings.workers > 1:
        from fathom.serve.workers import serve_by_workers

        serve_by_workers(settings, announce)
        return

    async def run() -> None:
        async with Server(settings) as server:
            announce(server.url)
            await server.serve()

    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(run())


def _entries(uris: list[str]) -> dict[str, ModelEntry]:
    """The models to serve, by the names that clients use. Raises UsageError where two have one name."""
    from fathom.serve.config import ModelEntry

    found: dict[str, ModelEntry] = {}
    for uri in uris:
        name = _short(uri)
        if name in found:
            raise UsageError(f"{found[name].uri} and {uri} would both be called {name!r}: name them in a file")
        found[name] = ModelEntry(uri=uri)
    return found


def _short(uri: str) -> str:
    """What clients call a model that was given by its URI."""
    named = ModelURI.parse(uri)
    if not named.kind:
        return uri.partition("(")[0].strip() or named.place
    if named.kind == "ladder":
        return "ladder:" + ",".join(map(_short, split_uris(named.place)))
    name = named.place.partition("@")[0]
    return Path(name).stem if named.kind == "gguf" else name
