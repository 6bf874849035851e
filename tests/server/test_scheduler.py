"""The choice of a strategy."""

import pytest

from server.engine_client import Load
from server.errors import ApiError
from server.scheduler import Choice, choose


@pytest.mark.parametrize("decoding", [{}, {"strategy": "auto"}])
def test_auto_takes_the_only_strategy_and_says_why(decoding: dict[str, str]) -> None:
    choice = choose(decoding, Load())
    assert choice == Choice("autoregressive", {}, "no other strategy is installed")
    assert choice.lossless


def test_an_explicit_strategy_is_honoured() -> None:
    choice = choose({"strategy": "autoregressive"}, Load(running=100))
    assert choice == Choice("autoregressive", {}, "the request asked for it")


def test_an_unknown_strategy_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(ApiError, match="choose one of: auto, autoregressive"):
        choose({"strategy": "magic"}, Load())


@pytest.mark.parametrize("strategy", ["auto", "autoregressive"])
def test_an_unknown_option_is_named(strategy: str) -> None:
    with pytest.raises(ApiError, match="autoregressive has no option 'window'") as raised:
        choose({"strategy": strategy, "window": 4}, Load())
    assert raised.value.param == "decoding.window"
