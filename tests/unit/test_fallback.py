"""Without a tokenizer, tokens are counted on the safe side in any script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.fallback import estimate_tokens

some_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("word", 1), ("words", 2), ("слово", 5), ("深度", 4), ("🌊", 3)]
)
def test_a_text_of_any_script_has_about_so_many_tokens(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


@given(some_text)
def test_the_double_is_no_less_than_the_bytes_of_what_is_not_ascii(text: str) -> None:
    others = "".join(each for each in text if not each.isascii())
    assert 2 * estimate_tokens(text) >= len(others.encode())


@given(some_text, some_text)
def test_a_longer_text_never_has_fewer_tokens(text: str, more: str) -> None:
    assert estimate_tokens(text) <= estimate_tokens(text + more)
