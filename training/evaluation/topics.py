"""Topics: clusters of queries by their embeddings, named by words that many people share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.cluster import MiniBatchKMeans
from sklearn.feature_extraction.text import CountVectorizer

from router.errors import InvalidInput
from router.types import Floats
from training.learning.threads import one_thread
from training.log.dataset import Indices

TOPICS = 16
LEAST_SHARED = 5
"""A word is told only where so many subjects used it within the cluster (k-anonymity)."""

_LEAST_QUERIES = 20
_NAMED_WORDS = 4
_FIT_QUERIES = 8_000
_READ_CHARS = 2_000
_MOST_WORDS = 20_000
_WORD = r"(?u)\b[^\W\d_]{3,24}\b"
_PRIOR = 10.0


@dataclass(frozen=True, kw_only=True)
class Topics:
    """Clusters of queries: `centers` (k, d), and a name for each, unique among them."""

    centers: Floats
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.centers)

    def of(self, vectors: Floats) -> Indices:
        """The nearest cluster of each embedding (q, d), shape (q,)."""
        half_squares = (self.centers**2).sum(axis=1) / 2.0
        return np.asarray((vectors @ self.centers.T - half_squares).argmax(axis=1), np.intp)


@one_thread()
def learn(
    vectors: Floats,
    texts: Sequence[str],
    *,
    subject: Indices | None = None,
    count: int = TOPICS,
    seed: int = 0,
) -> Topics:
    """Clusters queries by k-means and names each cluster by its most characteristic words.

    `vectors` (q, d), `texts` and `subject` (q,) go together; where it is not known who
    asked, each distinct text counts as one subject. There are fewer clusters than `count`
    where there are not 20 queries for each. Raises InvalidInput without any query.
    """
    if not len(vectors):
        raise InvalidInput("there is no query to make clusters of; take a longer window")
    rng = np.random.default_rng(seed)
    taken = np.sort(rng.permutation(len(vectors))[:_FIT_QUERIES])
    clusters = max(min(count, len(taken) // _LEAST_QUERIES), 1)
    fitted = MiniBatchKMeans(clusters, n_init=3, random_state=seed, batch_size=1_024)
    fitted.fit(np.asarray(vectors[taken], np.float32))
    centers = np.asarray(fitted.cluster_centers_, np.float64)
    made = Topics(centers=centers, names=("",) * clusters)
    told = words(
        made.of(vectors[taken]),
        clusters,
        [texts[place] for place in taken.tolist()],
        None if subject is None else subject[taken],
    )
    return replace(made, names=tuple(name(place, each) for place, each in enumerate(told)))


def _distinct(texts: Sequence[str]) -> Indices:
    return np.asarray(np.unique(np.array(texts, object), return_inverse=True)[1], np.intp)


def words(
    of: Indices, clusters: int, texts: Sequence[str], subject: Indices | None
) -> tuple[tuple[str, ...], ...]:
    """Words of each cluster whose log-odds stand out, each shared by 5 subjects within it.

    The informative Dirichlet prior of Monroe, Colaresi and Quinn (2008), over subjects.
    """
    cut = [text[:_READ_CHARS] for text in texts]
    found = _counts(of, clusters, cut, _distinct(cut) if subject is None else subject)
    if found is None:
        return ((),) * clusters
    known, counts = found
    score = _standing_out(counts)
    score[counts < LEAST_SHARED] = -np.inf
    best = np.argsort(-score, axis=1, kind="stable")[:, :_NAMED_WORDS]
    return tuple(
        tuple(known[place] for place in row if score[own, place] > 0.0)
        for own, row in enumerate(best.tolist())
    )


def name(place: int, told: Sequence[str]) -> str:
    """What people call a cluster."""
    return f"topic {place}: {', '.join(told)}" if told else f"topic {place}"


def _counts(
    of: Indices, clusters: int, texts: Sequence[str], subject: Indices
) -> tuple[Sequence[str], Floats] | None:
    """Words, and how many subjects used each in each cluster (k, w); None where none is shared."""
    vectorizer = CountVectorizer(binary=True, token_pattern=_WORD, max_features=_MOST_WORDS)
    try:
        used = vectorizer.fit_transform(texts)
    except ValueError:  # no text has a word
        return None
    pair, place = np.unique(subject * clusters + of, return_inverse=True)
    ones = np.ones(len(of))
    by_pair = csr_matrix((ones, (place, np.arange(len(of)))), shape=(len(pair), len(of))) @ used
    by_pair.data[:] = 1.0
    within = (np.ones(len(pair)), (pair % clusters, np.arange(len(pair))))
    counts = csr_matrix(within, shape=(clusters, len(pair))) @ by_pair
    return vectorizer.get_feature_names_out().tolist(), np.asarray(counts.toarray())


def _standing_out(counts: Floats) -> Floats:
    """z-scores of log-odds of each word in each cluster against all others, (k, w)."""
    total = counts.sum(axis=0)
    prior = _PRIOR * total / max(total.sum(), 1.0) + 1e-9
    here, there = counts + prior, total - counts + prior
    rest_here = here.sum(axis=1, keepdims=True) - here
    rest_there = there.sum(axis=1, keepdims=True) - there
    log_odds = np.log(here / rest_here.clip(1e-9)) - np.log(there / rest_there.clip(1e-9))
    return np.asarray(log_odds / np.sqrt(1.0 / here + 1.0 / there))
