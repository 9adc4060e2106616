"""What is done for the next step while gradients are computed."""

from __future__ import annotations

import threading
from collections.abc import Callable
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


def test_a_step_gets_what_was_begun_with_the_weights_of_the_step_before() -> None:
    prefetch, weights = Prefetch(), Weights()
    found = []
    for weights.value in range(1, 4):
        found.append(prefetch.take("loss", weights.plan))
        prefetch.begin()
        prefetch.settle()
    # The first step has its own; each later one what was planned and begun one step ago.
    assert found == [101, 201, 302]
    assert weights.planned == 4
    assert weights.threads[0] is threading.main_thread()
    assert threading.main_thread() not in weights.threads[1:]


def test_nothing_looks_at_the_weights_once_it_is_settled() -> None:
    prefetch, weights = Prefetch(), Weights()
    prefetch.take("loss", weights.plan)
    prefetch.begin()
    prefetch.settle()
    weights.value = 50
    assert prefetch.take("loss", weights.plan) == 200


def test_what_is_finished_is_begun_anew() -> None:
    prefetch, weights = Prefetch(), Weights()
    prefetch.take("loss", weights.plan)
    prefetch.begin()
    prefetch.finish()
    weights.value = 7
    assert prefetch.take("loss", weights.plan) == 307
    prefetch.finish()
    assert prefetch.take("loss", weights.plan) == 507


def test_what_fails_is_heard_of_before_weights_change() -> None:
    def broken() -> Future[int]:
        raise ValueError("no energy")

    plans = iter([lambda: known(1), broken])
    prefetch = Prefetch()
    assert prefetch.take("loss", lambda: next(plans)) == 1
    prefetch.begin()
    with pytest.raises(ValueError, match="no energy"):
        prefetch.settle()
