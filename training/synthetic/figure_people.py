# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
A person seen from the side, over time: the angles of its joints, and the places of its limbs that follow from them.

Lengths are in units of the mean body height, times are shares of the clip. Points are (y, x), as in pictures: y is 0 on the
ground and negative above it. Angles are in radians; those of limbs from straight down, that of the trunk from straight up,
and all are positive where a limb or the trunk points forwards, the way the person faces.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


# Lengths of a body of height 1, from the ankle to the centre of the head.
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
        share = np.clip((self.times - begin) / (end - begin), 0, 1)
        self.way = self.way + length * smooth(share)
        num_strides = max(1, round(abs(length) / STRIDE))
        phase = 2 * np.pi * num_strides * share * np.sign(length)
        vigour = np.sin(np.pi * share) * min(1, 0.3 + 0.7 * abs(length) / FULL_STRIDE)
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


def smooth(share: np.ndarray) -> np.ndarray:
    """From 0 to 1 as `share` does, without a jerk at either end; beyond, as at the nearer end."""
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)


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
