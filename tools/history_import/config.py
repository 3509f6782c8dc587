# SPDX-License-Identifier: Apache-2.0
"""One TOML file per import: what is brought where, and under which rules. Parsed once, then frozen.

Owns the keys, their defaults and the digest that a join's trailer names. Knows nothing of git.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import Refused

SCHEMA = 1
OID = re.compile(r"[0-9a-f]{40}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# In a URL's user part: a password anywhere; for HTTP a name alone is most often a token.
CREDENTIALS = re.compile(r"https?://[^/@]*@|[a-z][a-z0-9+.-]*://[^/@]*:[^/@]*@", re.IGNORECASE)
OWNER_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class Source:
    url: str
    ref: str
    pin: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    prefix: str
    base: str
    branch: str
    layout: str = "merge"
    replaces_submodule: bool = False
    detached: tuple[str, ...] = ()
    ignore_revs: str = ""


@dataclass(frozen=True)
class Messages:
    qualify: str = ""
    defuse_closing_keywords: bool = False
    translate_hashes: bool = False


@dataclass(frozen=True)
class Engine:
    use: str = "both"
    filter_repo: str = "2.47.0"


@dataclass(frozen=True)
class Keep:
    originals: bool = True


@dataclass(frozen=True)
class Require:
    license: bool = False
    dco: str = "report"
    max_blob_bytes: int = 0  # no limit


@dataclass(frozen=True)
class Config:
    name: str
    source: Source
    target: Target
    messages: Messages = Messages()
    engine: Engine = Engine()
    keep: Keep = Keep()
    require: Require = Require()
    schema: int = SCHEMA
    path: Path | None = field(default=None, compare=False)

    @property
    def digest(self) -> str:
        """Of the values, defaults filled in: comments, order and spelling do not matter."""
        values = dataclasses.asdict(self)
        del values["path"]
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


SECTIONS: dict[str, type] = {
    "source": Source,
    "target": Target,
    "messages": Messages,
    "engine": Engine,
    "keep": Keep,
    "require": Require,
}
CHOICES = {
    "target.layout": ("merge", "linear"),
    "engine.use": ("both", "filter-repo", "graft"),
    "require.dco": ("report", "remediation", "strict"),
}
KINDS = {"str": str, "bool": bool, "int": int, "tuple[str, ...]": list}
KIND_NAMES = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    list: "a list of strings",
}


def load(path: Path) -> Config:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise Refused(
            f"cannot read {path}: {error.strerror}", "name the import's TOML file"
        ) from None
    return dataclasses.replace(parse(text, str(path)), path=path)


def parse(text: bytes, where: str) -> Config:
    try:
        table = tomllib.loads(text.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Refused(f"{where} is not TOML: {error}") from None
    known = {"schema", "name", *SECTIONS}
    _refuse_unknown(where, "", table, known)
    if (schema := table.get("schema", SCHEMA)) != SCHEMA:
        raise Refused(f"{where}: schema is {schema!r}, this tool reads schema {SCHEMA}")
    name = _value(where, "name", "str", table.get("name"))
    sections = {key: _section(where, key, table.get(key, {})) for key in SECTIONS}
    config = Config(name=name, **sections)
    _check(where, config)
    return config


def _refuse_unknown(where: str, section: str, table: dict[str, Any], known: set[str]) -> None:
    for key in table:
        if key not in known:
            full = f"{section}.{key}" if section else key
            raise Refused(f"{where}: unknown key {full}", f"known: {', '.join(sorted(known))}")


def _section(where: str, section: str, table: Any) -> Any:
    if not isinstance(table, dict):
        raise Refused(f"{where}: {section} is {table!r}, not a table")
    fields = {item.name: item for item in dataclasses.fields(SECTIONS[section])}
    _refuse_unknown(where, section, table, set(fields))
    values = {}
    for name, item in fields.items():
        missing = item.default is dataclasses.MISSING
        if name in table or missing:
            key = f"{section}.{name}"
            values[name] = _value(where, key, str(item.type), table.get(name))
    return SECTIONS[section](**values)


def _value(where: str, key: str, kind: str, value: Any) -> Any:
    wanted: Any = KINDS[kind]
    if value is None:
        raise Refused(f"{where}: {key} is missing", f"it is {KIND_NAMES[wanted]}")
    strings = wanted is not list or (isinstance(value, list) and all(map(_is_str, value)))
    if type(value) is not wanted or not strings:
        raise Refused(f"{where}: {key} is {value!r}, not {KIND_NAMES[wanted]}")
    choices = CHOICES.get(key)
    if choices and value not in choices:
        raise Refused(f"{where}: {key} is {value!r}", f"one of: {', '.join(choices)}")
    return tuple(value) if wanted is list else value


def _is_str(value: object) -> bool:
    return isinstance(value, str)


def _check(where: str, config: Config) -> None:
    """Values that have the right type and still cannot be meant."""
    source, target, messages = config.source, config.target, config.messages
    if CREDENTIALS.match(source.url):  # the value is not shown: it would reach a log
        raise Refused(
            f"{where}: source.url has credentials, which the merge commit would publish",
            "leave them out and let git's credential helper give them",
        )
    rules = [
        ("name", config.name, _ref_part(config.name), "letters, digits, '.', '_', '-'"),
        ("source.url", source.url, source.url and source.url[0] != "-", "a URL or a path"),
        ("source.ref", source.ref, source.ref.startswith("refs/"), "a full name: refs/heads/main"),
        ("source.pin", source.pin, OID.fullmatch(source.pin), _pin_help(source)),
        (
            "target.prefix",
            target.prefix,
            _plain_path(target.prefix),
            "a relative folder such as rust",
        ),
        (
            "target.ignore_revs",
            target.ignore_revs,
            not target.ignore_revs or _plain_path(target.ignore_revs),
            "a file of the source such as .git-blame-ignore-revs, or absent",
        ),
        ("target.base", target.base, _branch(target.base), "a branch of the host, such as main"),
        ("target.branch", target.branch, _branch(target.branch), "a branch to create"),
        (
            "target.branch",
            target.branch,
            target.branch != target.base,
            "must differ from target.base",
        ),
        (
            "messages.qualify",
            messages.qualify,
            not messages.qualify or OWNER_REPO.fullmatch(messages.qualify),
            "OWNER/REPO, or absent",
        ),
        (
            "require.max_blob_bytes",
            config.require.max_blob_bytes,
            config.require.max_blob_bytes >= 0,
            "0 means no limit",
        ),
    ]
    for key, value, good, remedy in rules:
        if not good:
            raise Refused(f"{where}: {key} is {value!r}", remedy)


def _pin_help(source: Source) -> str:
    if re.fullmatch(r"[0-9a-f]{64}", source.pin):
        return "it is of a SHA-256 repository, which this tool does not import"
    ask = f"git ls-remote {source.url} {source.ref}"
    return f"an import is of one commit: its 40 hexadecimal digits, as `{ask}` prints them"


def _plain_path(path: str) -> bool:
    """As git commands and files take it: a line break ends an entry, a colon ends a commit."""
    parts = path.split("/")
    odd = {"", ".", ".."}
    forbidden = re.compile(r"[\x00-\x1f\x7f:]")
    named = all(part not in odd and part.lower() != ".git" for part in parts)
    return named and not forbidden.search(path)


def _ref_part(name: str) -> bool:
    """It is one part of the import's refs."""
    return bool(NAME.fullmatch(name)) and _branch(name)


def _branch(name: str) -> bool:
    forbidden = re.compile(r"[\x00-\x20~^:?*\[\\\x7f]|\.\.|@\{|//|\.lock(/|$)|(^|/)\.|[/.]$")
    taken = name in {"HEAD", "@"}  # git reads these as what is checked out
    return bool(name) and not taken and name[0] not in "-/" and not forbidden.search(name)
