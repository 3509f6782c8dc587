# SPDX-License-Identifier: Apache-2.0
"""Stopping and going on between steps: pause, resume, sleep, wake (wire protocol, 5).

Owns the mode an engine is in and the calls that wait until its requests have ended. Must not know
how a call arrives, nor how memory is given back (the core does that when asked).

A pause in mode "abort" ends all requests, "wait" lets them finish, "keep" leaves them where they
are; the first two refuse new requests, the last one queues them. Sleep is a pause, in level 1 with
the KV cache's memory given back: on a CPU, where weights are in host memory anyway; on a GPU that
is refused. Calls in mode "wait" return a future, and whoever answers the caller waits for it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from vllm.errors import NotSupported, RequestError

PAUSE_MODES = ("abort", "wait", "keep")
SLEEP_LEVELS = (0, 1)
WAKE_TAGS = ("weights", "kv_cache", "scheduling")


class Pausing:
    """The part of an engine that can be stopped."""

    def __init__(self) -> None:
        self._paused: str | None = None
        self._asleep = False
        self._has_cache = True
        self._until_idle: list[tuple[Future[None], Callable[[], None]]] = []

    # ------------------------------------------------------------------------ asked of the engine

    @property
    @abstractmethod
    def idle(self) -> bool:
        """No request is left, neither running nor waiting."""

    @abstractmethod
    def abort_all(self) -> None:
        """End every request and tell its client."""

    @abstractmethod
    def clear_cache(self, reset_running: bool) -> None:
        """Forget what is in the prefix cache; with `reset_running` also what is running."""

    @abstractmethod
    def _check_can_release(self) -> None:
        """Raise `NotSupported` where giving the KV cache's memory back is not built."""

    @abstractmethod
    def _release_cache(self) -> None:
        """Give the KV cache's memory back."""

    @abstractmethod
    def _restore_cache(self) -> None:
        """Take memory for the KV cache again."""

    # ------------------------------------------------------------------------ asked by the engine

    @property
    def frozen(self) -> bool:
        """Requests stay where they are and no step is computed."""
        return self._paused == "keep" or not self._has_cache

    def refuse_if_paused(self) -> None:
        """Raise `RequestError` where a pause ends requests instead of keeping them."""
        if self._paused in ("abort", "wait"):
            raise RequestError(
                "engine_paused", "generation is paused; try again after it resumes", retryable=True
            )

    def _on_idle(self) -> None:
        """The last request ended: who waited for that goes on."""
        waiting, self._until_idle = self._until_idle, []
        for future, action in waiting:
            _complete(future, action)

    # ------------------------------------------------------------------ callable over the wire

    def is_sleeping(self) -> bool:
        return self._asleep

    def is_scheduler_paused(self) -> bool:
        return self._paused is not None

    def pause_generation(self, mode: str = "abort", clear_cache: bool = True) -> Future[None]:
        """Stop generating; `clear_cache` forgets what was computed, of kept requests too."""
        return self._pause(mode, lambda: self.clear_cache(True) if clear_cache else None)

    def pause_scheduler(self, mode: str = "abort", clear_cache: bool = True) -> Future[None]:
        """The name that 0.32 uses."""
        return self.pause_generation(mode, clear_cache)

    def resume_scheduler(self) -> None:
        """Go on. Who waits for a pause in mode "wait" is told that it did not come to its end."""
        self._refuse_asleep()
        self._resume()

    def sleep(self, level: int = 1, mode: str = "abort") -> Future[None]:
        """Pause; in level 1 also give the KV cache's memory back."""
        if level not in SLEEP_LEVELS:
            raise NotSupported(f"sleep level {level} (accepted are 0 and 1)")
        if level > 0:
            self._check_can_release()
        return self._pause(mode, lambda: self._fall_asleep(level))

    def wake_up(self, tags: list[str] | None = None) -> bool:
        """Undo `sleep`, as far as `tags` say (None: all of it); whether all is awake."""
        wanted = WAKE_TAGS if tags is None else tags
        for tag in wanted:
            if tag not in WAKE_TAGS:
                raise NotSupported(f"wake-up tag {tag!r} (accepted are {', '.join(WAKE_TAGS)})")
        return self._wake(wanted)

    # ------------------------------------------------------------------------------------- inside

    def _pause(self, mode: str, action: Callable[[], None]) -> Future[None]:
        if mode not in PAUSE_MODES:
            raise NotSupported(f"pause mode {mode!r} (accepted are {', '.join(PAUSE_MODES)})")
        self._refuse_asleep()
        self._paused = mode
        if mode == "abort":
            self.abort_all()
        future: Future[None] = Future()
        if mode == "wait" and not self.idle:
            self._until_idle.append((future, action))
        else:
            _complete(future, action)
        return future

    def _refuse_asleep(self) -> None:
        if not self._has_cache:
            raise RequestError("engine_asleep", "the engine is asleep; call wake_up first")

    def _fall_asleep(self, level: int) -> None:
        if level > 0:
            self._release_cache()
            self._has_cache = False
            self.clear_cache(True)
        self._asleep = True

    def _wake(self, tags: Iterable[str]) -> bool:
        if not self._has_cache and "kv_cache" in tags:
            self._restore_cache()
            self._has_cache = True
        if self._has_cache and self._asleep:
            self._resume()
        return self._has_cache

    def _resume(self) -> None:
        self._paused, self._asleep = None, False
        waiting, self._until_idle = self._until_idle, []
        for future, _ in waiting:
            reason = "generation was resumed before its requests had ended"
            future.set_exception(RequestError("resumed", reason))


def _complete(future: Future[None], action: Callable[[], None]) -> None:
    try:
        action()
    except Exception as error:
        future.set_exception(error)
    else:
        future.set_result(None)
