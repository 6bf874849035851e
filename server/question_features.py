"""What of a question tells which kind of answer it asks for: its frame, hardly its topic.

A question becomes tokens: a word of a class (``question_words``) is replaced by the class, another
English word by its shape unless it is one of the small words that hold sentences together. What is
counted is which tokens stand next to each other, where a class stands, and a few outward signs.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations
from typing import NamedTuple

from server.question_words import CHINESE, ENGLISH, JAPANESE, SIMPLIFIED

# Characters kept at either end: what is asked stands there, pasted text between.
BEGINNING = 600
END = 400

_LONGEST_PHRASE = 4  # English words
_LONGEST_GRAM = 3  # tokens
_SENTENCE_TOKENS = 40  # of a sentence, from its beginning and as many from its end

_COUNTS = frozenset({"two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"})
_SMALL = """
    a about after all am an and any anything are as at be because been before being best
    better between but by can come could did do does doing don't each either else enough
    every find for from get give go going good had has have he help her him his how i i'd
    i'm i've if in into is it it's its just know learn let like long look make many may me
    might more most much must my need never new no not now of off on one or other our out
    over people please should show so some someone something such take tell than that the
    their them then there these they think this those through to too two up us use used
    using very want was way we were what what's when where which while who why will with
    without would you your yours three four five six seven eight nine ten
"""
_SMALL_WORDS = frozenset(_SMALL.split())

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
_QUOTED = re.compile(
    r"\"[^\"\n]+\"|“[^”\n]+”|「[^」\n]+」|『[^』\n]+』|《[^》\n]+》|(?<!\w)'[^'\n]+'(?!\w)"
)
_SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]*")
_TOKEN = re.compile(r"[a-z][a-z'’+#-]*|[0-9]+|[ァ-ヺー]+|[^\s]")
_KANA = re.compile(r"[ぁ-ヺ]")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_SIGNS: Mapping[str, re.Pattern[str]] = {
    "operators": re.compile(r"[0-9a-z)]\s?[=+*/^<>×÷]\s?[0-9a-z(]|[²³√∫]"),
    "code": re.compile(r"[{};]|\w\(\)|=>|==|::|</"),
    "colon before the end": re.compile(r"[:：]\s*\S"),
    "colon at the end": re.compile(r"[:：]\s*$"),
    "blank": re.compile(r"_{2,}|＿{2,}"),
    "enumeration": re.compile(r"(?:^|\s)(?:a\)|a\.|1\.|- )\s?\S"),
    "formula": re.compile(r"\$[^$]+\$|\\\w+\{"),
}


class _Token(NamedTuple):
    """A piece of a question: its class, if it has one, and what takes its place."""

    written: str
    shape: str
    kind: str | None = None


def features(question: str) -> set[str]:
    """What the router knows of a question: the names of what is true of it."""
    text = _normalised(question)
    language = _language(text)
    bare = _QUOTED.sub(" § ", _CODE.sub(" ¤ ", text))
    sentences = [_tokens(sentence, language) for sentence in _SENTENCE.findall(bare)]
    sentences = [tokens for tokens in sentences if tokens] or [()]
    return {
        *_classes(sentences, language),
        *_grams(sentences, language),
        *_signs(text, bare, sentences, language),
    }


def _normalised(question: str) -> str:
    """Both ends of a question in small letters; full-width letters become ordinary ones."""
    text = question.strip()
    if len(text) > BEGINNING + END:
        text = f"{text[:BEGINNING]}\n{text[-END:]}"
    text = text.replace("？", "?").replace("！", "!").replace("’", "'")
    return unicodedata.normalize("NFKC", text).lower()[: 2 * (BEGINNING + END)]


def _language(text: str) -> str:
    if len(_KANA.findall(text)) * 20 > len(text):
        return "ja"
    return "zh" if len(_HAN.findall(text)) * 10 > len(text) else "en"


# --- tokens ---


def _tokens(sentence: str, language: str) -> tuple[_Token, ...]:
    """The tokens of a sentence; of a very long one those at both ends."""
    if language == "zh":
        sentence = sentence.translate(SIMPLIFIED)
    if language == "en":
        tokens = tuple(_english(_TOKEN.findall(sentence)))
    else:
        tokens = tuple(_east_asian(sentence, language))
    if len(tokens) <= 2 * _SENTENCE_TOKENS:
        return tokens
    return tokens[:_SENTENCE_TOKENS] + tokens[-_SENTENCE_TOKENS:]


def _english(words: Sequence[str]) -> Iterator[_Token]:
    classes = _english_classes()
    position = 0
    while position < len(words):
        for length in range(_LONGEST_PHRASE, 0, -1):
            phrase = " ".join(words[position : position + length])
            if phrase in classes:
                yield _Token(phrase, f"<{classes[phrase]}>", classes[phrase])
                position += length
                break
        else:
            yield _Token(words[position], _shape(words[position]))
            position += 1


def _shape(word: str) -> str:
    """What stands for a word of no class: itself if it is a small one."""
    if word in _SMALL_WORDS or not word[0].isalnum():
        return word
    if word[0].isdigit():
        return "0"
    for ending in ("ing", "ed", "ly", "ss", "us", "s"):
        if word.endswith(ending):
            return f"~{ending}"
    return "~"


def _east_asian(sentence: str, language: str) -> Iterator[_Token]:
    position = 0
    while position < len(sentence):
        piece = _piece(sentence, position, language)
        if piece is not None:
            yield piece
            position += len(piece.written)
        else:
            position += 1


def _piece(sentence: str, position: int, language: str) -> _Token | None:
    """The token that begins here: the longest one of a class, else a word or a character."""
    for term, kind in _east_asian_terms(language).get(sentence[position], ()):
        if sentence.startswith(term, position):
            return _Token(term, f"<{kind}>", kind)
    found = _TOKEN.match(sentence, position)
    if found is None:
        return None
    known = _english_classes().get(found[0])
    return _Token(found[0], f"<{known}>" if known else _character(found[0], language), known)


def _character(written: str, language: str) -> str:
    """What stands for text of no class: Japanese grammar is in the kana, topics in the rest."""
    if written[0].isdigit():
        return "0"
    if written[0].isascii() and written[0].isalpha():
        return "~"
    if "ァ" <= written[0] <= "ヺ":
        return "カ"
    return "漢" if language == "ja" and _HAN.match(written) else written


@cache
def _english_classes() -> Mapping[str, str]:
    return {
        " ".join(phrase.split()): kind
        for kind, phrases in ENGLISH.items()
        for phrase in phrases.split(",")
    }


@cache
def _east_asian_terms(language: str) -> Mapping[str, Sequence[tuple[str, str]]]:
    """The terms of a language with their classes by first character, the longest first."""
    classes = {"zh": CHINESE, "ja": JAPANESE}[language]
    terms = {term: kind for kind, listed in classes.items() for term in listed.split()}
    by_first: dict[str, list[tuple[str, str]]] = {}
    for term in sorted(terms, key=len, reverse=True):
        by_first.setdefault(term[0], []).append((term, terms[term]))
    return by_first


# --- features ---


def _classes(sentences: Sequence[Sequence[_Token]], language: str) -> Iterator[str]:
    """Which classes there are: anywhere, in the first and the last sentence, and together."""
    anywhere = sorted({kind for tokens in sentences for kind in _kinds(tokens)})
    for kind in anywhere:
        yield f"has {kind}"
        yield f"{language} has {kind}"
    for place, tokens in (("first", sentences[0]), ("last", sentences[-1])):
        kinds = _kinds(tokens)
        yield from (f"{place} has {kind}" for kind in kinds)
        yield from (f"{place} {kind}" for kind in kinds[:1])
        yield from (f"{place} ends {kind}" for kind in kinds[-1:])
        yield from (f"{one} & {other}" for one, other in combinations(sorted(set(kinds)), 2))


def _kinds(tokens: Sequence[_Token]) -> list[str]:
    return [token.kind for token in tokens if token.kind]


def _grams(sentences: Sequence[Sequence[_Token]], language: str) -> Iterator[str]:
    """Neighbouring tokens of the first and the last sentence, and the words themselves."""
    for tokens in (sentences[0], sentences[-1]):
        shapes = ["^", *(token.shape for token in tokens), "$"]
        for length in range(1, _LONGEST_GRAM + 1):
            for start in range(len(shapes) - length + 1):
                yield f"{language}:{' '.join(shapes[start : start + length])}"
        yield from (f"{language}={token.written}" for token in tokens)
    yield from (f"{language} begins {token.written}" for token in sentences[0][:1])


def _signs(
    text: str, bare: str, sentences: Sequence[Sequence[_Token]], language: str
) -> Iterator[str]:
    """Outward signs: how long it is, what is pasted, how it ends."""
    length = sum(map(len, sentences))
    yield f"{language} length {min(length.bit_length(), 8)}"
    yield f"sentences {min(len(sentences), 4)}"
    yield from (f"sign {name}" for name, pattern in _SIGNS.items() if pattern.search(text))
    yield from (f"sign {name}" for name, mark in (("pasted", "¤"), ("quoted", "§")) if mark in bare)
    if "\n" in text:
        yield "sign lines"
    if text.endswith("?"):
        yield "sign question"
    if _counts_things(sentences[0]):
        yield "sign count of things"


def _counts_things(tokens: Sequence[_Token]) -> bool:
    """Whether so many of something are asked for, as in "five tips"."""
    return any(
        (token.written in _COUNTS or token.shape == "0")
        and any(follower.kind for follower in tokens[number + 1 : number + 3])
        for number, token in enumerate(tokens)
    )
