"""What start-up and ``stride info`` say of an upstream."""

from server.upstream.choice import STRATEGIES
from server.upstream.client import Look, Target


def facts(target: Target, look: Look) -> list[tuple[str, str]]:
    """Lines of a label and what to say."""
    return [
        ("Model", f"{target.model}, answered by the upstream"),
        ("Upstream", f"{target.base}/v1  ({look.reason_not_ready or 'reachable'})"),
        ("Its key", "set" if target.key else "none"),
        ("Strategies", ", ".join(STRATEGIES)),
        (
            "Calls",
            f"at most {target.parallel} at once for a request, {target.connections} for all; "
            f"{target.retries} retries within {target.timeout:g} s",
        ),
    ]
