"""Overview: whether everything is well, and where to look if it is not."""

from .model import ATTENTION, BAD, IN, OUT, Dashboard, Link, Panel, Query, Row, by_role

# Error codes that are the broker's own failures. The others are answers to what a client did:
# a topic that does not exist, a record that is too large, an epoch that is over.
OWN_FAULTS = "KAFKA_STORAGE_ERROR|UNKNOWN_SERVER_ERROR|REQUEST_TIMED_OUT|COORDINATOR_NOT_AVAILABLE"


def own_faults(api, attempts):
    """The share of partitions in requests of an API that failed by the broker's fault."""
    return f"""(sum(rate(tidegate_server_errors_total{{@,api="{api}",code=~"{OWN_FAULTS}"}}
        [$__rate_interval])) or vector(0)) / sum(rate({attempts}{{@}}[$__rate_interval]))"""


def latency(quantile, api):
    """A quantile of the time that requests of an API take, by role."""
    buckets = f"""rate(tidegate_server_request_duration_seconds_bucket{{@,api="{api}"}}
        [$__rate_interval])"""
    return f"histogram_quantile({quantile}, sum by (role, le) {by_role(buckets)})"


def joined(metric):
    """A value of each process beside its role and version."""
    return f"""sum by (instance, role, version) ({metric}
        * on (namespace, job, instance) group_left (role, version) tidegate_build_info{{@}})"""


WELL = Row("Is everything well?", [
    Panel("Processes", "Processes that Prometheus reaches, by role.",
          "short", kind="stat", width=4, height=4,
          queries=[Query("count by (role) (tidegate_build_info{@})", "{{role}}")]),
    Panel("Alerts", """Alerts that fire now for the chosen processes. Each has a page under
        docs/runbooks.""",
          "short", kind="stat", width=4, height=4, steps=((1, BAD),), queries=[
              Query("""count(ALERTS{@,alertname=~"Tidegate.*",alertstate="firing"}) or vector(0)""",
                    "firing")]),
    Panel("Produce: failed", """The share of partitions in Produce requests that failed by the broker's
        own fault. The objective is 0.1 % a month.""",
          "percentunit", kind="stat", width=4, height=4, decimals=2,
          steps=((0.001, ATTENTION), (0.0144, BAD)), queries=[
              Query(own_faults("Produce", "tidegate_partition_produces_total"),
                    "of partitions")]),
    Panel("Fetch: failed", """The share of partitions in Fetch requests that failed by the broker's own
        fault. The objective is 0.1 % a month.""",
          "percentunit", kind="stat", width=4, height=4, decimals=2,
          steps=((0.001, ATTENTION), (0.0144, BAD)), queries=[
              Query(own_faults("Fetch", "tidegate_partition_fetches_total"), "of partitions")]),
    Panel("Worst consumer lag", """The time by which the slowest group is behind, from the timestamps of
        the records that it has not read. Consumers and lag shows which it is.""",
          "s", kind="stat", width=4, height=4, steps=((300, ATTENTION), (1800, BAD)),
          queries=[Query("max(tidegate_consumer_group_lag_seconds{@})", "behind")]),
    Panel("Oldest not in bucket", """How long the oldest batch that the bucket has not got has
        waited; about 10 minutes is normal (tier.max.age.ms).""",
          "s", kind="stat", width=4, height=4, steps=((900, ATTENTION), (3600, BAD)),
          queries=[Query("max(tidegate_broker_tier_lag_seconds{@})", "waits")]),
])

TRAFFIC = Row("How much goes through?", [
    Panel("Bytes", """Bytes of record batches that producers wrote and that consumers were sent. Sent
        above written: several groups read the same, or somebody catches up.""",
          "Bps", queries=[
              Query("sum(rate(tidegate_partition_appended_bytes_total{@}[$__rate_interval]))",
                    "written", OUT),
              Query("sum(rate(tidegate_partition_fetched_bytes_total{@}[$__rate_interval]))",
                    "sent", IN)]),
    Panel("Records written", "Records that producers wrote, by the counts of their batches.",
          "cps", queries=[
              Query("sum(rate(tidegate_partition_appended_records_total{@}[$__rate_interval]))",
                    "records", OUT)]),
    Panel("Requests", """What clients ask for, the eight most frequent APIs by role. What goes through
        a proxy to a broker is seen by both.""",
          "reqps", queries=[
              Query(f"""topk(8, sum by (role, api)
                  {by_role("rate(tidegate_server_requests_total{@}[$__rate_interval])")} > 0)""",
                    "{{role}}: {{api}}")]),
])

LATENCY = Row("How fast is it?", [
    Panel("Produce", """Time from the last byte of a Produce to the last byte of its response, with the
        sync of the disk in between.""",
          "s", steps=((0.1, ATTENTION), (1, BAD)), queries=[
              Query(latency(0.5, "Produce"), "{{role}}: median"),
              Query(latency(0.99, "Produce"), "{{role}}: 99%")]),
    Panel("Fetch", """The same of Fetch. A consumer that has read everything waits here for the next
        record, by default up to 0.5 s: this says something only under load.""",
          "s", queries=[
              Query(latency(0.5, "Fetch"), "{{role}}: median"),
              Query(latency(0.99, "Fetch"), "{{role}}: 99%")]),
    Panel("Sync of the disk", """How long the disk takes to make records durable: the floor of the time
        of a Produce.""",
          "s", steps=((0.05, ATTENTION), (0.5, BAD)), queries=[
              Query("""histogram_quantile(0.5, sum by (le)
                  (rate(tidegate_wal_sync_seconds_bucket{@}[$__rate_interval])))""", "median", IN),
              Query("""histogram_quantile(0.99, sum by (le)
                  (rate(tidegate_wal_sync_seconds_bucket{@}[$__rate_interval])))""", "99%", OUT)]),
])

ERRORS = Row("What goes wrong?", [
    Panel("Error codes in responses", """Errors that clients were told, by API and Kafka's name. Some are
        ordinary: UNKNOWN_TOPIC_OR_PARTITION before a topic is created, REBALANCE_IN_PROGRESS,
        MEMBER_ID_REQUIRED.""",
          "ops", queries=[
              Query("""topk(10, sum by (api, code) (rate(tidegate_server_errors_total{@}
                  [$__rate_interval])) > 0)""", "{{api}}: {{code}}")]),
    Panel("Connections ended, by cause", """Why connections ended. peer_closed is the normal one;
        tls_handshake, plaintext, malformed and slow_reader point to clients that are set up
        wrong.""",
          "ops", queries=[
              Query(f"""sum by (role, cause) {by_role(
                  "rate(tidegate_server_connections_closed_total{@}[$__rate_interval])")} > 0""",
                    "{{role}}: {{cause}}")]),
    Panel("Bucket and upstream", """Operations on the bucket that failed after all retries, and
        errors with the upstreams of a proxy.""",
          "ops", queries=[
              Query("""sum(rate(tidegate_object_requests_total{@,outcome=~"unavailable|denied"}
                  [$__rate_interval]))""", "bucket", BAD),
              Query("sum(rate(tidegate_proxy_upstream_errors_total{@}[$__rate_interval]))",
                    "upstream", ATTENTION)]),
])

FULL = Row("What is nearly full?", [
    Panel("Write-ahead log", """The log's files by the size that they may have. A full log alone is
        normal, its files are used again; full and not in the bucket is not.""",
          "percentunit", width=6, most=1, queries=[
              Query("max(tidegate_wal_disk_bytes{@} / tidegate_wal_limit_bytes{@})", "files", IN),
              Query("max(tidegate_broker_tier_lag_bytes{@} / tidegate_wal_limit_bytes{@})",
                    "not in the bucket", ATTENTION)]),
    Panel("Memory pools", """The fullest of the pools that clients wait for. A full one is
        back-pressure, not a crash: sockets are not read meanwhile. Caches, which are meant to be
        full, are on the runtime dashboard.""",
          "percentunit", width=6, most=1, steps=((0.9, ATTENTION),), queries=[
              Query("""topk(3, max by (pool) (
                  tidegate_memory_used_bytes{@,pool=~"receive|small|wal|send|groups"}
                  / (tidegate_memory_limit_bytes{@} > 0)))""", "{{pool}}")]),
    Panel("Workers", """The share of time that the runtime's threads are at work, by process.""",
          "percentunit", width=6, most=1, steps=((0.9, ATTENTION),), queries=[
              Query("""sum by (instance) (rate(tidegate_runtime_busy_seconds_total{@}
                  [$__rate_interval])) / sum by (instance) (tidegate_runtime_workers{@})""",
                    "{{instance}}")]),
    Panel("Connections", "Connections open now by the most that there may be, by process.",
          "percentunit", width=6, most=1, steps=((0.9, ATTENTION),), queries=[
              Query("tidegate_server_connections_open{@} / tidegate_server_connections_limit{@}",
                    "{{instance}}")]),
])

WHAT = Row("What runs?", [
    Panel("Processes and versions", "Each process with its role, version, age, memory and CPU.",
          "short", kind="table", width=24, height=6,
          link=Link("instance", "tidegate-runtime", "instance"), queries=[
              Query(joined("(time() - process_start_time_seconds{@})"), "Up for", unit="s"),
              Query(joined("process_resident_memory_bytes{@}"), "Memory", unit="bytes"),
              Query(joined("rate(process_cpu_seconds_total{@}[$__rate_interval])"), "CPUs",
                    unit="short"),
              Query(joined("tidegate_server_connections_open{@}"), "Connections", unit="short")]),
])

DASHBOARD = Dashboard(
    "tidegate-overview", "Tidegate / Overview",
    "Whether everything is well, how much goes through, how fast, and what is nearly full.",
    [WELL, TRAFFIC, LATENCY, ERRORS, FULL, WHAT])
