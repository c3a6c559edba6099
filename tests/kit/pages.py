"""Reads HTML pages strictly: what does not close, and what would be fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser

_VOID = frozenset({"meta", "br", "img", "link", "hr", "input"})
_FETCHING = frozenset({"src", "href", "xlink:href", "data", "action", "poster", "srcset"})


class Page(HTMLParser):
    """A page that was read; raises AssertionError where a tag closes that is not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.fetched: list[str] = []
        self.handlers: list[str] = []
        self.headings: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Opens a tag and notes what it would fetch or run."""
        self.tags.add(tag)
        self.fetched += [
            value for name, value in attrs if name in _FETCHING and value and value[0] != "#"
        ]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """A tag that closes itself."""
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Closes the tag that was opened last."""
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keeps the texts, and headings apart."""
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if self.open and self.open[-1] != "style":
            self.texts.append(data)
