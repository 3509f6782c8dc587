# SPDX-License-Identifier: Apache-2.0
"""The ways a verb ends without doing its work; each kind is one exit code. Knows nothing of git."""

from __future__ import annotations


class HistoryImportError(Exception):
    """One line that says what failed and on which value; the remedy says what to do about it."""

    exit_code = 2

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class ProofFailed(HistoryImportError):
    """Something was built or found, and it is not what it must be."""

    exit_code = 1


class Refused(HistoryImportError):
    """Nothing was changed: a rule forbids it, or the request cannot be understood."""

    exit_code = 2


class Conflict(HistoryImportError):
    """Both sides changed the same thing; a person decides."""

    exit_code = 3


class GitFailed(Refused):
    """A git command ended with an error nobody expected."""


class EngineFailed(Refused):
    """git-filter-repo could not process the source; the commit that stopped it, where known."""

    def __init__(self, reason: str, commit: str = "") -> None:
        super().__init__(reason, 'engine.use = "graft" does without it')
        self.commit = commit
