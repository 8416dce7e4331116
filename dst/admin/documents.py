"""
Edits of the document that says what is wanted, as a person names them.

Decides without acting: a document and words in, the document changed, or an error that says what there is.
Whether the result can run is for the daemon to say.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from typing import Any

from dst.errors import InvalidRequest, NotFound

__all__ = [
    "add_member",
    "add_table",
    "allow",
    "deny",
    "member_words",
    "options_of",
    "remove_member",
    "remove_table",
    "table_of",
    "users_of",
]

Document = dict[str, Any]


def _tables(document: Document, kind: str) -> dict[str, Any]:
    tables = document.setdefault(kind, {})
    if not isinstance(tables, dict):
        raise InvalidRequest(f"[{kind}] of the configuration is no table")
    return tables


def table_of(document: Document, kind: str, name: str) -> dict[str, Any]:
    """
    The table C{[kind.name]}.

    @raise NotFound: there is none.
    """
    tables = _tables(document, kind)
    if not isinstance(tables.get(name), dict):
        from dst.cluster.rules import did_you_mean

        raise NotFound(f"the configuration has no {kind.removesuffix('s')} {name!r}{did_you_mean(name, tables)}")
    found: dict[str, Any] = tables[name]
    return found


def add_table(document: Document, kind: str, name: str, table: dict[str, Any]) -> None:
    """
    @raise InvalidRequest: the name is taken, by anything that has a name of that sort.
    """
    for taken in ("nodes", "storages") if kind in ("nodes", "storages") else (kind,):
        if name in _tables(document, taken):
            raise InvalidRequest(f"there is a {taken.removesuffix('s')} {name!r} already; choose another name")
    _tables(document, kind)[name] = table


def users_of(document: Document, name: str) -> list[str]:
    """What stands on the device C{name}, in words."""
    users = []
    for storage, table in _tables(document, "storages").items():
        if isinstance(table, dict) and name in (*table.get("nodes", ()), *table.get("witnesses", ())):
            users.append(f"storage {storage}")
    for node, table in _tables(document, "nodes").items():
        if isinstance(table, dict) and table.get("parent") == name:
            users.append(f"node {node}")
    for export, table in _tables(document, "exports").items():
        if isinstance(table, dict) and table.get("device") == name:
            users.append(f"export {export}")
    return users


def remove_table(document: Document, kind: str, name: str, *, with_exports: bool = False) -> None:
    """
    @param with_exports: what serves it goes as well.
    @raise InvalidRequest: something stands on it.
    """
    table_of(document, kind, name)
    if kind != "exports":
        if with_exports:
            exports = _tables(document, "exports")
            for export in [key for key, table in exports.items() if table.get("device") == name]:
                del exports[export]
        users = users_of(document, name)
        if users:
            one = kind.removesuffix("s")
            raise InvalidRequest(f"{one} {name!r} is used by {', '.join(users)}: remove that first")
    del _tables(document, kind)[name]


# -- members ------------------------------------------------------------------------


def member_words(document: Document, words: Iterable[str]) -> list[str]:
    """
    The names of members, given as C{NAME} or as C{NAME=URI}, which makes the node.
    """
    names = []
    for word in words:
        name, equals, uri = word.partition("=")
        if equals and not name.partition(":")[1]:
            add_table(document, "nodes", name, {"uri": uri})
        elif word not in {**_tables(document, "nodes"), **_tables(document, "storages")}:
            from dst.cluster.rules import did_you_mean

            known = {**_tables(document, "nodes"), **_tables(document, "storages")}
            raise NotFound(f"there is no node or storage {word!r}, and it is no NAME=URI{did_you_mean(word, known)}")
        else:
            name = word
        names.append(name)
    return names


def add_member(document: Document, storage: str, word: str, *, witness: bool) -> str:
    """
    @param word: as in L{member_words}.
    @return: the member's name.
    """
    table = table_of(document, "storages", storage)
    (name,) = member_words(document, [word])
    key = "witnesses" if witness else "nodes"
    if name in (*table.get("nodes", ()), *table.get("witnesses", ())):
        raise InvalidRequest(f"{name!r} is in storage {storage!r} already")
    table[key] = [*table.get(key, ()), name]
    return name


def remove_member(document: Document, storage: str, name: str, *, with_node: bool) -> None:
    """
    @param with_node: the node is not wanted any more either.
    """
    table = table_of(document, "storages", storage)
    for key in ("nodes", "witnesses"):
        if name in table.get(key, ()):
            table[key] = [each for each in table[key] if each != name]
            if not table[key] and key == "witnesses":
                del table[key]
            if with_node:
                remove_table(document, "nodes", name)
            return
    from dst.cluster.rules import did_you_mean

    members = [*table.get("nodes", ()), *table.get("witnesses", ())]
    raise NotFound(f"storage {storage!r} has no member {name!r}{did_you_mean(name, members)}")


# -- options and access ----------------------------------------------------------------


def options_of(settings: Sequence[str]) -> dict[str, Any]:
    """
    C{KEY=VALUE} as they would stand in the file; what is no TOML value is a text.

    @raise InvalidRequest: one has no C{=}.
    """
    options: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise InvalidRequest(f"{setting!r} is not KEY=VALUE, as region_size=64K")
        try:
            options[key] = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            options[key] = value
    return options


def rule_of(access: str, identity: str | None, network: str | None) -> dict[str, str]:
    """One line of an access list."""
    said = {"access": access, "identity": identity, "network": network}
    return {key: value for key, value in said.items() if value is not None}


def allow(table: dict[str, Any], access: str, identity: str | None, network: str | None) -> None:
    """Add a line to the access list of an export; one about the same people is replaced."""
    rule = rule_of(access, identity, network)
    kept = [each for each in table.get("allow", ()) if not _about(each, identity, network)]
    table["allow"] = [*kept, rule]


def deny(table: dict[str, Any], identity: str | None, network: str | None) -> None:
    """
    Take the lines about somebody out of the access list of an export.

    @raise NotFound: there is none.
    """
    if "allow" not in table:
        raise InvalidRequest("the export has no access list: only this machine may use it, and --nobody ends that")
    kept = [each for each in table["allow"] if not _about(each, identity, network)]
    if len(kept) == len(table["allow"]):
        from dst.admin.display_tables import allowed_in_words

        raise NotFound(f"the access list has no such line; it is: {allowed_in_words(table['allow'])}")
    table["allow"] = kept


def _about(rule: dict[str, str], identity: str | None, network: str | None) -> bool:
    return rule.get("identity") == identity and rule.get("network") == network
