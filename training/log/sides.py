"""Two sides of a log: what a judged policy learns from, and the newest part that judges it.

Tomorrow is judged by today: where the log tells times, the newest share of its scores is held
out. Of a long log that would be weeks, of which whoever is judged knows nothing, though fewer
would do: `Recent` says how many. A text, or a person, that stands on both sides would let a
policy be judged by what it was taught; a coin gives each such one to one side, and its rows on
the other are left out. The coin is fair to both: were they all taken from one side, then that
side would be of new people alone, or the other would have lost what most of the traffic is
like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from router.types import Mask
from training.log.dataset import Indices, microseconds
from training.log.splits import coins, held_texts, normalised

LEAST_SCORED = 50
"""With fewer scored rows left to learn from, a log is not split by time or people."""

MOST_OF_ONE = 0.1
"""Who has asked more than this share of a log is no person, but a program that asks for many."""

_NEVER_US = 366 * 24 * 3600 * 1_000_000
_NEAR = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """No more is held out than the newest `span`, if those are so many `scored` rows."""

    scored: int
    span: timedelta = timedelta(days=7)

    def begins(self, times: Indices) -> int:
        """The place among scored rows' times (n,), which rise, from which on they are enough."""
        since = int(times[-1]) - int(self.span.total_seconds() * 1e6)
        return min(int(np.searchsorted(times, since)), max(len(times) - self.scored, 0))


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Which of n rows are learnt from and which are held out; the others are left out.

    No normalised text, and no person, is on both sides. `by_time` tells that the held-out
    rows are newer than all that is learnt from.
    """

    kept: Mask
    held: Mask
    by_time: bool

    @property
    def figures(self) -> Mapping[str, Any]:
        """What a policy's summary says of the split."""
        return {
            "by": "time" if self.by_time else "text",
            "kept_rows": int(self.kept.sum()),
            "held_out_rows": int(self.held.sum()),
            "left_out_rows": int((~self.kept & ~self.held).sum()),
        }


def sides(table: pa.Table, share: float, seed: int = 0, recent: Recent | None = None) -> Sides:
    """Splits the checked table of a log (`training.log.sources`), n rows.

    By time where its scored rows tell one, with people apart where they leave enough on
    either side; else by the hash of the text alone. Nobody is held out where a side would
    have no scored row.
    """
    scored = np.asarray(table["score"].is_valid())
    texts, people = _texts(table), _people(table)
    newest, hashed = _newest(table, scored, share, recent), _hashed(texts, share, seed)
    for held, by_time, groups in (
        (newest, True, (texts, people)),
        (hashed, False, (people,)),
        (hashed, False, ()),
    ):
        stays = _apart(held, groups, seed)
        least = LEAST_SCORED if groups else 1
        if (stays & ~held & scored).sum() >= least and (stays & held & scored).any():
            return Sides(kept=stays & ~held, held=stays & held, by_time=by_time)
    everyone = np.ones(len(table), bool)
    return Sides(kept=everyone, held=~everyone, by_time=False)


@dataclass(frozen=True, kw_only=True)
class _Groups:
    """The group of each row (n,), -1 for a row of its own, and the groups' names."""

    of: Indices
    names: list[str]


def _texts(table: pa.Table) -> _Groups:
    encoded = table["query"].dictionary_encode().combine_chunks()
    texts = [normalised(text) for text in encoded.dictionary.to_pylist()]
    names = sorted(set(texts))
    place = {name: number for number, name in enumerate(names)}
    of = np.array([place[text] for text in texts], np.intp)[encoded.indices.to_numpy()]
    return _Groups(of=of, names=names)


def _people(table: pa.Table) -> _Groups:
    encoded = table["subject"].dictionary_encode().combine_chunks()
    names = encoded.dictionary.to_pylist()
    of = np.asarray(encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), np.intp)
    asked = np.bincount(of[of >= 0], minlength=len(names))
    programs = np.flatnonzero(asked > MOST_OF_ONE * len(of))
    return _Groups(of=np.where(np.isin(of, programs), -1, of), names=names)


def _newest(table: pa.Table, scored: Mask, share: float, recent: Recent | None) -> Mask:
    """Rows from the time on at which the newest share of scores begins; none if no time does."""
    at = _told(table)
    times = np.sort(at[scored])
    if not len(times):
        return np.zeros(len(at), bool)
    begin = int((1.0 - share) * len(times))
    if recent is not None and begin < (enough := recent.begins(times)):
        begin, share = enough, 1.0 - enough / len(times)
    cut = times[min(begin, len(times) - 1)]
    found = min((at >= cut, at > cut), key=lambda held: abs(held[scored].mean() - share))
    near = share / _NEAR <= found[scored].mean() <= share * _NEAR
    return found if near else np.zeros(len(at), bool)


def _told(table: pa.Table) -> Indices:
    """Times (n,) in microseconds; what tells none, and history put at the epoch, is oldest."""
    at = microseconds(table)
    return np.where(at < _NEVER_US, 0, at)


def _hashed(texts: _Groups, share: float, seed: int) -> Mask:
    return np.asarray(held_texts(texts.names, share, seed)[texts.of])


def _apart(held: Mask, several: tuple[_Groups, ...], seed: int) -> Mask:
    """Rows (n,) that stay, so that no group is on both sides."""
    stays = np.ones(len(held), bool)
    for groups in several:
        stays &= _one_side_each(held, stays, groups, seed)
    return stays


def _one_side_each(held: Mask, there: Mask, groups: _Groups, seed: int) -> Mask:
    """Rows whose group stands on one side of those that are there, or was given theirs."""
    inside, count = groups.of >= 0, len(groups.names)
    ours = [
        np.bincount(groups.of[there & inside & side], minlength=count) for side in (held, ~held)
    ]
    both = np.flatnonzero((ours[0] > 0) & (ours[1] > 0))
    given = np.zeros(count + 1, np.int8)
    given[both] = np.where(coins([groups.names[each] for each in both], seed), 1, -1)
    side = given[groups.of]
    return np.asarray((side == 0) | ((side > 0) == held))
