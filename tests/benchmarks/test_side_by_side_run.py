"""A run that is taken up again asks only what was not answered; nobody's failure stops it."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread

import pytest
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

from benchmarks.chatting import ChatAnswer
from benchmarks.conversations import Conversation
from benchmarks.processes import ContestantFailed
from benchmarks.side_by_side import asking, ways
from benchmarks.side_by_side.__main__ import app
from benchmarks.side_by_side.journal import Journal, Record, answered, name_of
from benchmarks.side_by_side.run import Run, turns
from benchmarks.side_by_side.servers import RunningServer
from benchmarks.side_by_side.sessions import Session, Size, Workload
from benchmarks.side_by_side.ways import of_url

NEVER = float("inf")
SESSIONS = [Session("a 1", (Conversation("a", ("One?", "Two?")),), 4)]
WORKLOAD = Workload({"a": SESSIONS}, Size(streams=(2,), sessions_a_stream=1))
EVENTS = (
    {"choices": [{"delta": {"content": "Yes"}}]},
    {"choices": [{"delta": {"content": " no"}}], "usage": {"completion_tokens": 2}},
)


class Scripted(BaseHTTPRequestHandler):
    """Serves a model that says the same to everybody, and keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    asked: list[dict[str, object]]

    def do_GET(self) -> None:
        body = json.dumps({"data": [{"id": "tiny"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.asked.append(json.loads(self.rfile.read(length)))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in EVENTS:
            chunk = f"data: {json.dumps(event)}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Scripted.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def tokens_of(text: str) -> list[int]:
    return [0] * len(text.split())


def take(url: str, path: Path, until: float = NEVER) -> tuple[bool, Journal, Run]:
    journal = Journal(path)
    servers = {name: RunningServer(name, url) for name in ("one", "other")}
    planned = list(turns(WORKLOAD, [of_url(name, url) for name in servers], 0))
    run = Run(servers, journal, tokens_of, Progress(console=Console(file=StringIO())))
    return run.take(planned, until), journal, run


def test_everyone_is_asked_and_answers_are_kept(url: str, tmp_path: Path) -> None:
    is_complete, journal, _ = take(url, tmp_path / "journal")
    assert is_complete
    alone, loaded = (
        [each for each in journal.records if each.streams == streams] for streams in (1, 2)
    )
    assert {each.way for each in alone} == {each.way for each in loaded} == {"one", "other"}
    assert [answer.tokens for answer in alone[0].answers] == [2, 2]
    assert all(each.speed and len(each.answers) == 4 for each in loaded)


def test_the_second_question_follows_the_servers_own_answer(url: str, tmp_path: Path) -> None:
    take(url, tmp_path / "journal")
    messages = max((body["messages"] for body in Scripted.asked), key=len)  # type: ignore[arg-type]
    assert [each["role"] for each in messages] == ["system", "user", "assistant", "user"]  # type: ignore[attr-defined]
    assert messages[2]["content"] == "Yes no"  # type: ignore[index]


def test_what_was_answered_is_not_asked_again(url: str, tmp_path: Path) -> None:
    _, before, _ = take(url, tmp_path / "journal")
    Scripted.asked.clear()
    is_complete, after, _ = take(url, tmp_path / "journal")
    assert is_complete
    assert Scripted.asked == []
    assert after.records == before.records


def test_a_run_without_time_stops_and_is_taken_up(url: str, tmp_path: Path) -> None:
    is_complete, journal, _ = take(url, tmp_path / "journal", until=0.0)
    assert not is_complete and not journal.records
    assert take(url, tmp_path / "journal")[0]


def test_who_cannot_be_reached_is_named_and_stops_nobody(tmp_path: Path) -> None:
    is_complete, journal, run = take("http://127.0.0.1:9/v1", tmp_path / "journal")
    assert is_complete and not journal.records
    assert set(run.failed) == {"one", "other"}


# --- the journal ---


def a_record(**fields: object) -> Record:
    return Record(way="one", streams=1, round=0, place=0, **fields)  # type: ignore[arg-type]


def test_a_line_that_was_cut_off_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Journal(path).add(a_record())
    with path.open("ab") as file:
        file.write(b'{"way":"oth')
    journal = Journal(path)
    assert journal.records == [a_record()]
    journal.add(a_record(speed=1.0))
    assert len(Journal(path).records) == 2


def test_what_failed_is_tried_again_by_the_next_run(tmp_path: Path) -> None:
    Journal(tmp_path / "journal").add(a_record(problem="no answer"))
    assert Journal(tmp_path / "journal").done == set()


def test_beginning_anew_forgets(tmp_path: Path) -> None:
    Journal(tmp_path / "journal").add(a_record())
    assert Journal(tmp_path / "journal", fresh=True).records == []


def test_another_commit_or_workload_has_another_journal() -> None:
    other = WORKLOAD._replace(size=Size(max_tokens=5))
    names = {name_of(*each) for each in (
        ("abc", "m", WORKLOAD), ("abd", "m", WORKLOAD), ("abc", "n", WORKLOAD), ("abc", "m", other),
    )}  # fmt: skip
    assert len(names) == 4


# --- answers in figures ---


def test_an_answer_is_counted_from_when_it_was_asked_for() -> None:
    pieces = ((2.0, 4), (3.0, 2), (4.0, 2))
    answer = ChatAnswer("aa bb cc", 9, 2.0, 4.5, pieces, {"model_steps": 2}, sent=1.0)
    found = answered(ways.AUTO, asking.Turn("a 1", 0, "a", answer), tokens_of)
    assert (found.tokens, found.first, found.seconds) == (3, 1.0, 3.5)
    assert found.decode_speed == 3 * 0.5 / 2
    assert found.gaps == (1.0, 1.0)
    assert found.forwards == 2


def test_the_forwards_of_llama_cpp_are_what_its_drafts_have_left() -> None:
    timings = {"predicted_n": 10, "draft_n": 8, "draft_n_accepted": 6}
    answer = ChatAnswer("a", 10, 1.0, 1.0, ((1.0, 1),), {}, timings)
    found = answered(ways.LLAMA, asking.Turn("a 1", 0, "a", answer), tokens_of)
    assert found.forwards == 4
    assert found.decode_speed is None


def test_what_transformers_calls_tokens_are_forwards() -> None:
    answer = ChatAnswer("aa bb", 1, 1.0, 1.0, ((1.0, 5),), {})
    turn = asking.Turn("a 1", 0, "a", answer)
    assert answered(ways.LOOKUP, turn, tokens_of).forwards == 1
    assert answered(ways.BATCHING, turn, tokens_of).forwards is None


def test_a_server_without_models_has_failed(url: str) -> None:
    with pytest.raises(ContestantFailed, match="models"):
        RunningServer("one", url.replace("http", "https", 1)).start()


# --- the command ---


@pytest.mark.parametrize("given", ["http://gpu:8000/v1", "vLLM=gpu:8000"])
def test_a_url_needs_a_name_and_a_scheme(given: str) -> None:
    result = CliRunner().invoke(app, ["--url", given])
    assert result.exit_code == 2
    assert "NAME=http" in result.output
