"""Judgements of two answers at a time, put together into rankings where they say one."""

from __future__ import annotations

from collections.abc import Sequence

Comparison = tuple[str, str, int]  # answer, answer, and -1: the first is better, 0: a tie, 1: the second is better


def merge(comparisons: Sequence[Comparison]) -> dict[str, int] | None:
    """The one ranking of all answers (1 = best, ties share a rank) that the comparisons determine, else None.

    Tied answers form a class; better-than goes between classes. The comparisons determine a ranking if that relation
    has no cycle and orders the classes in one way only, which is so exactly when each class is judged better than the
    next. Nothing is guessed: with a > b and a > c alone, b and c stay uncompared and the answer is None.
    """
    parent: dict[str, str] = {}
    for first, second, _ in comparisons:
        parent.setdefault(first, first)
        parent.setdefault(second, second)

    def root(answer: str) -> str:
        while parent[answer] != answer:
            answer = parent[answer]
        return answer

    for first, second, verdict in comparisons:
        if verdict == 0:
            parent[root(second)] = root(first)
    worse: dict[str, dict[str, None]] = {root(answer): {} for answer in parent}
    above = dict.fromkeys(worse, 0)
    for first, second, verdict in comparisons:
        if verdict:
            better, other = (root(first), root(second)) if verdict < 0 else (root(second), root(first))
            if other not in worse[better]:
                worse[better][other] = None
                above[other] += 1
    order: list[str] = []
    free = [name for name, count in above.items() if count == 0]
    while len(free) == 1:
        name = free.pop()
        order.append(name)
        for other in worse[name]:
            above[other] -= 1
            if above[other] == 0:
                free.append(other)
    if len(order) < len(worse):
        return None
    place = {name: rank for rank, name in enumerate(order, start=1)}
    return {answer: place[root(answer)] for answer in parent}
