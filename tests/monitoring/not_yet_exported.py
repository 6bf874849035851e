"""What the dashboard and the alerts ask for and the server does not show yet.

A metric that comes must leave this list: a test sees to it.
"""

NOT_YET_EXPORTED = {
    "stride_in_flight_lost_total",
    "stride_worker_last_heartbeat_seconds",
    "stride_worker_restarts_total",
    "stride_worker_rss_bytes",
    "stride_worker_start_duration_seconds",
    "stride_worker_up",
}
