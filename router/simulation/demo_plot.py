"""The report's picture: accuracy against cost of every arm and of the three ways, as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from router.simulation.demo_figures import Way
from router.types import Arm

WIDTH, HEIGHT = 900, 520
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 18, 110
COLOURS = ("#8b97a5", "#3b82c4", "#7a5cc7", "#c77d1e", "#c2456b")
WAY_COLOURS = ("#0b9a5d", "#f08c00", "#111827")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """From dollars per 1,000 queries (by their logarithm) and accuracy to pixels."""

    low: float
    high: float
    floor: float

    def x(self, usd_per_1000: float) -> float:
        share = (log10(usd_per_1000) - self.low) / (self.high - self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, accuracy: float) -> float:
        share = (accuracy - self.floor) / (1 - self.floor)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def plot(arms: Mapping[Arm, Way], ways: Sequence[Way]) -> str:
    """The picture as an SVG element; every point says what it is when pointed at."""
    scale = _scale([*arms.values(), *ways])
    models = list(dict.fromkeys(arm.model for arm in arms))
    colours = {model: COLOURS[i % len(COLOURS)] for i, model in enumerate(models)}
    parts = [*_grid(scale), *_arms(arms, colours, scale), *_ways(ways, scale), *_legend(colours)]
    body = "\n".join(parts)
    label = "Accuracy against cost of every arm and of the three ways"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">\n{body}\n</svg>'


def _scale(ways: Sequence[Way]) -> _Scale:
    costs = [log10(max(way.usd_per_1000, 1e-6)) for way in ways]
    least = min(way.interval.low for way in ways)
    return _Scale(
        low=min(costs) - 0.1, high=max(costs) + 0.15, floor=max(0.0, floor(10 * least) / 10)
    )


def _grid(scale: _Scale) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for tenth in range(ceil(10 * scale.floor - 1e-9), 11):
        y = scale.y(tenth / 10)
        yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(LEFT - 8, y + 4, f"{tenth / 10:.1f}", anchor="end", kind="soft")
    for usd in _ticks(scale):
        x = scale.x(usd)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>'
        yield _text(x, bottom + 18, f"${usd:g}", anchor="middle", kind="soft")
    middle = (LEFT + right) / 2
    yield _text(middle, bottom + 40, "dollars per 1,000 questions", anchor="middle", kind="soft")
    yield _text(LEFT, TOP - 3, "accuracy", anchor="start", kind="soft")


def _ticks(scale: _Scale) -> list[float]:
    powers = range(floor(scale.low) - 1, ceil(scale.high) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    return [tick for tick in ticks if scale.low <= log10(tick) <= scale.high]


def _arms(arms: Mapping[Arm, Way], colours: Mapping[str, str], scale: _Scale) -> Iterator[str]:
    for arm, way in arms.items():
        x, colour = scale.x(way.usd_per_1000), colours[arm.model]
        low, high = scale.y(way.interval.low), scale.y(way.interval.high)
        yield (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" '
            f'stroke="{colour}" stroke-opacity="0.35" stroke-width="2"/>'
        )
        yield (
            f'<circle cx="{x:.1f}" cy="{scale.y(way.accuracy):.1f}" r="4.5" fill="{colour}">'
            f"<title>{escape(_told(way))}</title></circle>"
        )


def _ways(ways: Sequence[Way], scale: _Scale) -> Iterator[str]:
    """Large points, named in a line below; ways that are the same point share one."""
    places: dict[tuple[float, float], list[Way]] = {}
    for way in ways:
        places.setdefault((way.usd_per_1000, way.accuracy), []).append(way)
    for number, ((usd, accuracy), together) in enumerate(reversed(places.items())):
        colour, told = WAY_COLOURS[number], escape("; ".join(map(_told, together)))
        yield _diamond(scale.x(usd), scale.y(accuracy), colour, f"<title>{told}</title>")
        x, y = LEFT + number * (WIDTH - LEFT - RIGHT) / len(places), HEIGHT - 40
        yield _diamond(x + 8, y - 4, colour)
        yield _text(x + 24, y, " = ".join(way.name for way in together), anchor="start")


def _diamond(x: float, y: float, colour: str, inside: str = "") -> str:
    corners = ((0, -9), (9, 0), (0, 9), (-9, 0))
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return (
        f'<polygon points="{points}" fill="{colour}" stroke="#fff" stroke-width="1.5">'
        f"{inside}</polygon>"
    )


def _legend(colours: Mapping[str, str]) -> Iterator[str]:
    y = HEIGHT - 16
    for i, (model, colour) in enumerate(colours.items()):
        x = LEFT + i * (WIDTH - LEFT - RIGHT) / len(colours)
        yield f'<circle cx="{x + 6:.1f}" cy="{y - 4}" r="4.5" fill="{colour}"/>'
        yield _text(x + 16, y, model, anchor="start", kind="soft")


def _told(way: Way) -> str:
    return f"{way.name}: accuracy {way.accuracy:.3f}, ${way.usd_per_1000:.2f} per 1,000"


def _text(x: float, y: float, text: str, *, anchor: str, kind: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'
