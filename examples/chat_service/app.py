"""A chat service whose answers come word by word, and whose memory is kept while Redis comes and goes."""

# ruff: noqa: INP001 - an example is no package

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field
from scripted_llm import ScriptedLLM

from remanence import (
    AsyncDecoratedManager,
    AsyncRedisWorkingMemoryManager,
    Fallback,
    JournalError,
    Memories,
    VersionConflictError,
    resilient,
)

__all__ = ["app"]

REDIS_URL: Final = os.environ.get("REDIS_URL", "redis://localhost:6379/1")
JOURNAL: Final = os.environ.get("JOURNAL", "pending.journal")
"""A file on a local disk: all workers of this host share it, and it outlives them."""
JOURNAL_MAX_ENTRIES: Final = int(os.environ.get("JOURNAL_MAX_ENTRIES", "100000"))
PAUSE: Final = float(os.environ.get("LLM_PAUSE", "0.05"))
ROUNDS: Final = 5
"""How often a turn is put on top of what other turns have stored meanwhile, before its client is told to repeat it."""

_log = logging.getLogger("chat_service")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the memory, and drain it at the end: by then uvicorn has let every stream finish."""
    fallback = Fallback(journal=JOURNAL, max_entries=JOURNAL_MAX_ENTRIES)
    store = AsyncRedisWorkingMemoryManager(REDIS_URL)
    # Leaving calls aclose(): what is pending has 2 s to get home, then the connections are closed as well.
    async with resilient(store, fallback=fallback, owns_manager=True) as memory:
        app.state.memory, app.state.llm = memory, ScriptedLLM(pause=PAUSE)
        yield


app = FastAPI(title="Chat with a memory", lifespan=lifespan)


class Said(BaseModel):
    """What the user says."""

    message: str = Field(min_length=1, max_length=10_000, repr=False)


@app.post("/conversations/{conversation_id}/turns")
async def turn(conversation_id: str, said: Said, request: Request) -> StreamingResponse:
    """Answer with server-sent events: `memory`, what the answer is made from; words; `stored` or `not-stored`."""
    memory: AsyncDecoratedManager = request.app.state.memory
    # Before the first byte is sent: what is wrong with the request or the configuration still gets a status of its own.
    seen = await memory.retrieve({"conversation_id": conversation_id})
    events = Turn(memory, request.app.state.llm, conversation_id, said.message, seen).events()
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


class Turn:
    """One message and its answer."""

    def __init__(
        self, memory: AsyncDecoratedManager, llm: ScriptedLLM, conversation_id: str, message: str, seen: Memories
    ) -> None:
        self._memory, self._llm, self._id = memory, llm, {"conversation_id": conversation_id}
        self._message, self._seen = message, seen

    async def events(self) -> AsyncIterator[str]:
        """Give the events; a client that goes away in between cancels them, and its turn is not stored."""
        seen = self._seen
        yield event("memory", source=seen.source, degraded=seen.degraded, age_s=round(seen.age, 3))
        # "none" is not "there is none": the model is told that nobody could say.
        text = None if seen.source == "none" else text_of(seen)
        async for word in self._llm.answer(text, self._message):
            yield event("word", text=word)
        try:
            yield await self._store()
        except Exception as error:  # noqa: BLE001 - the status was sent long ago: the client learns it here or never
            _log.error("a turn was not stored: %s", type(error).__name__)
            yield self._not_stored(error)

    async def _store(self) -> str:
        for rounds in range(ROUNDS):
            text = await self._llm.remember(text_of(self._seen), self._message)
            try:
                # On the version that was read. After a read that nobody answered this is None, "nothing may be stored":
                # what was made from nothing never replaces a memory that was not seen. With Redis back, this turn goes
                # on top of that one, below; with Redis still away it is journaled, and ends as a conflict copy beside
                # it. (The library marks such a read, so that a plain store is guarded, too. But the next answered read
                # of this process lifts the mark, and that may be another turn's.)
                receipt = await self._memory.store({**self._id, "working_memory": text}, if_version=self._seen.version)
            except VersionConflictError:
                # Another turn of this conversation was stored meanwhile, by any process: this one goes on top of it.
                # (`mutate` does the same for a plain function; a model has to be awaited.)
                self._seen = await self._memory.retrieve(self._id)
            else:
                return event("stored", outcome=receipt.outcome, merged=rounds > 0)
        return self._not_stored(VersionConflictError())

    def _not_stored(self, error: Exception) -> str:
        # With the message: nothing else has it now, so the client is to keep it and to repeat the turn.
        return event("not-stored", error=type(error).__name__, message=self._message)


def text_of(memories: Memories) -> str:
    """Return the text, empty where there is none."""
    return memories[0].working_memory if memories else ""


def event(kind: str, **fields: Any) -> str:
    """Return a server-sent event."""
    return f"event: {kind}\ndata: {json.dumps(fields)}\n\n"


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Tell that the process runs. It asks nobody: to restart a service does not bring Redis back."""
    return {"status": "alive"}


@app.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Tell whether turns can be taken: with Redis away they are, as long as the journal takes their writes."""
    memory: AsyncDecoratedManager = request.app.state.memory
    try:
        health = memory.health()
    except JournalError as error:  # the file cannot be read: nothing could be kept in it either
        return JSONResponse({"status": "unready", "last_error": type(error).__name__}, status_code=503)
    return JSONResponse(asdict(health), status_code=503 if health.status == "unready" else 200)
