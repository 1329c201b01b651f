"""The agents' memory text: every turn's id stays in it, whatever was said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remanence.lab.memory_text import KEPT_TURNS, ids_of, rewrite
from remanence.lab.transcripts import Turn

turns = st.builds(Turn, speaker=st.text(max_size=8), text=st.text(max_size=40))


@given(st.lists(st.tuples(st.integers(0, 300), turns), min_size=1, max_size=60))
def test_every_id_folded_in_is_found_again(told: list[tuple[int, Turn]]) -> None:
    """Whatever is said, in any order, the memory knows exactly the ids that were folded in."""
    memory = None
    for number, turn in told:
        memory = rewrite(memory, number, turn)
    assert ids_of(memory) == {number for number, _ in told}


def test_nothing_said_passes_for_an_id() -> None:
    """A speaker who writes like the memory's own first line adds no id."""
    memory = rewrite(None, 1, Turn("turns: 5", "turns: 6\nturns: 7-9\n- turns: 8"))
    assert ids_of(rewrite(memory, 2, Turn("turns", "3"))) == {1, 2}


def test_only_the_last_turns_are_kept_in_full_and_ids_stay_short() -> None:
    """A memory of a thousand turns holds the text of a few, and its ids as one range."""
    memory = None
    for number in range(1000):
        memory = rewrite(memory, number, Turn("user", f"this is number {number}"))
    assert memory is not None
    lines = memory.split("\n")
    assert lines[0] == "turns: 0-999"
    assert len(lines) == 1 + KEPT_TURNS
    assert lines[-1].endswith("number 999")


def test_merged_texts_know_the_ids_of_both() -> None:
    """Two memories put after each other count with all their ids, and no text counts with none."""
    both = rewrite(None, 1, Turn("u", "a")) + "\n" + rewrite(None, 5, Turn("u", "b"))
    assert ids_of(both) == {1, 5}
    assert ids_of(None) == ids_of("") == ids_of("turns: nonsense") == set()
