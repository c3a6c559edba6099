"""The samples of one query, and what their vote says."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

from router.execution.answers import Reader
from router.execution.calls import Said
from router.execution.strategies.asking import extracted
from router.execution.strategies.clusters import clustered
from router.execution.strategy import Answer
from router.policy.embedding import Embedder
from router.policy.sampling import Votes, voted
from router.types import Evidence

CONFIDENCE_SCALE = 0.2
"""The difference of mean log-probabilities by which one vote counts e times another."""


class Ballot:
    """Counts the answers of samples in the order in which they came.

    Where no sample has an answer that can be read, they are free-form: then those vote
    together that say the same by their embeddings, or word for word without an embedder. A
    weighed ballot counts the votes of samples that the model was surer of for more.
    """

    def __init__(
        self, reader: Reader, embedder: Embedder | None = None, *, weighed: bool = False
    ) -> None:
        self._reader, self._embedder, self._weighed = reader, embedder, weighed
        self._said: list[Said] = []
        self._answers: list[str | None] = []
        self._keys: Sequence[str | None] = ()

    def add(self, said: Sequence[Said]) -> None:
        """Takes more samples in."""
        self._said += said
        self._answers += [extracted(each, self._reader) for each in said]
        if any(answer is not None for answer in self._answers):
            self._keys = [
                None if answer is None else self._reader.key(answer) for answer in self._answers
            ]
        else:
            self._keys = self._free_form()

    def _free_form(self) -> list[str | None]:
        texts = [" ".join(each.text.split()) for each in self._said]
        known = [text for text in texts if text]
        names = known if self._embedder is None else clustered(known, self._embedder)
        alike = dict(zip(known, names, strict=True))
        return [alike.get(text) for text in texts]

    def __len__(self) -> int:
        return len(self._said)

    @property
    def votes(self) -> Votes:
        """The counts so far."""
        return Votes.of(self._keys)

    @property
    def agreement(self) -> float:
        """The share of all samples, by weight, that have the answer that leads; 0 without any."""
        weights = self._weights()
        return max(self._tally(weights).values(), default=0.0) / sum(weights)

    def ranked(self) -> list[tuple[Said, str | None]]:
        """The samples with their answers, those of the answer that leads first.

        Of those that are level the model's surest comes first, then the earliest.
        """
        tally = self._tally(self._weights())
        leader = (
            max(tally, key=tally.__getitem__, default=None) if self._weighed else voted(self._keys)
        )

        def rank(place: int) -> tuple[bool, float]:
            confidence = self._said[place].confidence
            trails = leader is None or self._keys[place] != leader
            return trails, float("inf") if confidence is None else -confidence

        places = sorted(range(len(self._said)), key=rank)
        return [(self._said[place], self._answers[place]) for place in places]

    def _tally(self, weights: Sequence[float]) -> dict[str, float]:
        tally: dict[str, float] = {}
        for key, weight in zip(self._keys, weights, strict=True):
            if key is not None:
                tally[key] = tally.get(key, 0.0) + weight
        return tally

    def _weights(self) -> list[float]:
        """All 1, or exp(confidence / CONFIDENCE_SCALE) where every sample has a confidence.

        Source: Taubenfeld et al. 2025, "Confidence Improves Self-Consistency in LLMs".
        """
        known = [each.confidence for each in self._said if each.confidence is not None]
        if not self._weighed or len(known) < len(self._said):
            return [1.0] * len(self._said)
        return [exp((confidence - max(known)) / CONFIDENCE_SCALE) for confidence in known]

    def answer(self, wanted: int, *, cut_short: bool) -> Answer:
        """The answer that leads, and others where the caller wants a choice."""
        (said, answer), *others = self.ranked()
        return Answer(
            said=said,
            evidence=Evidence(confidence=self.agreement),
            extracted=answer,
            cut_short=cut_short,
            others=tuple(each for each, _ in others[: wanted - 1]),
        )
