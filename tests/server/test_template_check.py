"""A chat template that does not come to an end is found before anybody is kept waiting by it."""

import signal

import pytest
from fakes import byte_tokenizer

from server import template_check
from server.template_check import check_template

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_check, "SECONDS", 0.3)


def check(template: str | None) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    check_template(tokenizer)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (ENDLESS, "does not end within 0.3 seconds"),
        ("{{ 'x' * 2000000 }}", "makes 2000000 characters of two"),
        ("{{ 'x' * 10 ** 15 }}", "does not end"),
    ],
    ids=["a loop", "too much", "more than there is room for"],
)
def test_a_template_without_an_end_is_refused(template: str, says: str) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(ValueError, match=says):
        check(template)
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize(
    "template",
    [None, "{{ messages[0].content }}", "{{ raise_exception('not like this') }}", "{% x %}"],
)
def test_any_other_template_is_none_of_its_business(template: str | None) -> None:
    check(template)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
