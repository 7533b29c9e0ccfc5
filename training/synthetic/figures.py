# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Two simulated people and six things that they do, as the angles of their joints over time: the classes of UT-Interaction.

Angles are in radians, lengths in body heights, times in fractions of the clip. The simulation follows the training clips of
UT-Interaction and no others: begin and duration of each action are set so that frames differ where and when they do in those
clips, on average over a class. Each action is random in who moves when, how far and how high, and which person faces right.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np


# Lengths of a body of height 1, from the ankle to the center of the head.
SOLE, SHIN, THIGH, TRUNK, NECK, UPPER_ARM, FOREARM, FOOT = 0.02, 0.25, 0.25, 0.33, 0.085, 0.165, 0.17, 0.05
SHOULDER = 0.93  # where on the trunk, from the hip (0) to the neck (1)
NOD = 0.1  # angle of the head ahead of that of the trunk
NEAR, FAR = 0, 1  # sides of the body, as the camera sees it
STRIDE = 0.35  # what two steps cover
FULL_STRIDE = 0.14  # a way from which on legs swing fully; on shorter ones they do so less


@dataclass
class Person:
    """
    times: `(frames,)`.
    start, facing: x of the hip at first, and 1 to face right or -1 to face left.
    height: of the body. ground: y of the ground below the feet, negative for somebody farther behind.
    way: how far the person has gone forwards, `(frames,)`. lean: angle of the trunk, `(frames,)`.
    thighs, arms: angles of the near and the far thigh and upper arm, `(2, frames)`.
    knees, elbows: angles of shins and forearms beyond those, `(2, frames)`; bent knees are negative, elbows positive.
    """

    times: np.ndarray
    start: float
    facing: int
    height: float
    way: np.ndarray
    lean: np.ndarray
    thighs: np.ndarray
    arms: np.ndarray
    knees: np.ndarray
    elbows: np.ndarray
    ground: float = 0.0

    def walk(self, begin: float, end: float, length: float) -> None:
        """Go forwards between two times, or backwards where `length` is negative, from standing to standing."""
        fraction = np.clip((self.times - begin) / (end - begin), 0, 1)
        self.way = self.way + length * smooth(fraction)
        num_strides = max(1, round(abs(length) / STRIDE))
        phase = 2 * np.pi * num_strides * fraction * np.sign(length)
        vigour = np.sin(np.pi * fraction) * min(1, 0.3 + 0.7 * abs(length) / FULL_STRIDE)
        self.swing(phase, vigour)

    def swing(self, phase: np.ndarray, vigour: np.ndarray | float) -> None:
        """Swing legs, and arms against them; `phase` grows by a turn per stride, `vigour` is from 0 to 1."""
        swing = np.stack([np.sin(phase), -np.sin(phase)]) * vigour
        lifted = np.maximum(0, np.stack([np.cos(phase), -np.cos(phase)])) * vigour
        self.thighs = self.thighs + 0.4 * swing
        self.knees = self.knees - 0.3 * lifted
        self.arms = self.arms - 0.2 * swing

    def pose_arm(self, side: int, weight: np.ndarray, angle: np.ndarray | float, bend: np.ndarray | float) -> None:
        """Take an arm to an angle of the upper arm and a bend of the elbow, as far as `weight` (0 to 1) says."""
        self.arms[side] += weight * (angle - self.arms[side])
        self.elbows[side] += weight * (bend - self.elbows[side])

    def reach(self, side: int, weight: np.ndarray, target: np.ndarray) -> None:
        """Take a hand to `target`, `(frames, 2)`, or as near as the arm is long, as far as `weight` (0 to 1) says."""
        down, across = (target - self.joints().shoulder).T / self.height
        distance = np.clip(np.hypot(down, across), abs(UPPER_ARM - FOREARM) + 1e-6, UPPER_ARM + FOREARM - 1e-6)
        straight = np.arctan2(across * self.facing, down)
        # Cosine rule in the triangle of shoulder, elbow and hand.
        at_shoulder = np.arccos((UPPER_ARM**2 + distance**2 - FOREARM**2) / (2 * UPPER_ARM * distance))
        at_elbow = np.arccos((UPPER_ARM**2 + FOREARM**2 - distance**2) / (2 * UPPER_ARM * FOREARM))
        self.pose_arm(side, weight, straight - at_shoulder, np.pi - at_elbow)

    def joints(self) -> "Joints":
        """Where the joints are. The hip is as high as the straighter leg holds it: one foot is always on the ground."""
        legs = THIGH * np.cos(self.thighs) + SHIN * np.cos(self.thighs + self.knees)
        hip_y = self.ground - self.height * (SOLE + legs.max(0))
        hip = np.stack([hip_y, self.start + self.facing * self.way], axis=-1)
        trunk = -self._limb(TRUNK, -self.lean)
        neck = hip + trunk
        head = neck - self._limb(NECK, -self.lean - NOD)
        shoulder = hip + SHOULDER * trunk
        elbows = shoulder + self._limb(UPPER_ARM, self.arms)
        hands = elbows + self._limb(FOREARM, self.arms + self.elbows)
        knees = hip + self._limb(THIGH, self.thighs)
        ankles = knees + self._limb(SHIN, self.thighs + self.knees)
        toes = ankles + np.array([0, self.facing * FOOT * self.height])
        return Joints(hip, neck, head, shoulder, elbows, hands, knees, ankles, toes)

    def _limb(self, length: float, angle: np.ndarray) -> np.ndarray:
        """From the upper to the lower end of a limb, `(..., frames, 2)`."""
        ahead = self.facing * np.sin(angle)
        return self.height * length * np.stack([np.cos(angle), ahead], axis=-1)


class Joints(NamedTuple):
    """Points (y, x): one per frame, `(frames, 2)`, of which there are a near and a far one `(2, frames, 2)`."""

    hip: np.ndarray
    neck: np.ndarray
    head: np.ndarray
    shoulder: np.ndarray
    elbows: np.ndarray
    hands: np.ndarray
    knees: np.ndarray
    ankles: np.ndarray
    toes: np.ndarray


def smooth(fraction: np.ndarray) -> np.ndarray:
    """From 0 to 1 as `fraction` does, with zero slope at both ends; constant beyond them."""
    fraction = np.clip(fraction, 0, 1)
    return fraction * fraction * (3 - 2 * fraction)


def standing(rng: np.random.Generator, times: np.ndarray, start: float = 0.0, facing: int = 1) -> Person:
    """Somebody of random height who stands, sways a little and moves the arms a little."""
    uniform = rng.uniform

    def swaying(most: float) -> np.ndarray:
        cycles, phase = uniform(0.5, 2), uniform()
        return most * np.sin(2 * np.pi * (times * cycles + phase))

    def constant(*values: float) -> np.ndarray:
        return np.repeat(np.array(values)[:, None], len(times), axis=1)

    return Person(
        times,
        start,
        facing,
        height=uniform(0.92, 1.08),
        way=swaying(uniform(-0.01, 0.01)),
        lean=constant(uniform(-0.05, 0.06))[0],
        thighs=constant(uniform(0, 0.2), -uniform(0, 0.2)),
        knees=constant(-uniform(0, 0.1), -uniform(0, 0.1)),
        arms=np.stack([uniform(-0.15, 0.25) + swaying(0.05) for _ in range(2)]),
        elbows=constant(uniform(0, 0.45), uniform(0, 0.45)),
    )


def passing_by(rng: np.random.Generator, times: np.ndarray, left: float, right: float) -> Person:
    """Somebody who walks straight on, behind everybody else, from somewhere between `left` and `right`."""
    uniform = rng.uniform
    start, speed = uniform(left, right), uniform(-0.8, 0.8)  # body heights per clip
    person = standing(rng, times, start, facing=1 if speed > 0 else -1)
    person.ground = -uniform(0.3, 0.9)
    person.way = abs(speed) * times
    strides_per_clip = 3
    person.swing(2 * np.pi * (strides_per_clip * times + uniform()), vigour=1)
    return person


SIDES = (NEAR, FAR)
BEGINNINGS = {  # when the first moves, fractions of the clip
    "hand_shaking": (0.12, 0.22),
    "hugging": (0.13, 0.24),
    "kicking": (0.12, 0.36),
    "pointing": (0.08, 0.2),
    "punching": (0.2, 0.4),
    "pushing": (0.17, 0.36),
}
ONLOOKERS = 0.12  # fraction of pointing clips in which somebody else is there
Range = tuple[float, float]


class Stroke(NamedTuple):
    """Times of a movement, as fractions of the clip: begin, full extent, begin of the return, end."""

    begin: float
    reached: float
    left: float
    end: float

    def weight(self, times: np.ndarray) -> np.ndarray:
        """How far it is done at each of `times`, from 0 to 1."""
        rise = smooth((times - self.begin) / (self.reached - self.begin))
        return rise * (1 - smooth((times - self.left) / (self.end - self.left)))


def random_stroke(rng: np.random.Generator, begin: float, rise: Range, stay: Range, fall: Range) -> Stroke:
    """A stroke from `begin` on whose three parts last as long as the ranges say."""
    return Stroke(*accumulate([begin, *(rng.uniform(*part) for part in (rise, stay, fall))]))


def flexing(begin: float, end: float) -> Stroke:
    """What is done most half-way between two times."""
    middle = (begin + end) / 2
    return Stroke(begin, middle, middle, end)


def act(action: str, rng: np.random.Generator, times: np.ndarray) -> list[Person]:
    """
    The people of a clip at `times` (fractions of the clip): the person who acts, facing right, then the other, facing left.

    action: one of `ACTIONS`.
    """
    distance = rng.uniform(0.55, 1.0)
    first, second = standing(rng, times), standing(rng, times, start=distance, facing=-1)
    ACTIONS[action](first, second, rng.uniform(*BEGINNINGS[action]), rng)
    is_alone = action == "pointing" and rng.uniform() >= ONLOOKERS
    return [first] if is_alone else [first, second]


def _shake_hands(first: Person, second: Person, begin: float, rng: np.random.Generator) -> None:
    uniform, times = rng.uniform, first.times
    way, fraction = second.start - uniform(0.36, 0.5), uniform(0.3, 0.7)
    ways = way * fraction, way * (1 - fraction)
    arrival = begin + uniform(0.12, 0.25)
    first.walk(begin, arrival, ways[0])
    second.walk(begin + uniform(-0.05, 0.08), arrival + uniform(0, 0.05), ways[1])
    grip = random_stroke(rng, arrival + uniform(-0.08, 0.02), rise=(0.08, 0.15), stay=(0.1, 0.3), fall=(0.05, 0.12))
    weights = [grip._replace(begin=grip.begin + uniform(-0.02, 0.03)).weight(times) for _ in range(2)]
    for person, weight in zip((first, second), weights, strict=True):
        person.lean = person.lean + uniform(0, 0.15) * weight
    # Both give the right hand, or in the mirror the left: near to the camera of the one, far of the other.
    side = int(rng.integers(2))
    pumping = uniform(0.004, 0.025) * np.sin(2 * np.pi * (times * uniform(5, 12) + uniform()))
    below_shoulders = np.stack([uniform(0.12, 0.2) + pumping, 0 * times], axis=-1)
    target = (first.joints().shoulder + second.joints().shoulder) / 2 + below_shoulders
    first.reach(side, weights[0], target)
    second.reach(1 - side, weights[1], target)
    for person, came in ((first, ways[0]), (second, ways[1])):
        if uniform() < 0.9:
            leaving = grip.left + uniform(0, 0.1)
            person.walk(leaving, leaving + uniform(0.15, 0.28), -came * uniform(0.7, 1))


def _hug(first: Person, second: Person, begin: float, rng: np.random.Generator) -> None:
    uniform, times = rng.uniform, first.times
    way, fraction = second.start - uniform(0.06, 0.16), uniform(0.25, 0.75)
    embrace = random_stroke(rng, begin, rise=(0.14, 0.25), stay=(0.2, 0.38), fall=(0.1, 0.2))
    for person, own, delay in ((first, way * fraction, (0, 0)), (second, way * (1 - fraction), (-0.04, 0.06))):
        person.walk(begin + uniform(*delay), embrace.reached, own)
        weight = embrace._replace(begin=begin + uniform(-0.02, 0.08)).weight(times)
        for side in SIDES:
            person.pose_arm(side, weight, angle=uniform(1.0, 1.7), bend=uniform(0.2, 1.0))
        person.lean = person.lean + uniform(0, 0.2) * weight
        person.walk(embrace.left, embrace.end + uniform(0.02, 0.1), -own * uniform(0.6, 1))


def _kick(first: Person, second: Person, begin: float, rng: np.random.Generator) -> None:
    uniform, times = rng.uniform, first.times
    arrival = _come_near(first, second, begin, rng, gap=(0.45, 0.75), lasting=(0.1, 0.22))
    kick = random_stroke(rng, arrival + uniform(-0.05, 0.05), rise=(0.07, 0.15), stay=(0.02, 0.16), fall=(0.08, 0.2))
    weight, leg = kick.weight(times), int(rng.integers(2))
    drawn_up = flexing(kick.begin, kick.reached).weight(times)
    first.thighs[leg] += weight * (uniform(1.1, 2.1) - first.thighs[leg])
    first.knees[leg] *= 1 - weight
    first.knees[leg] -= uniform(0.8, 1.4) * drawn_up + uniform(0, 0.3) * weight
    first.lean = first.lean - uniform(0.1, 0.8) * weight
    for side in SIDES:
        first.pose_arm(side, weight * uniform(0.3, 1), angle=uniform(-0.6, 0.9), bend=uniform(0, 0.7))
    hit = kick.reached - 0.02
    second.walk(hit, kick.reached + uniform(0.08, 0.2), -uniform(0.02, 0.25))
    bent = smooth((times - hit) / uniform(0.07, 0.14)) - uniform(0.3, 1) * smooth((times - kick.end) / 0.2)
    second.lean = second.lean + bent * uniform(-0.3, 0.8)
    if uniform() < 0.5:
        guard = kick._replace(left=kick.end, end=kick.end + 0.1).weight(times)
        for side in SIDES:
            second.pose_arm(side, guard, angle=uniform(0.1, 0.8), bend=uniform(0.3, 0.9))
    if uniform() < 0.8:
        first.walk(kick.end, kick.end + uniform(0.1, 0.25), -uniform(0.1, 0.4))


def _point(first: Person, second: Person, begin: float, rng: np.random.Generator) -> None:
    uniform, times = rng.uniform, first.times
    stroke = random_stroke(rng, begin, rise=(0.1, 0.2), stay=(0.32, 0.5), fall=(0.1, 0.2))
    weight, side = stroke.weight(times), int(rng.integers(2))
    first.pose_arm(side, weight, angle=uniform(1.25, 1.9), bend=uniform(0, 0.15))
    first.elbows[side] += uniform(0, 0.8) * flexing(stroke.begin, stroke.reached).weight(times)
    first.lean = first.lean + uniform(-0.1, 0.12) * weight


def _punch(first: Person, second: Person, begin: float, rng: np.random.Generator) -> None:
    uniform, times = rng.uniform, first.times
    arrival = _come_near(first, second, begin, rng, gap=(0.38, 0.6), lasting=(0.12, 0.26))
    punch = random_stroke(rng, arrival + uniform(-0.06, 0.04), rise=(0.05, 0.1), stay=(0.02, 0.28), fall=(0.07, 0.2))
    weight, side = punch.weight(times), int(rng.integers(2))
    first.pose_arm(side, weight, angle=uniform(1.45, 2.05), bend=uniform(0, 0.2))
    drawn_back = Stroke(punch.begin - 0.1, punch.begin - 0.02, punch.begin, punch.reached).weight(times)
    first.pose_arm(side, drawn_back * uniform(), angle=uniform(-0.8, 0.9), bend=uniform(1.4, 2.4))
    first.lean = first.lean + uniform(0.15, 1.0) * weight
    lunge(first, punch._replace(begin=punch.begin - uniform(0, 0.1)), rng, depth=(0.2, 0.8))
    if uniform() < 0.5:
        first.pose_arm(1 - side, weight, angle=uniform(-0.5, 0.5), bend=uniform(0.6, 1.7))
    reeling = Stroke(
        punch.reached - 0.01,
        punch.reached + uniform(0.03, 0.08),
        punch.reached + uniform(0.08, 0.2),
        punch.end + uniform(0.1, 0.3),
    )
    bent = -uniform(0.15, 0.8) if uniform() < 0.75 else uniform(0.2, 0.9)
    second.lean = second.lean + bent * reeling.weight(times)
    second.walk(punch.reached, punch.reached + uniform(0.08, 0.25), -uniform(0.02, 0.45))
    if uniform() < 0.5:
        first.walk(punch.end, punch.end + uniform(0.1, 0.25), -uniform(0.05, 0.4))


def _push(first: Person, second: Person, begin: float, rng: np.random.Generator) -> None:
    uniform, times = rng.uniform, first.times
    arrival = _come_near(first, second, begin, rng, gap=(0.38, 0.58), lasting=(0.14, 0.28))
    push = random_stroke(rng, arrival + uniform(-0.08, 0.03), rise=(0.08, 0.16), stay=(0.08, 0.25), fall=(0.08, 0.2))
    weight, touch = push.weight(times), push.reached
    for side in SIDES:
        first.pose_arm(side, weight, angle=uniform(1.2, 1.7), bend=uniform(0, 0.25))
    first.lean = first.lean + uniform(0.1, 0.5) * weight
    lunge(first, push, rng, depth=(0.05, 0.5))
    first.walk(push.begin, push.reached, uniform(0, 0.2))
    second.walk(touch - 0.03, touch + uniform(0.2, 0.45), -uniform(0.3, 1.1))
    reeling = Stroke(touch - 0.03, touch + 0.04, touch + 0.1, touch + 0.3).weight(times)
    second.lean = second.lean - uniform(0.05, 0.35) * reeling
    raised = Stroke(touch, touch + 0.06, touch + 0.12, touch + 0.3).weight(times)
    for side in SIDES:
        second.pose_arm(side, raised * uniform(0, 0.8), angle=uniform(0.2, 1.3), bend=uniform(0, 0.5))


def lunge(person: Person, stroke: Stroke, rng: np.random.Generator, depth: Range) -> None:
    """Stand with one leg ahead and one behind, from a little before a stroke to a little after it."""
    uniform, front = rng.uniform, int(rng.integers(2))
    stance = stroke._replace(begin=stroke.begin - 0.04, end=stroke.end + 0.06).weight(person.times)
    person.thighs[front] += stance * uniform(*depth)
    person.thighs[1 - front] -= stance * uniform(*depth)
    person.knees[front] -= stance * uniform(0, 0.4)


def _come_near(
    first: Person, second: Person, begin: float, rng: np.random.Generator, gap: Range, lasting: Range
) -> float:
    """The first walks towards the second until `gap` is between their hips; returns when that is."""
    way, arrival = second.start - rng.uniform(*gap), begin + rng.uniform(*lasting)
    if way > 0.04:
        first.walk(begin, arrival, way)
    return arrival


ACTIONS: dict[str, Callable[[Person, Person, float, np.random.Generator], None]] = {
    "hand_shaking": _shake_hands,
    "hugging": _hug,
    "kicking": _kick,
    "pointing": _point,
    "punching": _punch,
    "pushing": _push,
}
