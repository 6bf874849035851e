"""Token ids to text: whole characters, stop strings found wherever tokens end, nothing lost."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers_in_memory import WORDS, byte_tokenizer, word_tokenizer

from decoding.text import TextStream

BYTES = byte_tokenizer()
WORDY = word_tokenizer()
CONTROL = 256
WORD_CONTROL = 256 + len(WORDS)
PIECES = st.text(alphabet="ab", min_size=1, max_size=4)


def word(text: str) -> int:
    return 256 + WORDS.index(text)


def streamed(
    tokens: Sequence[int],
    *,
    tokenizer: Tokenizer = BYTES,
    prompt: Sequence[int] = (),
    stop: Sequence[str] = (),
    sentences: int = 0,
) -> list[str]:
    """What became safe to show after each token, and at the end."""
    stream = TextStream(tokenizer, prompt, stop, sentences)
    shown = []
    for token in tokens:
        stream.push(token)
        shown.append(stream.take())
        if stream.stopped:
            break
    stream.flush()
    return [*shown, stream.take()]


def spelled(text: str) -> list[int]:
    return list(text.encode())


# Characters


@pytest.mark.parametrize("text", ["é", "中文", "🙂", "👩‍👩‍👧", "e\u0301", "\U0001f1e9\U0001f1ea"])
def test_a_character_appears_with_its_last_token(text: str) -> None:
    shown = streamed(spelled(f"<{text}>"))
    assert "".join(shown) == f"<{text}>"
    whole = [piece for piece in shown if piece]
    assert whole == ["<", *text, ">"]


def test_an_unfinished_character_is_shown_at_the_end() -> None:
    assert streamed(spelled("a🙂")[:-1]) == ["a", "", "", "", "\ufffd"]


def test_bytes_that_are_no_character_appear_once_text_follows() -> None:
    assert streamed([0x80, *spelled("ab")]) == ["", "\ufffda", "b", ""]


def test_control_tokens_are_not_shown() -> None:
    assert streamed([*spelled("a"), CONTROL, *spelled("b"), CONTROL]) == ["a", "", "b", "", ""]


def test_a_replacement_character_that_the_model_means_is_shown() -> None:
    assert "".join(streamed(spelled("a\ufffdb\ufffd"))) == "a\ufffdb\ufffd"


@given(st.lists(st.integers(0, CONTROL), max_size=12))
def test_streamed_bytes_are_the_text_of_all_tokens(tokens: list[int]) -> None:
    assert "".join(streamed(tokens)) == BYTES.decode(tokens)


@given(st.text(max_size=8), st.text(max_size=8))
def test_an_answer_reads_the_same_after_any_prompt(prompt: str, answer: str) -> None:
    assert "".join(streamed(spelled(answer), prompt=spelled(prompt))) == answer


@given(st.lists(st.integers(0, 255), max_size=9), st.text(max_size=4))
@example(prompt=[*spelled("the"), 0xE4], answer="a")
def test_the_prompt_is_not_shown_even_if_it_ends_inside_a_character(
    prompt: list[int], answer: str
) -> None:
    """The decoder takes a prompt that ends so for an unfinished answer."""
    assert "".join(streamed(spelled(answer), prompt=prompt)) in (answer, f"\ufffd{answer}")


# Words with byte fallback

CHARACTERS = st.text(alphabet="aé中🙂", min_size=1, max_size=1).map(spelled)
WHOLE_WORDS = st.sampled_from([*WORDS, "<s>"]).map(
    lambda text: [WORD_CONTROL if text == "<s>" else word(text)]
)


@given(st.lists(CHARACTERS | WHOLE_WORDS, max_size=8))
def test_streamed_words_are_the_text_of_all_tokens(pieces: list[list[int]]) -> None:
    tokens = [token for piece in pieces for token in piece]
    assert "".join(streamed(tokens, tokenizer=WORDY)) == WORDY.decode(tokens)


def test_the_space_before_a_word_is_kept_after_a_prompt() -> None:
    """Decoded alone, the answer would lose it: decoders of this kind strip the first space."""
    shown = streamed([word("▁cat"), word("s")], tokenizer=WORDY, prompt=[word("▁the")])
    assert shown == [" cat", "s", ""]


def test_a_word_at_the_very_beginning_has_no_space() -> None:
    assert streamed([word("▁cat")], tokenizer=WORDY, prompt=[WORD_CONTROL]) == ["cat", ""]


@given(
    st.lists(st.integers(0, WORD_CONTROL), max_size=10),
    st.lists(st.sampled_from([0xC3, 0xA9, 0x80, word("a"), word("▁cat")]), max_size=12),
)
@example(prompt=[], answer=[0xC3, 0xA9, 0x80, word("a"), word("b")])
def test_any_bytes_can_be_streamed(prompt: list[int], answer: list[int]) -> None:
    """A byte that belongs to no character changes how this decoder reads the ones before it, and
    the library's stream fails from there on."""
    text = "".join(streamed(answer, tokenizer=WORDY, prompt=prompt))
    assert text.count("cat") == answer.count(word("▁cat"))
    assert text.replace("cat", "").count("a") == answer.count(word("a"))


def test_streaming_goes_on_after_bytes_that_are_no_character() -> None:
    tokens = [0xC3, 0xA9, 0x80, word("▁cat"), word("s"), word("▁the"), *spelled("中")]
    assert "".join(streamed(tokens, tokenizer=WORDY)) == "é\ufffd cats the中"


# Stop strings


def test_a_stop_string_across_tokens_is_cut_and_never_shown() -> None:
    assert streamed(spelled("one two three"), stop=["two"]) == [*"one ", "", "", "", ""]


def test_text_after_the_stop_string_in_one_token_is_cut() -> None:
    assert "".join(streamed([word("▁cat"), word("s")], tokenizer=WORDY, stop=["a"])) == "c"


def test_a_start_of_a_stop_string_is_shown_once_it_turns_out_otherwise() -> None:
    assert streamed(spelled("abcx"), stop=["abcd"]) == ["", "", "", "abcx", ""]


def test_a_start_of_a_stop_string_is_shown_at_the_end() -> None:
    assert streamed(spelled("xab"), stop=["abc"]) == ["x", "", "", "ab"]


def test_the_earliest_stop_string_wins() -> None:
    assert "".join(streamed(spelled("one two three"), stop=["three", "ne", "two"])) == "o"


def test_of_stop_strings_that_end_together_the_longest_is_cut() -> None:
    assert "".join(streamed(spelled("xabc"), stop=["bc", "abc", "c"])) == "x"


def test_a_stop_string_may_overlap_a_false_start() -> None:
    assert "".join(streamed(spelled("aaab"), stop=["aab"])) == "a"


def test_a_stop_string_may_be_of_many_bytes() -> None:
    assert "".join(streamed(spelled("ja🙂nein"), stop=["🙂n"])) == "ja"


def test_a_stop_string_in_the_prompt_does_not_count() -> None:
    assert "".join(streamed(spelled("d"), prompt=spelled("abc"), stop=["abc", "cd"])) == "d"


@given(PIECES.map("".join), st.lists(PIECES, min_size=1, max_size=3))
def test_the_answer_ends_before_the_first_stop_string_to_be_complete(
    text: str, stops: list[str]
) -> None:
    ends = [text.find(s) + len(s) for s in stops if s in text]
    first = min(ends, default=len(text))
    cut = max((len(s) for s in stops if text[:first].endswith(s)), default=0) if ends else 0
    assert "".join(streamed(spelled(text), stop=stops)) == text[: first - cut]


@given(st.text(alphabet="ab", max_size=12), st.lists(PIECES, min_size=1, max_size=3))
def test_what_is_shown_is_never_taken_back(text: str, stops: list[str]) -> None:
    shown = ""
    for piece in streamed(spelled(text), stop=stops):
        shown += piece
        assert not any(s in shown for s in stops)
    assert text.startswith(shown)


def test_tokens_too_early_to_stop_are_shown() -> None:
    stream = TextStream(BYTES, (), ["ab"])
    for token in spelled("abx"):
        stream.push(token, may_stop=False)
    assert stream.take() == "abx"
    assert not stream.stopped


def test_a_stop_string_completed_too_early_does_not_count_later() -> None:
    """Held back as the start of a longer one, “ab” would be found again with the next token."""
    stream = TextStream(BYTES, (), ["ab", "abcd"])
    for token in spelled("ab"):
        stream.push(token, may_stop=False)
    stream.push(*spelled("x"))
    assert (stream.stopped, stream.take()) == (False, "abx")


def test_a_stop_string_begun_too_early_counts_when_it_is_completed() -> None:
    stream = TextStream(BYTES, (), ["ab"])
    stream.push(*spelled("a"), may_stop=False)
    stream.push(*spelled("b"))
    assert (stream.stopped, stream.take()) == (True, "")


# Sentences

CUT_AFTER_ONE = [
    ("One. Two. Three.", "One."),
    ("One! Two.", "One!"),
    ("Really?! Yes.", "Really?!"),
    ("Well... So.", "Well..."),
    ("It costs 3.5 francs. Two.", "It costs 3.5 francs."),
    ("Use e.g. a map. Two.", "Use e.g. a map."),
    ("At example.com it is. Two.", "At example.com it is."),
    ('He said "no." Then he left.', 'He said "no."'),
    ('No. "Yes," he said.', "No."),
    ("(In brackets.) Outside.", "(In brackets.)"),
    ("Éins. Ähnlich.", "Éins."),
    ("Раз. Два.", "Раз."),
    ("One.\nTwo.", "One."),
    ("One.  Two.", "One."),
    ("第一。第二。", "第一。"),
    ("第一！第二。", "第一！"),
    ("One. and more.", "One. and more."),
    ("One.", "One."),
    ("", ""),
]


def written_sentences(
    pieces: Sequence[str], sentences: int, stop: Sequence[str] = ()
) -> tuple[str, bool]:
    """What is shown of text that arrives in these pieces, and whether it was cut."""
    stream = TextStream(BYTES, (), stop, sentences)
    for piece in pieces:
        stream.write(piece)
    stream.flush()
    return stream.take(), stream.stopped


@pytest.mark.parametrize(("text", "first"), CUT_AFTER_ONE)
def test_an_answer_ends_exactly_with_its_last_sentence(text: str, first: str) -> None:
    """However it arrives: at once, in characters, or in bytes."""
    cut = text != first
    assert written_sentences([text], 1) == (first, cut)
    assert written_sentences([*text], 1) == (first, cut)
    assert "".join(streamed(spelled(text), sentences=1)) == first


@pytest.mark.parametrize(
    ("sentences", "shown"),
    [
        (0, "One. Two! Three? Four. Five."),
        (2, "One. Two!"),
        (4, "One. Two! Three? Four."),
        (5, "One. Two! Three? Four. Five."),
        (9, "One. Two! Three? Four. Five."),
    ],
)
def test_an_answer_ends_behind_so_many_sentences(sentences: int, shown: str) -> None:
    text = "One. Two! Three? Four. Five."
    assert written_sentences([text], sentences)[0] == shown
    assert written_sentences([*text], sentences)[0] == shown


def test_a_quote_around_a_sentence_is_closed_in_one_piece() -> None:
    assert written_sentences(["「はい。」次。"], 1) == ("「はい。」", True)


@pytest.mark.parametrize(
    ("stop", "shown"),
    [("\n", "One"), ("Two", "One\n. "), ("Four", "One\n. Two."), (". T", "One\n")],
)
def test_the_first_of_a_stop_string_and_the_last_sentence_ends_the_answer(
    stop: str, shown: str
) -> None:
    text = "One\n. Two. Three. Four."
    assert written_sentences([text], 2, [stop]) == (shown, True)
    assert written_sentences([*text], 2, [stop]) == (shown, True)


@given(st.text(alphabet="aA1 .!?\"'”)(\n。」", max_size=30), st.integers(1, 3), st.data())
def test_sentences_end_in_the_same_place_however_text_arrives(
    text: str, sentences: int, data: st.DataObject
) -> None:
    """Only a closing bracket behind a full stop of East Asia may come too late to be waited for."""
    text = text.replace("。」", "。")
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    pieces = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
    whole, _ = written_sentences([text], sentences)
    assert written_sentences(pieces, sentences)[0] == whole
    assert text.startswith(whole)


@given(st.text(alphabet="ab. A\n", max_size=20), st.integers(0, 3))
def test_a_limit_of_sentences_takes_nothing_back(text: str, sentences: int) -> None:
    stream = TextStream(BYTES, (), ("b",), sentences)
    shown = ""
    for character in text:
        stream.write(character)
        shown += stream.take()
    held = TextStream(BYTES, (), ("b",), sentences)
    held.write(text)
    held.flush()
    assert held.take().startswith(shown)
