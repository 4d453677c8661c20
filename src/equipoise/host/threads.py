"""How many threads to compute with: beside other work on the same cores, fewer can be several times as fast.

Threads wait for each other after every small operation, and lose almost everything where one of them is kept waiting.
So another number is tried for about a second now and then, and kept where it is faster than the present one was both
before and after it. One that is sure to lose is put off, and one that loses ends after a second: beside other work, a
second's worth of training with it can take a quarter of a minute.
"""

import math
from dataclasses import dataclass, replace

TURN_SECONDS = 1.0  # of training that a speed is taken from at least
GAIN = 1.1  # times as fast must be what takes the present number's place
REST_SECONDS = 60.0  # until another number is tried again
DROP = 1.5  # times slower than after the last trial, and one is tried at once


@dataclass(frozen=True)
class ThreadChoice:
    """The number of threads that was the fastest so far, and how far a trial of another one has come."""

    most: int
    settled: int
    speed: float = math.nan  # samples a second of the settled number, in its last turn
    on_trial: int | None = None
    trial_speed: float = math.nan  # once it has had its turn
    rested: float = REST_SECONDS  # seconds since the last trial: the first one comes at once
    is_upwards: bool = False  # whether more threads are tried next, or fewer
    samples: int = 0  # of the present turn
    seconds: float = 0.0

    @property
    def now(self) -> int:
        """The number to compute with."""
        if self.on_trial is not None and math.isnan(self.trial_speed):
            return self.on_trial
        return self.settled


def observed(choice: ThreadChoice, samples: int, seconds: float) -> ThreadChoice:
    """Take in so many samples of training with the present number, and return the choice as it is now."""
    choice = replace(choice, samples=choice.samples + samples, seconds=choice.seconds + seconds)
    if choice.most == 1 or choice.seconds < TURN_SECONDS:
        return choice
    turn = choice.seconds
    speed = choice.samples / turn
    choice = replace(choice, samples=0, seconds=0.0)
    if choice.on_trial is None:
        return _rested(choice, speed, turn)
    if math.isnan(choice.trial_speed):
        return replace(choice, trial_speed=speed)
    return _decided(choice, speed)


def begins_trial(before: ThreadChoice, now: ThreadChoice) -> bool:
    """Return whether a trial begins with this choice."""
    return before.on_trial is None and now.on_trial is not None


def put_off(choice: ThreadChoice) -> ThreadChoice:
    """Give a trial up before its turn, and rest."""
    return replace(choice, on_trial=None, rested=0.0, is_upwards=not choice.is_upwards)


def is_lost(choice: ThreadChoice, samples: int, seconds: float) -> bool:
    """Return whether a number on trial has lost, with so many samples since the last observation: the rest is saved."""
    if choice.on_trial is None or not math.isnan(choice.trial_speed):
        return False
    seconds += choice.seconds
    return seconds >= TURN_SECONDS and DROP * (samples + choice.samples) < choice.speed * seconds


def _rested(choice: ThreadChoice, speed: float, turn: float) -> ThreadChoice:
    """Begin a trial where the last one is long ago, or the training has become much slower since."""
    rested = choice.rested + turn
    if rested < REST_SECONDS and not choice.speed > DROP * speed:
        return replace(choice, rested=rested)
    upwards = choice.settled == 1 or (choice.is_upwards and choice.settled < choice.most)
    other = choice.settled // 2
    if upwards:
        other = min(choice.most, 2 * choice.settled)
    return replace(choice, speed=speed, on_trial=other, is_upwards=upwards)


def _decided(choice: ThreadChoice, speed: float) -> ThreadChoice:
    """Settle for the number that was tried, and go on in its direction, where it was faster; else stay, and rest."""
    assert choice.on_trial is not None
    is_faster = choice.trial_speed > GAIN * max(choice.speed, speed)
    over = replace(choice, on_trial=None, trial_speed=math.nan)
    if is_faster:
        return replace(over, settled=choice.on_trial, speed=choice.trial_speed, rested=REST_SECONDS)
    return replace(over, speed=speed, rested=0.0, is_upwards=not choice.is_upwards)
