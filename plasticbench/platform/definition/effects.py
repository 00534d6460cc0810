"""Settings without effect: an error where somebody wrote them, a warning where a preset or a default gave them.

A setting may be read several times, by every variant of a sweep, in every environment, by methods that change an agent;
only one that has no effect in any of these uses is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

_TIMED = ("at", "every", "until", "when")


@dataclass(slots=True)
class Effects:
    """What each check found of each setting: why it has no effect, or ``None`` once it has one somewhere."""

    found: dict[tuple[str, str], str | None] = field(default_factory=dict)  # by check and dotted key
    told: set[str] = field(default_factory=set)  # of which to warn if nobody wrote them

    def note(
        self, check: str, key: str, names: Iterable[str], inert: Mapping[str, str], quiet: Collection[str] = ()
    ) -> None:
        """One use of the settings ``names`` below ``key``; of ``quiet`` ones nobody hears unless a file holds them."""
        for name in {**dict.fromkeys(names), **inert}:
            place = (check, f"{key}.{name}" if key else name)
            self.found[place] = inert.get(name) if self.found.get(place, "") is not None else None
            if name in inert and name not in quiet:
                self.told.add(place[1])

    def inert(self, place: Callable[[str], str]) -> dict[str, str]:
        """Settings without effect and why, each by where it stands."""
        merged: dict[tuple[str, str], str | None] = {}
        for (check, key), reason in self.found.items():
            at = (check, place(key))
            merged[at] = reason if merged.get(at, "") is not None else None
        return {key: reason for (_, key), reason in merged.items() if reason is not None}


@dataclass(frozen=True, slots=True)
class Given:
    """Where a setting stands: in the file, in ``--set`` (``data`` is the file with ``overrides``), or nowhere.

    In a file that says ``filled_in`` nothing but ``overrides`` was written by anybody.
    """

    data: Mapping[str, Any]
    overrides: Sequence[str] = ()

    def place(self, key: str) -> str:
        """The dotted key under which somebody wrote what is read at ``key``, or ``key`` itself."""
        return next((candidate for candidate in _candidates(key) if _stands(self.data, candidate)), key)

    def is_written(self, key: str) -> bool:
        """Whether somebody wrote it."""
        return self.is_override(key) if self.data.get("filled_in") else _stands(self.data, key)

    def is_override(self, key: str) -> bool:
        """Whether ``--set`` wrote it."""
        written = [override.partition("=")[0].strip().replace(".parts.", ".") for override in self.overrides]
        paths = {*written, *(path.replace(".0.", ".") for path in written)}
        return any(f"{key}.".startswith(f"{path}.") or path.startswith(f"{key}.") for path in paths)


def defaults(config: Any) -> set[str]:
    """Settings that have their default: that others leave them without effect is no news."""
    made = {one.name: one.default_factory() for one in fields(config) if one.default_factory is not MISSING}
    return {one.name for one in fields(config) if getattr(config, one.name) == made.get(one.name, one.default)}


def judge(
    effects: Effects, given: Given, file_alone: Callable[[], Collection[str]]
) -> tuple[dict[str, str], list[str]]:
    """Errors, by dotted key, and warnings; ``file_alone`` tells what has no effect in the file without ``--set``."""
    errors: dict[str, str] = {}
    warnings: dict[str, str] = {}
    told = set(map(given.place, effects.told))
    for key, reason in effects.inert(given.place).items():
        if not given.is_written(key):
            if key in told:
                warnings.setdefault(reason, f"{key}: what a preset or the default says has no effect: {reason}")
        elif given.overrides and not given.is_override(key) and key not in file_alone():
            warnings.setdefault(reason, f"{key}: has no effect with what --set says: {reason}")
        else:
            errors[key] = f"this setting has no effect: {reason}. Remove it, or change what makes it inert"
    return errors, list(warnings.values())


def _candidates(key: str) -> Iterator[str]:
    """Where a value that is used at ``key`` may have been inherited from."""
    yield key
    before, found, after = key.partition(".agent.")
    if found and before:
        yield f"agent.{after}"
    method, _, last = key.rpartition(".")
    if last in _TIMED:
        part = method.rpartition(".")
        yield from (f"{part[0]}.{last}", f"resets.{last}") if part[2].isdecimal() else (f"resets.{last}",)


def _stands(data: Any, key: str) -> bool:
    """Whether nested data hold the dotted key; names with dots in them are found as well."""
    if isinstance(data, Mapping):
        inside = [(str(name), value) for name, value in data.items()]
        return any(
            key == name or (key.startswith(f"{name}.") and _stands(value, key[len(name) + 1 :]))
            for name, value in inside
        ) or ("parts" in data and _stands(data["parts"], key))
    if isinstance(data, list):
        head, _, rest = key.partition(".")
        if len(data) == 1 and not head.isdecimal():
            return _stands(data[0], key)  # of a single part in a list
        is_item = head.isdecimal() and int(head) < len(data)
        return is_item and (not rest or _stands(data[int(head)], rest))
    return False
