"""The training job: the way of a run through its stages, and nothing else.

watermark -> dataset -> targets -> sides -> judged policy, with its figures -> policy
          -> drift, scaling laws -> gate -> registry -> canary

Each stage leaves a result and reads what the ones before it left, so that a run which was
broken off goes on where it was, and ends with the same bytes as if it had not been.
"""

from __future__ import annotations

from training.run.room import Registered, Room
from training.run.stage_results import (
    Interactions,
    Taught,
    read_looked,
    read_settled,
    read_sides,
    read_verdict,
    write_looked,
    write_settled,
    write_sides,
    write_verdict,
)

STAGES = (
    *("dataset", "targets", "sides", "judged", "policy"),
    *("drift", "scaling", "gate", "register", "canary"),
)


def train(room: Room) -> Registered:
    """Learns from every interaction before the run's watermark and registers the policy.

    What passes the gate begins as a canary, which the watcher lets grow or ends.

    Raises InvalidInput when they cannot teach, Unavailable when Postgres is away, and
    Conflict when another run has taken this one's place.
    """
    dataset = room.stage("dataset", lambda out: Interactions.write(out, *room.interactions()))
    found = Interactions.read(dataset)

    targets = room.stage("targets", lambda out: write_settled(out, room.settled(found)))
    settled = read_settled(targets)

    split = room.stage("sides", lambda out: write_sides(out, room.sides(settled)))
    sides = read_sides(split)

    school = room.school(found, settled)
    first = room.stage("judged", lambda out: Taught.write(out, *school.judged(sides)))
    judged = Taught.read(first)

    second = room.stage("policy", lambda out: Taught.write(out, *school.policy(judged)))
    policy = Taught.read(second)

    moved = room.stage("drift", lambda out: write_looked(out, room.drift(settled)), room.serving())
    laws = room.stage("scaling", lambda out: write_looked(out, room.laws(settled)))

    third = room.stage(
        "gate",
        lambda out: write_verdict(out, room.verdict(found, settled, sides, judged, policy)),
        room.serving(),
    )
    verdict = read_verdict(third)

    room.reach("register")
    looked = {"drift": read_looked(moved), "scaling": read_looked(laws)}
    done = room.registered(settled, sides, (judged, policy), verdict, looked)
    room.reach("canary")
    return room.tried(done)
