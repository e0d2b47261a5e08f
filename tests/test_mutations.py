"""Each safeguard broken on purpose: some simulated night notices, so that none is there in vain."""

from __future__ import annotations

import pytest
from simulation.mutations import MUTATIONS, Mutation, hunt
from simulation.night import play


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.broken)
def test_a_broken_safeguard_is_noticed(mutation: Mutation):
    told = hunt(mutation)
    assert told is not None
    # A patch that no longer fits the code shows nothing.
    assert "Error:" not in told.violations[0]


def test_the_safeguards_are_whole_again_after_a_mutation():
    before = [play(seed).fingerprint for seed in range(3)]
    for mutation in MUTATIONS:
        with mutation.applied():
            pass
    assert [play(seed).fingerprint for seed in range(3)] == before
