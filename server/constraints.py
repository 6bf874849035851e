"""What a request asks for that an answer put together from parts cannot give, or must not."""

from collections.abc import Iterator
from itertools import chain

from decoding import strategies
from server.errors import ApiError, invalid
from server.scheduler import BUDGET, LOSSLESS, Policy, strategy_of
from server.schemas import ChatBody, CompletionBody, Generation


def check_strategy(body: Generation, policy: Policy) -> None:
    """Check that a strategy asked for by name can do what else the request asks for.

    Raises:
        ApiError: it cannot.
    """
    strategy = strategy_of(body.decoding)
    if strategy not in strategies.names():
        return
    if not strategies.is_lossless(strategy) and body.decoding.get(LOSSLESS):
        raise _contradiction(f"'{strategy}' is not lossless", f"decoding.{LOSSLESS}")
    if not strategies.is_lossless(strategy) and policy.lossless_only:
        raise _contradiction(f"'{strategy}' is not lossless: this server is", "decoding.strategy")
    if strategies.is_forking(strategy) and (field := next(_impossible(body), None)):
        raise _contradiction(f"'{strategy}' writes an answer in parts: no '{field}' with it", field)


def pinned_by(body: Generation) -> str:
    """The field because of which the answer must be that of plain decoding; empty if none is."""
    return next(chain(_impossible(body), _exact(body)), "")


def _contradiction(message: str, field: str) -> ApiError:
    return invalid(message, field)


def _impossible(body: Generation) -> Iterator[str]:
    """Fields that mean something only for a text written from its beginning to its end."""
    asked = {
        "logprobs": isinstance(body, ChatBody | CompletionBody) and body.wants_logprobs,
        "min_tokens": body.min_tokens > 0,
        "ignore_eos": body.ignore_eos,
        "stop_token_ids": body.stop_token_ids,
        "prediction": body.prediction is not None,
        f"decoding.{BUDGET}": body.decoding.get(BUDGET),
        "echo": isinstance(body, CompletionBody) and body.echo,
        "messages": isinstance(body, ChatBody) and body.messages[-1].role != "user",
    }
    return (field for field, is_asked in asked.items() if is_asked)


def _exact(body: Generation) -> Iterator[str]:
    """Fields with which a client expects the answer that it would get anywhere else."""
    asked = {
        "seed": body.seed is not None,
        "n": body.n > 1,
        "logit_bias": body.logit_bias,
        "stop": body.stop,
        f"decoding.{LOSSLESS}": body.decoding.get(LOSSLESS),
    }
    return (field for field, is_asked in asked.items() if is_asked)
