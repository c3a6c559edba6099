"""The default embedder gives what wordllama gives, quickly and the same to every caller."""

from __future__ import annotations

import importlib.util
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.bundle.embedder import load_embedder
from router.errors import ConfigurationError
from router.policy.embedding import EDGE_CHARS, Embedder, StaticEmbedder

TEXTS = (
    "Prove that the sum of the first n odd numbers is n squared.",
    "x",
    "Übersetze: ‘naïve café’ 日本語 🧭 \n\tdef f(x): return x ** 2",
    "What is 17 * 23? " * 20,
)


@pytest.fixture(scope="module")
def embedder() -> StaticEmbedder:
    return load_embedder()


def test_short_texts_get_the_vectors_that_wordllama_gives(embedder: StaticEmbedder) -> None:
    from wordllama import WordLlama  # type: ignore[import-untyped]

    logging.getLogger("wordllama").setLevel(logging.WARNING)
    spec = importlib.util.find_spec("wordllama")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    theirs = WordLlama.load(cache_dir=folder, disable_download=True)
    for text in TEXTS:
        vector, tokens = embedder.encode(text)
        np.testing.assert_allclose(vector, theirs.embed(text, norm=True)[0], atol=2e-7)
        assert tokens == len(theirs.tokenize(text)[0].ids)


@settings(max_examples=30)
@given(texts=st.lists(st.text(max_size=80), max_size=6))
def test_a_batch_equals_its_texts_one_by_one(embedder: StaticEmbedder, texts: list[str]) -> None:
    found = embedder.encode_many(texts)
    assert found.vectors.shape == (len(texts), 256)
    assert list(map(len, found.tokens)) == found.counts.tolist()
    for text, vector, count in zip(texts, found.vectors, found.counts, strict=True):
        single, single_count = embedder.encode(text)
        assert np.array_equal(vector, single)
        assert count == single_count


def test_vectors_have_unit_length_and_the_empty_text_none(embedder: Embedder) -> None:
    vector, tokens = embedder.encode("")
    assert (float(np.abs(vector).sum()), tokens) == (0.0, 0)
    for text in TEXTS:
        assert np.linalg.norm(embedder.encode(text)[0]) == pytest.approx(1, abs=1e-6)


def test_a_long_text_is_known_by_its_edges_and_its_length(embedder: Embedder) -> None:
    head, tail = "list all prime numbers " * 100, "and then sort them, please " * 100
    one, few = embedder.encode(head + "x" * 10_000 + tail)
    other, many = embedder.encode(head + "y" * 1_000_000 + tail)
    assert np.array_equal(one, other)
    assert many > 50 * few
    short = head[:EDGE_CHARS] + tail[-EDGE_CHARS:]
    assert np.array_equal(embedder.encode(short)[0], one)


def test_text_that_is_not_valid_unicode_is_embedded_too(embedder: Embedder) -> None:
    broken, whole = (
        embedder.encode("half \ud83d of a pair")[0],
        embedder.encode("half ? of a pair")[0],
    )
    assert np.array_equal(broken, whole)


def test_threads_get_what_one_caller_gets(embedder: StaticEmbedder) -> None:
    texts = [f"{text} {index}" for index in range(50) for text in TEXTS]
    expected = [embedder.encode(text)[0] for text in texts]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: embedder.encode(text)[0], texts))
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


def test_the_digest_is_the_same_for_every_process(embedder: StaticEmbedder) -> None:
    assert load_embedder().digest == embedder.digest
    assert (len(embedder.digest), embedder.dimensions) == (64, 256)


def test_an_unknown_embedder_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="'mystery' is not known here"):
        load_embedder("mystery")
