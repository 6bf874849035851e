"""Checks of a body against what is served here, all of them before any work.

Each raises an ApiError that names the field.
"""

from decoding.report import EngineInfo
from server.errors import context_exceeded, invalid, unknown_model
from server.prompts import Prompt, check_vocabulary, outside_vocabulary
from server.schemas import Generation
from server.services import Services


def check_model(services: Services, model: str) -> None:
    """Raise the 404 of a model that is not served."""
    if model not in services.model_names:
        raise unknown_model(model, services.model_names)


def check_counts(services: Services, n: int, num_prompts: int) -> None:
    """Choices a prompt, and of all prompts together."""
    limits = services.limits
    if n > limits.n:
        raise invalid(f"'n' must be at most {limits.n}", "n")
    if n * num_prompts > limits.choices:
        message = (
            f"'n' × prompts is {n * num_prompts}, at most {limits.choices} are answered at once"
        )
        raise invalid(message, "n")


def check_token_ids(body: Generation, vocabulary_size: int) -> None:
    """Token ids that index the logits."""
    check_vocabulary(body.stop_token_ids, vocabulary_size, "stop_token_ids")
    wrong = [key for key in body.logit_bias if not _is_token_id(key, vocabulary_size)]
    if wrong:
        raise outside_vocabulary(wrong, vocabulary_size, "logit_bias")


def _is_token_id(key: str, vocabulary_size: int) -> bool:
    return key.isascii() and key.isdigit() and len(key) < 12 and int(key) < vocabulary_size


def context_limit(engine: EngineInfo) -> int:
    """The most tokens a prompt and its answer may have together."""
    return min(engine.context_length, engine.cache_tokens)


def check_context(engine: EngineInfo, prompt: Prompt, max_tokens: int, param: str) -> None:
    """Prompt and answer together."""
    limit = context_limit(engine)
    if len(prompt.tokens) + max_tokens > limit:
        raise context_exceeded(len(prompt.tokens), max_tokens, limit, param)
