"""Which worker a request goes to: the one that has read its beginning before, unless it is busy."""

from collections.abc import Mapping
from hashlib import blake2b

from decoding.request import Request

_COMPARED_TOKENS = 64  # of a prompt: those of one conversation or system message begin alike
_REQUESTS_MORE = 2  # than the least busy worker the favourite may have


def route(request: Request, requests: Mapping[int, int]) -> int:
    """The number of the worker for a request.

    ``requests`` are those in progress, by the number of a live worker; there is at least one.
    """
    least = min(requests, key=lambda number: (requests[number], number))
    favourite = max(requests, key=lambda number: _affinity(request, number))
    return favourite if requests[favourite] <= requests[least] + _REQUESTS_MORE else least


def _affinity(request: Request, number: int) -> bytes:
    """Rendezvous hashing: a worker that comes or goes moves only the requests it gains or loses."""
    beginning = ",".join(map(str, request.prompt[:_COMPARED_TOKENS]))
    written = f"{number}:{beginning}:{request.cache_salt}"
    return blake2b(written.encode(errors="surrogatepass"), digest_size=8).digest()
