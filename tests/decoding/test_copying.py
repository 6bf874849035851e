"""What is drafted from known text, and how that adapts to what the answer does."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoding.confidence import Confidence
from decoding.copying import Agreement, Copier
from decoding.draft import Draft
from decoding.request import Reference
from decoding.tree import grow
from decoding.verify import accepted_path

DOCUMENT = tuple(range(100, 160))


def copier(*references: Reference, prompt: Sequence[int] = (1, 2), match: int = 2) -> Copier:
    return Copier(references, prompt, match=match)


def drafted(copying: Copier, nodes: int = 16) -> Draft:
    return grow([copying], nodes=nodes, least_chance=0.05)


def document(*tokens: int) -> Reference:
    return Reference("document", tokens)


def prediction(*tokens: int) -> Reference:
    return Reference("prediction", tokens, likeness=1.0)


def paths(draft: Draft) -> set[tuple[int, ...]]:
    """All paths from the root, each a tuple of tokens."""
    of: list[tuple[int, ...]] = []
    for token, parent in zip(draft.tokens, draft.parents, strict=True):
        of.append((*(of[parent] if parent >= 0 else ()), token))
    return set(of)


def steps_to_write(answer: Sequence[int], copier: Copier) -> int:
    """The forwards it takes when the model wants to say ``answer``."""
    steps = written = 0
    while written < len(answer):
        draft = drafted(copier)
        choices = _choices(draft, answer[written:])
        emitted = [choices[0], *(choices[1 + node] for node in accepted_path(draft, choices))]
        emitted = emitted[: len(answer) - written]
        copier.extend(emitted)
        written += len(emitted)
        steps += 1
    return steps


def _choices(draft: Draft, rest: Sequence[int]) -> list[int]:
    depths: list[int] = []
    for parent in draft.parents:
        depths.append(depths[parent] + 1 if parent >= 0 else 1)
    return [rest[depth] if depth < len(rest) else -2 for depth in (0, *depths)]


def test_nothing_is_drafted_where_nothing_matches() -> None:
    assert drafted(copier(document(*DOCUMENT))) == Draft()


def test_what_followed_the_match_in_a_document_is_drafted() -> None:
    copying = copier(document(*DOCUMENT))
    copying.extend([7, 110, 111])
    assert drafted(copying).tokens[:4] == (112, 113, 114, 115)


def test_fewer_tokens_than_asked_for_are_no_match() -> None:
    copying = copier(document(*DOCUMENT), match=3)
    copying.extend([110, 111])
    assert drafted(copying) == Draft()
    copying.extend([112])
    assert drafted(copying).tokens[0] == 113


def test_the_prompt_and_the_answer_are_copied_from_too() -> None:
    copying = copier(prompt=[1, 2, 3, 4, 5])
    copying.extend([9, 2, 3])
    assert drafted(copying).tokens[:2] == (4, 5)
    copying.extend([30, 31, 32, 33, 8, 30, 31])
    assert drafted(copying).tokens[:2] == (32, 33)


def test_a_draft_never_runs_from_one_text_into_the_next() -> None:
    copying = copier(document(10, 11, 12), document(20, 21, 22))
    copying.extend([10, 11])
    assert paths(drafted(copying)) == {(12,)}


def test_a_match_may_span_the_end_of_the_prompt() -> None:
    copying = copier(document(5, 6, 7, 8, 9), prompt=[1, 5])
    copying.extend([6])
    assert drafted(copying).tokens[:2] == (7, 8)


def test_a_prediction_is_drafted_before_anything_was_said() -> None:
    draft = drafted(copier(prediction(*DOCUMENT)))
    assert (draft.tokens, draft.parents) == (DOCUMENT[:16], tuple(range(-1, 15)))
    assert set(draft.sources) == {"prediction"}


def test_no_node_is_likelier_than_its_parent_or_than_one_before() -> None:
    copying = copier(document(1, 2, 3, 10, 11), document(1, 2, 3, 20, 21), prompt=[0])
    copying.extend([1, 2, 3])
    chances = drafted(copying).chances
    assert list(chances) == sorted(chances, reverse=True)


def test_places_that_go_on_differently_become_branches() -> None:
    copying = copier(document(1, 2, 3, 10, 11), document(1, 2, 3, 20, 21), prompt=[0])
    copying.extend([1, 2, 3])
    assert {(10,), (20,)} <= paths(drafted(copying))


def test_places_that_go_on_alike_share_their_nodes() -> None:
    copying = copier(document(1, 2, 3, 4, 10), document(1, 2, 3, 4, 20), prompt=[0])
    copying.extend([1, 2])
    draft = drafted(copying)
    assert draft == draft.merged()
    assert {(3, 4, 10), (3, 4, 20)} <= paths(draft)


def test_a_longer_match_makes_a_longer_draft() -> None:
    short, long = copier(document(*DOCUMENT)), copier(document(*DOCUMENT))
    short.extend([7, 110, 111])
    long.extend(DOCUMENT[:12])
    lengths = [len(grow([each], nodes=64, least_chance=0.4).tokens) for each in (short, long)]
    assert lengths[0] < lengths[1]


def test_no_draft_has_more_nodes_than_allowed() -> None:
    assert len(drafted(copier(prediction(*DOCUMENT)), nodes=5).tokens) == 5


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: [*text[:20], 9, *text[21:]],  # a token replaced
        lambda text: [*text[:20], 9, *text[20:]],  # one put in
        lambda text: [*text[:20], *text[24:]],  # four left out
        lambda text: [*text[:20], *range(300, 306), *text[20:]],  # several put in
    ],
    ids=["replaced", "put_in", "left_out", "several_put_in"],
)
def test_a_prediction_is_taken_up_again_behind_an_edit(edit: object) -> None:
    answer = edit(list(DOCUMENT))  # type: ignore[operator]
    new = len(set(answer) - set(DOCUMENT))
    steps = steps_to_write(answer, copier(prediction(*DOCUMENT)))
    assert steps <= 5 + new + 1  # 60 tokens at up to 17 a step, the new ones, and one to find back


def test_a_prediction_that_is_wrong_is_soon_no_longer_drafted() -> None:
    copying = copier(prediction(*DOCUMENT))
    copying.extend(range(500, 520))
    assert drafted(copying) == Draft()


def test_what_keeps_failing_is_drafted_less() -> None:
    """The bigram (1, 2) goes on differently every time."""
    copying = copier(prompt=[0])
    sizes = []
    for new in range(100, 140):
        copying.extend([1, 2])
        sizes.append(len(drafted(copying).tokens))
        copying.extend([new])
    assert sum(sizes[-5:]) < sum(sizes[3:8])


def test_confidence_moves_from_its_prior_to_what_is_seen() -> None:
    confidence = Confidence()
    for _ in range(30):
        confidence.learn("document", False)
    assert confidence.chance("document", prior=0.6) < 0.1
    assert confidence.chance("prompt", prior=0.6) == 0.6


def test_what_all_requests_have_seen_is_the_prior_of_the_next() -> None:
    general = Confidence(prior_weight=20, decay=0.999)
    for _ in range(200):
        Confidence(general).learn("prompt", False)
    assert Confidence(general).chance("prompt", prior=0.6) < 0.1
    assert Confidence(general).chance("document", prior=0.6) == 0.6


def agreement(predicted: Sequence[int], said: Sequence[int]) -> tuple[int, int]:
    counted = Agreement(predicted)
    counted.extend(said)
    return counted.accepted, counted.rejected


@pytest.mark.parametrize(
    ("said", "accepted"),
    [
        (DOCUMENT, 60),
        (DOCUMENT[:25], 25),
        ([*DOCUMENT[:20], 9, *DOCUMENT[21:]], 59),  # one replaced
        ([*DOCUMENT[:20], *range(300, 310), *DOCUMENT[20:]], 56),  # four until it is found again
        (range(300, 360), 0),
        ((*DOCUMENT, *DOCUMENT), 60),  # said twice, predicted once
        ((), 0),
    ],
)
def test_the_agreement_of_a_prediction_and_an_answer_is_counted(
    said: Sequence[int], accepted: int
) -> None:
    assert agreement(DOCUMENT, said) == (accepted, len(DOCUMENT) - accepted)


@given(
    references=st.lists(
        st.builds(
            Reference,
            st.sampled_from(["document", "prediction", "history"]),
            st.lists(st.integers(0, 5), max_size=20).map(tuple),
            st.sampled_from([0.0, 0.5, 1.0]),
        ),
        max_size=3,
    ),
    prompt=st.lists(st.integers(0, 5), min_size=1, max_size=20),
    emitted=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), max_size=12),
    match=st.integers(1, 4),
)
def test_every_path_of_a_draft_is_a_piece_of_known_text(
    references: list[Reference], prompt: list[int], emitted: list[list[int]], match: int
) -> None:
    copying = Copier(references, prompt, match=match)
    said = list(prompt)
    for tokens in emitted:
        copying.extend(tokens)
        said += tokens
        texts = [said, *(list(reference.tokens) for reference in references)]
        pieces = ["," + "".join(f"{token}," for token in text) for text in texts]
        draft = drafted(copying, nodes=12)
        assert draft == draft.merged()
        assert len(draft.tokens) <= 12
        for path in paths(draft):
            assert any("," + "".join(f"{token}," for token in path) in piece for piece in pieces)
