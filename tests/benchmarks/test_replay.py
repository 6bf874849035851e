"""Replaying gives the forwards that the drafter would have taken."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.loops import ends_in_a_loop
from benchmarks.replay import Llma, PromptLookup, Replay, replay


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("seed", range(3))
def test_prompt_lookup_takes_as_many_forwards_as_in_generate(seed: int) -> None:
    model = tiny_llama()
    torch.manual_seed(seed)
    prompt = torch.randint(40, (1, 12)).repeat(1, 2)
    forwards = 0

    def count(*_: object) -> None:
        nonlocal forwards
        forwards += 1

    model.register_forward_hook(count)
    ids = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=60,
        prompt_lookup_num_tokens=10,
    )
    answer = ids[0, prompt.shape[1] :].tolist()
    drafter = PromptLookup(prompt[0].tolist(), eos=[39_999], max_length=ids.shape[1])
    assert replay(drafter, answer).forwards == forwards < 60


def test_llma_copies_behind_the_longest_match() -> None:
    documents = [[1, 2, 9, 9], [5, 1, 2, 3, 4, 6, 7, 8]]
    # 5 by itself, then 1 2 3 4 are copied behind it, 6 comes with them as the token after.
    assert replay(Llma(documents, n=1, k=5), [5, 1, 2, 3, 4, 6, 7, 8]) == Replay(8, 3, 6)


def test_llma_takes_the_first_of_equal_matches() -> None:
    documents = [[1, 2, 3], [1, 4, 5]]
    assert Llma(documents).draft().tokens == ()
    llma = Llma(documents)
    llma.extend([1])
    assert llma.draft().tokens == (2, 3)


def test_llma_does_not_match_across_documents() -> None:
    llma = Llma([[1, 2], [3, 4]], n=2)
    llma.extend([2, 3])
    assert llma.draft().tokens == ()


def test_a_loop_is_told_from_a_text() -> None:
    assert ends_in_a_loop([*range(30), *[1, 2, 3, 4, 5] * 10])
    assert ends_in_a_loop([7] * 48)
    assert not ends_in_a_loop([7] * 47)
    assert not ends_in_a_loop(list(range(200)))
    assert not ends_in_a_loop([*[1, 2, 3, 4, 5] * 20, 9])
    assert not ends_in_a_loop([])
