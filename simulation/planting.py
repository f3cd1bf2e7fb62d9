"""How a bug is planted: a monkeypatch of real code, which is taken back afterwards. Knows none by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Plant = Callable[["Patches"], None]
BUGS: dict[str, tuple[str, Plant]] = {}


class Patches:
    """Replaces attributes of real modules, and puts them back."""

    def __init__(self) -> None:
        self.replaced: list[tuple[Any, str, Any]] = []
        """Owner, name, original."""

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """``make`` is given the original and returns what takes its place."""
        original = getattr(owner, name)
        self.replaced.append((owner, name, original))
        setattr(owner, name, make(original))

    def take_back(self) -> None:
        """As it was."""
        for owner, name, original in reversed(self.replaced):
            setattr(owner, name, original)


@contextmanager
def planted(name: str) -> Iterator[Patches]:
    """While inside, the house has this bug. Raises KeyError for a name that is none."""
    patches = Patches()
    BUGS[name][1](patches)
    try:
        yield patches
    finally:
        patches.take_back()


def bug(sentence: str) -> Callable[[Plant], Plant]:
    """Names a bug by its function."""

    def remember(plant: Plant) -> Plant:
        BUGS[plant.__name__] = (sentence, plant)
        return plant

    return remember


class Without:
    """A module or object with one name replaced, or doing nothing."""

    def __init__(self, real: Any, name: str, instead: Any = None) -> None:
        self._real, self._name = real, name
        self._instead = instead or (lambda *_args, **_more: None)

    def __getattr__(self, name: str) -> Any:
        return self._instead if name == self._name else getattr(self._real, name)
