"""List questions over an upstream: an outline, then its points as calls side by side, in order."""

import asyncio
import json
from typing import Any

import pytest
from asking import error_of
from scripted_upstream import LIST, MODEL, OURS, Call, Front, ScriptedUpstream, chunk
from test_disconnect import Connection

from server.upstream.opening import Opening

ASK: dict[str, Any] = {
    "messages": [{"role": "user", "content": LIST}],
    "model": OURS,
    "decoding": {"strategy": "skeleton", "sentences": 0},
}
OUTLINE = (" Food", "\n2. Water: lots", "\n3. Map", "\n4. Torch")
LEADS = ["1. Food:", "2. Water:", "3. Map:", "4. Torch:"]
SAYS = {lead: f"take {lead[3:-1].lower()} along." for lead in LEADS}
ANSWER = "\n".join(f"{lead} {text}" for lead, text in SAYS.items())


def is_outline(call: Call) -> bool:
    return call.said == "1." or call.said.endswith("Begin with: 1.")


def lead_of(call: Call) -> str:
    """The lead, given as a beginning or told in words."""
    return call.said.rpartition("Begin with: ")[2]


async def in_points(call: Call) -> None:
    if is_outline(call):
        await call.write(*OUTLINE, usage=(100, 20))
    else:
        await call.write(" " + SAYS[lead_of(call)], usage=(50, 10))


@pytest.fixture
def front(upstream: ScriptedUpstream) -> Front:
    upstream.script = in_points
    return Front(upstream, prefill="continue")


def text_of(stream: str) -> str:
    chunks = chunks_of(stream)
    return "".join(c["delta"].get("content", "") for each in chunks for c in each["choices"])


def chunks_of(stream: str) -> list[Any]:
    lines = stream.removesuffix("\n\n").split("\n\n")
    return [json.loads(each.removeprefix("data: ")) for each in lines if "[DONE]" not in each]


async def test_the_answer_is_its_points(upstream: ScriptedUpstream, front: Front) -> None:
    response = await front.ask(**{**ASK, "decoding": None})
    answer = response.json()
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == ANSWER
    assert choice["finish_reason"] == "stop"
    assert answer["model"] == OURS
    assert response.headers["x-stride-strategy"] == "skeleton"
    block = answer["decoding"]
    assert (block["strategy"], block["lossless"]) == ("skeleton", False)
    assert block["branches"] == {
        "count": 5,
        "prompt_tokens": 300,
        "shared_prompt_tokens": 0,
        "hidden_tokens": 20,
    }
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (200, 40)
    labels = {"model": MODEL, "strategy": "skeleton"}
    assert front.value("stride_generation_tokens_total", **labels) == 40
    assert front.value("stride_strategy_choices_total", **labels, cause="points") == 1


async def test_a_stream_says_the_same(front: Front) -> None:
    response = await front.ask(**ASK, stream=True, stream_options={"include_usage": True})
    chunks = chunks_of(response.text)
    assert text_of(response.text) == ANSWER
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 40
    assert chunks[-1]["decoding"]["branches"]["count"] == 5
    assert len({each["id"] for each in chunks}) == 1
    assert {each["model"] for each in chunks} == {OURS}
    assert response.text.endswith("data: [DONE]\n\n")


async def test_what_calls_ask_for(upstream: ScriptedUpstream, front: Front) -> None:
    system = {"role": "system", "content": "Be brief."}
    earlier = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello."}]
    messages = [system, *earlier, *ASK["messages"]]
    await front.ask(**{**ASK, "messages": messages}, temperature=0.3, seed=4)
    outline, *points = upstream.calls
    assert outline.body["messages"][0] == system
    assert earlier[0] in outline.body["messages"]
    assert outline.body["messages"][-1] == {"role": "assistant", "content": "1."}
    assert sorted(call.said for call in points) == LEADS
    for call in upstream.calls:
        assert (call.body["temperature"], call.body["seed"]) == (0.3, 4)
        assert call.body["model"] == MODEL
        assert "decoding" not in call.body
        assert "continue_final_message" not in call.body
    assert {call.body["max_tokens"] for call in points} == {96}
    assert points[0].body["stop"] == ["\n"]
    assert outline.body["frequency_penalty"] > 0


@pytest.mark.parametrize("order", [[3, 2, 1, 0], [1, 3, 0, 2]])
async def test_points_are_shown_in_order_the_first_as_it_is_written(
    upstream: ScriptedUpstream, front: Front, order: list[int]
) -> None:
    may_end = {lead: asyncio.Event() for lead in LEADS}

    async def script(call: Call) -> None:
        if is_outline(call):
            await in_points(call)
            return
        await call.begin_events()
        await call.event(chunk({"content": " begun,"}))
        await may_end[call.said].wait()
        await call.event(chunk({"content": " ended."}, finish_reason="stop"))
        await call.end_events()

    upstream.script = script
    connection = Connection(front.app, "chat", stream=True, **ASK)
    serving = asyncio.create_task(connection.serve())
    shown = ""

    async def until_shown(text: str) -> None:
        nonlocal shown
        async with asyncio.timeout(2):
            while text not in shown:
                message = await connection.sent.get()
                content = message.get("body", b"").decode()
                shown += text_of(content) if content else ""

    await until_shown("1. Food: begun,")
    for number in order:
        may_end[LEADS[number]].set()
        await asyncio.sleep(0.02)
        assert "2. Water: begun," not in shown or may_end[LEADS[0]].is_set()
    await until_shown("4. Torch: begun, ended.")
    assert shown == "\n".join(f"{lead} begun, ended." for lead in LEADS)
    await serving


async def test_no_more_calls_than_allowed_run_at_once(upstream: ScriptedUpstream) -> None:
    most = 0

    async def script(call: Call) -> None:
        nonlocal most
        most = max(most, len(upstream.open_calls))
        await asyncio.sleep(0.02)
        await in_points(call)

    upstream.script = script
    front = Front(upstream, prefill="continue", parallel=2)
    answer = (await front.ask(**ASK)).json()
    assert answer["choices"][0]["message"]["content"] == ANSWER
    assert most == 2


# --- how an upstream learns how to begin ---


@pytest.mark.parametrize(
    ("owner", "said", "fields"),
    [
        ("stride", "1.", {}),
        ("vllm", "1.", {"continue_final_message": True, "add_generation_prompt": False}),
        ("somebody", "Begin with: 1.", {}),
    ],
)
async def test_an_upstream_is_asked_who_it_is(
    upstream: ScriptedUpstream, owner: str, said: str, fields: dict[str, bool]
) -> None:
    upstream.models = [{"id": MODEL, "owned_by": owner}]
    upstream.script = in_points
    answer = (await Front(upstream).ask(**ASK)).json()
    assert answer["choices"][0]["message"]["content"] == ANSWER
    outline = upstream.calls[0]
    assert outline.said.endswith(said)
    assert {name: outline.body[name] for name in fields} == fields
    assert ("stop" in outline.body) == (owner != "somebody")


@pytest.mark.parametrize("prefill", ["words", "continue"])
@pytest.mark.parametrize("again", ["{lead} ", "{lead}", "**{lead}** ", "\n{lead}\n", "", "\n"])
async def test_a_lead_that_is_repeated_is_stripped(
    upstream: ScriptedUpstream, prefill: str, again: str
) -> None:
    async def script(call: Call) -> None:
        if is_outline(call):
            await call.write("1. Food\n2. Water\n", "3. Map\n4. Torch")
        else:
            text = again.format(lead=lead_of(call)) + SAYS[lead_of(call)]
            await call.write(*text, "\nand more")

    upstream.script = script
    answer = (await Front(upstream, prefill=prefill).ask(**ASK)).json()
    assert answer["choices"][0]["message"]["content"] == ANSWER


@pytest.mark.parametrize(
    ("lead", "text", "shown"),
    [
        ("1. Food:", "1. Foods are good", " 1. Foods are good"),
        ("1. Food:", "Food is good", " Food is good"),
        ("1. Food:", "1. food - is good", " is good"),
        ("1. 食物：", "1. 食物：很重要", "很重要"),
        ("1.", "1. A\n2. B", " A\n2. B"),
        ("1.", "", ""),
        ("1. Food:", "1. Fo", ""),
    ],
)
def test_only_what_repeats_the_lead_is_stripped(lead: str, text: str, shown: str) -> None:
    whole, single = Opening(lead), Opening(lead)
    assert whole.add(text) + whole.end() == shown
    assert "".join(map(single.add, text)) + single.end() == shown


# --- limits ---


async def test_a_point_ends_with_its_sentences_and_its_call_with_it(
    upstream: ScriptedUpstream,
) -> None:
    async def script(call: Call) -> None:
        if is_outline(call):
            await in_points(call)
            return
        await call.begin_events()
        for piece in (" One is", " good. Two is", " better. Thr", "ee"):
            await call.event(chunk({"content": piece}))
        await asyncio.Event().wait()

    upstream.script = script
    front = Front(upstream, prefill="continue")
    asked = {**ASK, "decoding": {"strategy": "skeleton", "sentences": 2}}
    answer = (await asyncio.wait_for(front.ask(**asked), 3)).json()
    expected = "\n".join(f"{lead} One is good. Two is better." for lead in LEADS)
    assert answer["choices"][0]["message"]["content"] == expected
    assert answer["usage"]["completion_tokens"] == 12  # a chunk is a token unless it is reported
    async with asyncio.timeout(2):
        while upstream.open_calls:
            await asyncio.sleep(0.005)


async def test_a_limit_of_tokens_is_that_of_the_whole_answer(
    upstream: ScriptedUpstream, front: Front
) -> None:
    answer = (await front.ask(**ASK, max_tokens=10)).json()
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"] == ANSWER[:40]
    assert {call.body["max_tokens"] for call in upstream.calls[1:]} == {10}


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_stop_string_ends_the_whole_answer(front: Front, streamed: bool) -> None:
    response = await front.ask(**ASK, stop="along.\n3", stream=streamed)
    shown = ANSWER[: ANSWER.index("along.\n3")]
    if streamed:
        assert text_of(response.text) == shown
    else:
        assert response.json()["choices"][0]["message"]["content"] == shown


async def test_what_may_be_a_stop_string_is_held_back_with_the_role(front: Front) -> None:
    response = await front.ask(**ASK, stop="1. Food: take all", stream=True)
    assert text_of(response.text) == ANSWER
    assert chunks_of(response.text)[0]["choices"][0]["delta"]["role"] == "assistant"


# --- when it goes wrong ---


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("prose", "the outline has fewer than 3 points"),
        ("error", "a call for it failed: no\nsuch thing"),
        ("drop", "a call for it failed: The upstream broke off its answer"),
    ],
)
async def test_without_an_outline_the_request_is_passed_on(
    upstream: ScriptedUpstream, front: Front, streamed: bool, fault: str, reason: str
) -> None:
    async def script(call: Call) -> None:
        if call.body["messages"] == ASK["messages"]:
            await call.write("plain") if streamed else await call.json(
                {"model": MODEL, "choices": [{"finish_reason": "stop"}]}
            )
        elif fault == "prose":
            await call.write(" I would take food.")
        elif fault == "error":
            await call.json({"error": {"message": "no\nsuch thing"}}, 400)
        else:
            await call.begin_events()

    upstream.script = script
    response = await front.ask(**ASK, stream=streamed)
    assert response.status_code == 200
    assert response.headers["x-stride-strategy"] == "passthrough"
    block = (chunks_of(response.text)[-1] if streamed else response.json())["decoding"]
    assert block["strategy"] == "passthrough"
    assert block["fallback"] == {"choices": 1, "strategy": "passthrough", "reason": reason}
    assert block["branches"]["count"] == 1
    labels = {"model": MODEL, "strategy": "skeleton", "fallback": "passthrough"}
    assert front.value("stride_strategy_fallbacks_total", **labels) == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_point_that_fails_ends_the_answer_and_all_calls(
    upstream: ScriptedUpstream, front: Front, streamed: bool
) -> None:
    async def script(call: Call) -> None:
        if is_outline(call):
            await in_points(call)
        elif call.said == LEADS[1]:
            await call.begin_events()
            await call.event(chunk({"content": " half"}))
        else:
            await asyncio.Event().wait()

    upstream.script = script
    response = await front.ask(**ASK, stream=streamed)
    if streamed:
        assert response.status_code == 200
        assert "upstream_broken_off" in response.text.strip().split("\n\n")[-1]
        assert text_of("\n\n".join(response.text.split("\n\n")[:-2])) == LEADS[0]
    else:
        assert response.status_code == 502
        assert error_of(response)["code"] == "upstream_broken_off"
    async with asyncio.timeout(2):
        while upstream.open_calls:
            await asyncio.sleep(0.005)
    assert len(upstream.calls) == 5


async def test_an_answer_in_points_has_one_deadline(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await asyncio.sleep(0.2)
        await in_points(call)

    upstream.script = script
    front = Front(upstream, prefill="continue", timeout=0.3)
    response = await front.ask(**ASK)
    assert response.status_code == 504
    assert error_of(response)["code"] == "upstream_timeout"
