"""How workers share a machine."""

import pytest

from server.hardware import device_of, threads_of_each


@pytest.mark.parametrize(("workers", "threads"), [(1, 0), (2, 4), (3, 2), (8, 1), (20, 1)])
def test_cores_are_divided_among_workers(
    monkeypatch: pytest.MonkeyPatch, workers: int, threads: int
) -> None:
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 8)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(16)))
    assert threads_of_each(workers) == threads


def test_cores_that_may_not_be_used_are_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 8)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2, 3})
    assert threads_of_each(2) == 2


@pytest.mark.parametrize(
    ("environment", "devices"),
    [
        ({}, ["0", "1", "2"]),
        ({"CUDA_VISIBLE_DEVICES": "3, 5"}, ["3", "5", "3"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, ["", "", ""]),
    ],
)
def test_each_worker_sees_one_device(environment: dict[str, str], devices: list[str]) -> None:
    given = [device_of(number, environment)["CUDA_VISIBLE_DEVICES"] for number in range(3)]
    assert given == devices
