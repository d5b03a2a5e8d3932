"""Runtime: what the processes need of their machines, and what is about to run out."""

from .model import ATTENTION, BAD, GOOD, IN, OUT, Dashboard, Panel, Query, Row

NO_YES = {0: ("no", GOOD), 1: ("yes", BAD)}


def each(expr):
    """A query with a line for each process."""
    return Query(expr, "{{instance}}")


MACHINE = Row("What do the processes need?", [
    Panel("CPU", "CPUs in use by each process, user and system time together.",
          "short", queries=[each("rate(process_cpu_seconds_total{@}[$__rate_interval])")]),
    Panel("Memory", """Resident memory of each process. Of a broker it stays within
        memory.budget.bytes and about a tenth more.""",
          "bytes", queries=[each("process_resident_memory_bytes{@}")]),
    Panel("Open files", "File descriptors open by the most that may be (ulimit -n).",
          "percentunit", most=1, steps=((0.8, ATTENTION), (0.95, BAD)),
          queries=[each("process_open_fds{@} / process_max_fds{@}")]),
    Panel("Threads", "Operating system threads of each process.",
          "short", queries=[each("process_threads{@}")]),
    Panel("Disk free", "The share of the volume of data.dir that is free.",
          "percentunit", most=1, queries=[
              each("tidegate_wal_volume_free_bytes{@} / tidegate_wal_volume_size_bytes{@}")]),
    Panel("Scrape", "How long a process takes to gather its metrics.",
          "s", steps=((0.5, ATTENTION),), queries=[each("tidegate_metrics_scrape_seconds{@}")]),
])

WORKERS = Row("Do the threads keep up?", [
    Panel("Workers busy", """The share of time that the runtime's threads are at work. Near 1 requests
        wait for a thread: more CPUs or fewer clients.""",
          "percentunit", most=1, steps=((0.9, ATTENTION),), queries=[
              each("""rate(tidegate_runtime_busy_seconds_total{@}[$__rate_interval])
                  / tidegate_runtime_workers{@}""")]),
    Panel("Tasks", "Tasks alive, about two for each connection.",
          "short", queries=[each("tidegate_runtime_tasks{@}")]),
    Panel("Tasks queued", """Tasks that wait in the queue that all threads share. Above 0 for long: the
        threads do not keep up.""",
          "short", queries=[each("tidegate_runtime_queued_tasks{@}")]),
])

POOLS = Row("Where is the memory?", [
    Panel("Pools in use", """Bytes of the budget in use, by pool: receive and small for requests, wal for
        what is being written, tail for recent records, send for responses, hot, catch_up and footers
        for the cache.""",
          "bytes", stack=True, queries=[
              Query("sum by (pool) (tidegate_memory_used_bytes{@})", "{{pool}}")]),
    Panel("Pools by their limit", """How full each pool is. hot and tail are meant to be full; receive,
        wal and send are full when clients send or ask for more than the disk and the network
        take.""",
          "percentunit", most=1, queries=[
              Query("""max by (pool) (tidegate_memory_used_bytes{@}
                  / (tidegate_memory_limit_bytes{@} > 0))""", "{{pool}}")]),
    Panel("Reads paused", """Seconds of waiting per second for which connections were not read, by what
        they waited for: in_flight is one client with too many requests open, the pools are
        memory.""",
          "short", queries=[
              Query("""sum by (cause) (rate(tidegate_server_read_pause_seconds_sum{@}
                  [$__rate_interval]))""", "{{cause}}")]),
    Panel("Log in memory", """Durable bytes of the write-ahead log kept for readers, and bytes that only
        responses still hold.""",
          "bytes", queries=[
              Query("sum(tidegate_wal_tail_bytes{@})", "for readers", GOOD),
              Query("sum(tidegate_wal_lingering_bytes{@})", "held by responses", ATTENTION)]),
    Panel("Copies in user space", """Bytes copied per byte received or sent by the front door. Large
        batches are not copied at all on their way out; small ones are, together.""",
          "short", decimals=2, queries=[
              Query("""sum(rate(tidegate_server_copied_bytes_total{@,direction="in"}
                  [$__rate_interval])) / sum(rate(tidegate_server_received_bytes_total{@}
                  [$__rate_interval]))""", "in", OUT),
              Query("""sum(rate(tidegate_server_copied_bytes_total{@,direction="out"}
                  [$__rate_interval])) / sum(rate(tidegate_server_sent_bytes_total{@}
                  [$__rate_interval]))""", "out", IN)]),
    Panel("Fetch sessions", """Sessions in the cache (KIP-227), and sessions that made room for others or
        were refused. A refused client works, and sends more.""",
          "short", queries=[
              Query("sum(tidegate_broker_fetch_sessions{@})", "sessions", IN),
              Query("sum(increase(tidegate_broker_fetch_session_evictions_total{@}"
                    "[$__rate_interval]))", "evicted", ATTENTION),
              Query("sum(increase(tidegate_broker_fetch_sessions_refused_total{@}"
                    "[$__rate_interval]))", "refused", BAD)]),
])

CONNECTIONS = Row("Who is connected?", [
    Panel("Connections", "Connections open now by the most that there may be (max.connections).",
          "percentunit", most=1, steps=((0.9, ATTENTION),), queries=[
              each("tidegate_server_connections_open{@} / tidegate_server_connections_limit{@}")]),
    Panel("Accepted", """Connections accepted, and accepts that failed, as when no file descriptor is
        left.""",
          "ops", queries=[
              Query("sum(rate(tidegate_server_connections_accepted_total{@}[$__rate_interval]))",
                    "accepted", IN),
              Query("sum(rate(tidegate_server_accept_errors_total{@}[$__rate_interval]))",
                    "failed", BAD)]),
    Panel("Requests in flight", "Requests received whose response is not yet written.",
          "short", queries=[each("tidegate_server_requests_in_flight{@}")]),
    Panel("Certificates end in", """How long until the certificates in use end: what clients of a
        listener are shown (server), and what a proxy shows its upstreams (client). Of a chain the
        one that ends first. Empty without TLS.""",
          "s", least=None, base=BAD, steps=((14 * 86400, GOOD),), queries=[
              Query("""min by (instance, side, name)
                  (tidegate_security_certificate_expiry_seconds{@}) - time()""",
                    "{{instance}} {{name}} ({{side}})")]),
])

STATE = Row("Does anything stand still?", [
    Panel("Log stopped", """Whether the write-ahead log has stopped for good after a failed sync. The
        process then ends: what the disk holds is not known any more.""",
          "short", kind="stat", width=6, height=4, names=NO_YES,
          queries=[Query("max(tidegate_wal_poisoned{@})", "stopped")]),
    Panel("Replaced", """Whether another run of this broker took its place, so that this one must
        end.""",
          "short", kind="stat", width=6, height=4, names=NO_YES,
          queries=[Query("max(tidegate_cluster_fenced{@})", "replaced")]),
    Panel("Deletion paused", """Whether deletion by time pauses because the clock jumped by more than
        five minutes.""",
          "short", kind="stat", width=6, height=4,
          names={0: ("no", GOOD), 1: ("yes", ATTENTION)},
          queries=[Query("max(tidegate_broker_deletion_paused{@})", "paused")]),
    Panel("Damaged reads", """Reads within the time shown that found bytes of the log or of a tiered
        object damaged. They are never sent to a client.""",
          "short", kind="stat", width=6, height=4, steps=((1, BAD),), queries=[
              Query("""sum(increase(tidegate_wal_corrupt_reads_total{@}[$__range]))
                  + sum(increase(tidegate_tier_cache_loads_total{@,outcome="corrupt"}
                  [$__range]))""", "reads")]),
    Panel("Changes of metadata", """Entries of the metadata log that were written, such as topics created,
        and attempts that failed because the bucket was away.""",
          "ops", width=12, queries=[
              Query("sum(rate(tidegate_cluster_metadata_commits_total{@}[$__rate_interval]))",
                    "written", IN),
              Query("sum(rate(tidegate_cluster_metadata_commit_failures_total{@}"
                    "[$__rate_interval]))", "failed", BAD)]),
    Panel("Checkpoints", """Checkpoints of the write-ahead log on disk: what a start need not read
        again. One for each 64 MiB written.""",
          "ops", width=12, queries=[
              Query("sum(rate(tidegate_broker_checkpoints_total{@}[$__rate_interval]))",
                    "published", IN)]),
])

DASHBOARD = Dashboard(
    "tidegate-runtime", "Tidegate / Runtime",
    "What the processes need of their machines, and whether anything is about to run out.",
    [MACHINE, WORKERS, POOLS, CONNECTIONS, STATE])
