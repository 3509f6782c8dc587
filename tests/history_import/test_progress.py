# SPDX-License-Identifier: Apache-2.0
"""Counts appear on a terminal once there was something to wait for, and are wiped away after."""

from __future__ import annotations

import io
import sys

import pytest

from tools.history_import import progress
from tools.history_import.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "PATIENCE_S", 0)
    with Progress("commits", 1234567) as commits:
        commits.advance(1000)
        commits._next = 0
        commits.say("Receiving objects: 7%")
    shown = terminal.getvalue()
    assert "commits  1,000/1,234,567" in shown and "commits  Receiving objects: 7%" in shown
    assert shown.endswith("\r\033[K")


def test_what_is_quick_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("commits") as commits:
        commits.advance()
    assert terminal.getvalue() == ""


def test_a_file_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(progress, "PATIENCE_S", 0)
    with Progress("commits") as commits:
        commits.advance()
        commits.say("x")
    assert log.getvalue() == ""
