"""What is done for the next step while gradients are computed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from timewarp_openmm.losses.prefetch import Prefetch


def known(value: int) -> Future[int]:
    pending: Future[int] = Future()
    pending.set_result(value)
    return pending


class Weights:
    """What a plan looks at: when it is made, and when its work is begun."""

    def __init__(self) -> None:
        self.value = 0
        self.planned = 0
        self.threads: list[threading.Thread] = []

    def plan(self) -> Callable[[], Future[int]]:
        self.planned += 1
        number = self.planned

        def begin() -> Future[int]:
            self.threads.append(threading.current_thread())
            return known(100 * number + self.value)

        return begin


def step(prefetch: Prefetch, weights: Weights) -> int:
    found = prefetch.take("loss", weights.plan)
    prefetch.begin()
    prefetch.settle()
    return found


def test_a_step_gets_what_was_begun_with_the_weights_of_two_steps_ago() -> None:
    prefetch, weights = Prefetch(), Weights()
    found = []
    for weights.value in range(1, 6):
        found.append(step(prefetch, weights))
    # The first two steps make their own, plans 1 and 3; later ones get those begun in steps 1, 2
    # and 3, which are plans 2, 4 and 5.
    assert found == [101, 302, 201, 402, 503]
    assert weights.planned == 7
    here = [thread is threading.main_thread() for thread in weights.threads]
    assert here == [True, False, True, False, False, False, False]


def test_nothing_looks_at_the_weights_once_it_is_settled() -> None:
    prefetch, weights = Prefetch(), Weights()
    step(prefetch, weights)
    step(prefetch, weights)
    weights.value = 50
    assert prefetch.take("loss", weights.plan) == 200


def test_what_is_finished_is_begun_anew() -> None:
    prefetch, weights = Prefetch(), Weights()
    for _ in range(3):
        step(prefetch, weights)
    planned = weights.planned
    prefetch.finish()
    weights.value = 7
    assert prefetch.take("loss", weights.plan) == 100 * (planned + 1) + 7


def test_what_fails_is_heard_of_before_weights_change() -> None:
    def broken() -> Future[int]:
        raise ValueError("no energy")

    plans: Iterator[Callable[[], Future[int]]] = iter([lambda: known(1), broken])
    prefetch = Prefetch()
    assert prefetch.take("loss", lambda: next(plans)) == 1
    prefetch.begin()
    with pytest.raises(ValueError, match="no energy"):
        prefetch.settle()
