"""Whether our forward says what the model's own says, tried at load.

A configuration cannot tell all about a model's attention. So the model computes a few random tokens
by its own code before it is given ours, and the same tokens again in pieces: a chunk, then the rest
as the second branch of a tree, beside another sequence.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from decoding.architecture import CacheGeometry, UnsupportedModel
from decoding.eager.attention import UnsupportedAttention
from decoding.eager.computation import EagerComputation
from decoding.runner import BLOCK_SIZE, Computation, Runner
from decoding.segment import Segment

_TOKENS, _CHUNK, _COMPANY = 24, 16, 4
_WINDOW = 7  # shorter than the chunk, so that every later token has lost sight of the first ones
_TOLERANCES = {"float64": 1e-4, "float32": 1e-3, "float16": 0.1, "bfloat16": 0.25, "int8": 0.25}


def probed_runner(
    model: PreTrainedModel,
    num_blocks: int,
    *,
    context_length: int = 0,
    compute: Callable[[PreTrainedModel], Computation] = EagerComputation,
) -> Runner:
    """A runner of a model, once its logits have been found to be the model's own.

    Raises:
        UnsupportedModel: they are not, or the architecture is one that cannot be served.
        NoKernels: ``compute`` does not know the model.
    """
    name = type(model).__name__
    with _short_windows(model):
        tokens = _random_tokens(model)
        expected = _own_logits(model, tokens)
        runner = Runner(compute(model), num_blocks, context_length=context_length)
        try:
            logits = _our_logits(runner, tokens)
        except UnsupportedAttention as error:
            raise UnsupportedModel(f"{name} cannot be served: {error}") from error
        except TypeError as error:
            raise UnsupportedModel(
                f"{name} cannot be served: it does not hand our arguments on to its attention"
            ) from error
    difference = float((logits - expected).pow(2).mean().sqrt() / expected.std())
    if not difference <= _TOLERANCES[runner.computation.format]:
        raise UnsupportedModel(
            f"{name} cannot be served: our computation does not reproduce its own (their logits"
            f" differ by {difference:.1%} of the spread)"
        )
    return runner


@contextmanager
def _short_windows(model: PreTrainedModel) -> Iterator[None]:
    """Make sliding windows shorter than the text, or nothing would be learned about them."""
    holders = [model.config.get_text_config(), *model.modules()]
    found = [(each, getattr(each, "sliding_window", None)) for each in holders]
    windows = [(each, window) for each, window in found if isinstance(window, int)]
    for each, window in windows:
        each.sliding_window = min(window, _WINDOW)
    try:
        yield
    finally:
        for each, window in windows:
            each.sliding_window = window


def _random_tokens(model: PreTrainedModel) -> list[int]:
    length = min(_TOKENS, CacheGeometry.of(model.config).context_length)
    vocabulary = model.config.get_text_config().vocab_size
    tokens: list[int] = np.random.default_rng(0).integers(0, vocabulary, length).tolist()
    return tokens


@torch.inference_mode()
def _own_logits(model: PreTrainedModel, tokens: list[int]) -> Tensor:
    """What the model says after each token behind the chunk, ``[tokens, vocabulary]``."""
    ids = torch.tensor([tokens], device=model.device)
    logits: Tensor = model.eval()(input_ids=ids, use_cache=False).logits[0, _CHUNK:]
    return logits.float()


def _our_logits(runner: Runner, tokens: list[int]) -> Tensor:
    root, rest = tokens[_CHUNK], tokens[_CHUNK + 1 :]
    slots = BLOCK_SIZE + np.arange(_COMPANY + len(tokens) + 1)
    company, slots = slots[:_COMPANY], slots[_COMPANY:]
    runner.forward([Segment(tokens[:_CHUNK], range(-1, _CHUNK - 1), 0, slots, _CHUNK - 1)])
    tree = Segment(
        tokens=[root, root, *rest],  # the wrong branch is of one token
        parents=[-1, 0, 0, *range(2, len(rest) + 1)],
        start=_CHUNK,
        slots=slots,
        logits_from=0,
    )
    beside = Segment(tokens[:_COMPANY], range(-1, _COMPANY - 1), 0, company, _COMPANY)
    logits = runner.forward([beside, tree]).float()
    return torch.cat([logits[:1], logits[2:]])
