"""Things that a profile or the command line names: each name leads to the one place where the thing is."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from sd4match_lib.errors import UserError


class Registry(Mapping[str, str]):
    """Names and where their things lie, as "module:attribute"; nothing is imported before it is asked for.

    A thing of one's own is added by `register`, under a new name.
    """

    def __init__(self, what: str, entries: Mapping[str, str]) -> None:
        """Make a registry of `what`, such as "dataset", for messages: name -> "module:attribute"."""
        self.what = what
        self._entries: dict[str, str] = dict(entries)
        self._added: dict[str, Any] = {}

    def __getitem__(self, name: str) -> str:
        """Return where a thing lies."""
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in the order of registration."""
        return iter(self._entries)

    def __len__(self) -> int:
        """How many names there are."""
        return len(self._entries)

    def register(self, name: str, thing: Any) -> None:
        """Add a thing of one's own, most often a class, under a name that is not taken.

        Raises:
            UserError: the name is taken.
        """
        if name in self._entries:
            raise UserError(f"the {self.what} {name!r} is {self[name]}; choose another name.")
        self._entries[name] = f"{thing.__module__}:{thing.__qualname__}"
        self._added[name] = thing

    def unregister(self, name: str) -> None:
        """Take a thing of one's own out again."""
        del self._added[name], self._entries[name]

    def load(self, name: str) -> Any:
        """Return the thing of that name, importing its module.

        Raises:
            UserError: there is no such thing; the message lists what there is.
        """
        if name in self._added:
            return self._added[name]
        if name not in self._entries:
            raise UserError(f"there is no {self.what} {name!r}; use one of {', '.join(self)}.")
        module, _, attribute = self._entries[name].partition(":")
        return getattr(import_module(module), attribute)
