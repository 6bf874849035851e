"""The registry of strategies: what there is, and what is refused."""

import sys
from types import ModuleType
from typing import Annotated

import pytest
from msgspec import Meta

from decoding import strategies
from decoding.draft import Draft, Strategy
from decoding.request import OptionValue
from decoding.strategies import OptionError

Copies = Annotated[int, Meta(ge=1, le=64)]


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> str:
    """A strategy with one option of each kind."""

    def decode(
        seq: object, *, copy: Copies = 16, share: float = 0.5, tree: bool = True
    ) -> Strategy:
        yield Draft((copy,), (-1,))

    module = ModuleType("decoding.strategies.copying")
    module.__dict__.update(decode=decode, LOSSLESS=True)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    known = strategies.names()
    monkeypatch.setattr(strategies, "names", lambda: (*known, "copying"))
    return "copying"


def refusal(name: str, given: dict[str, OptionValue]) -> OptionError:
    with pytest.raises(OptionError) as caught:
        strategies.check(name, given)
    return caught.value


def test_plain_decoding_is_found_lossless_and_without_options() -> None:
    assert "autoregressive" in strategies.names()
    assert strategies.is_lossless("autoregressive")
    assert strategies.options("autoregressive") == {}


@pytest.mark.parametrize("name", strategies.names())
def test_every_strategy_says_what_it_is(name: str) -> None:
    assert isinstance(strategies.is_lossless(name), bool)
    for option in strategies.options(name).values():
        assert type(option.default) in (bool, int, float, str)
        strategies.check(name, {option.name: option.default})


def test_an_unknown_strategy_is_refused_with_the_names_there_are() -> None:
    error = refusal("psychic", {})
    assert error.field == "strategy"
    assert "'psychic'" in str(error)
    assert "autoregressive" in str(error)


def test_an_unknown_option_is_refused_with_the_options_there_are(copying: str) -> None:
    error = refusal(copying, {"copies": 3})
    assert error.field == "copies"
    assert str(error) == "copying has no option 'copies'; its options: copy, share, tree"


def test_a_strategy_without_options_says_so() -> None:
    assert "its options: none" in str(refusal("autoregressive", {"copy": 1}))


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [("copy", 1.5, "int"), ("copy", True, "int"), ("tree", 1, "bool"), ("share", "x", "float")],
)
def test_a_value_of_another_type_is_refused(
    copying: str, option: str, value: OptionValue, wanted: str
) -> None:
    """A bool is an int to Python, but `copy = true` is a mistake."""
    error = refusal(copying, {option: value})
    assert error.field == option
    assert f"option '{option}' is {value!r}: Expected `{wanted}`" in str(error)


@pytest.mark.parametrize(("copies", "limit"), [(0, ">= 1"), (65, "<= 64")])
def test_a_value_out_of_its_limits_is_refused(copying: str, copies: int, limit: str) -> None:
    assert limit in str(refusal(copying, {"copy": copies}))


def test_a_whole_number_is_a_float(copying: str) -> None:
    strategies.check(copying, {"share": 1})


def test_a_decoder_checks_its_options_and_passes_them_on(copying: str) -> None:
    with pytest.raises(OptionError):
        strategies.decoder(copying, {"copies": 3})
    decode = strategies.decoder(copying, {"copy": 7})
    assert next(decode(None)) == Draft.chain([7])  # type: ignore[arg-type]


def test_options_are_read_from_settings(copying: str) -> None:
    written = ["copying.copy=7", "copying.share = 0.25", "copying.tree=false"]
    values = [strategies.parse(option)[2] for option in written]
    assert values == [7, 0.25, False]
    assert strategies.parse("copying.copy=7")[:2] == (copying, "copy")


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("magic.copy=1", "unknown strategy 'magic'"),
        ("copying.copies=1", "no option 'copies'"),
        ("copying=1", "no option ''"),
        ("copying.copy=many", "option 'copy' is 'many'"),
        ("copying.copy", "option 'copy' is ''"),
        ("copying.copy=99", "<= 64"),
    ],
)
def test_a_setting_that_cannot_be_honoured_is_refused(
    copying: str, written: str, complaint: str
) -> None:
    with pytest.raises(OptionError, match=complaint):
        strategies.parse(written)
