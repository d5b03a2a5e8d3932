"""Bucket and cost: what is asked of the object store, how it answers, and what that costs."""

from .model import ATTENTION, BAD, GOOD, IN, OUT, Dashboard, Panel, Query, Row, Variable

# Prices of Amazon S3 Standard in us-east-1, which most other services are near.
PRICES = [
    Variable("price_write", "$ per 1,000 writes",
             "what 1,000 PUT, POST and LIST requests cost", text="0.005"),
    Variable("price_read", "$ per 1,000 reads",
             "what 1,000 GET and HEAD requests cost", text="0.0004"),
    Variable("price_storage", "$ per GB and month",
             "what keeping one GB (10^9 bytes) for a month costs", text="0.023"),
]

BILLED = "tidegate_object_billed_requests_total"


def requests_an_hour(billing_class, price):
    """Dollars an hour for requests of a class at the present rate."""
    return f"""sum(rate({BILLED}{{@,class="{billing_class}"}}[$__rate_interval]))
        * 3600 / 1000 * ${price}"""


STORAGE_AN_HOUR = """sum(tidegate_topic_log_bytes{@,place="bucket"}) / 1e9
    * $price_storage / 730"""

COST = Row("What does the bucket cost?", [
    Panel("Cost of requests, a month", """What requests cost in a month of 730 hours if they go on as
        now, at the prices above. DELETE is free. Traffic is not counted: it is free within a region.""",
          "currencyUSD", kind="stat", width=6, height=5, decimals=2, queries=[
              Query(f"""({requests_an_hour("write", "price_write")}
                  + {requests_an_hour("read", "price_read")}) * 730""", "requests")]),
    Panel("Cost of storage, a month", """What the topics' bytes in the bucket cost in a month at the price
        above. Not counted: topics beyond metrics.topics.max (100), objects that wait for deletion,
        metadata and checkpoints.""",
          "currencyUSD", kind="stat", width=6, height=5, decimals=2,
          queries=[Query(f"{STORAGE_AN_HOUR} * 730", "storage")]),
    Panel("Cost, an hour", """Dollars an hour at the present rate of requests and the present size.
        Many writes with few bytes point to a tier.max.age.ms that is short; many reads to readers
        of old data or a cache that is small.""",
          "currencyUSD", width=12, height=5, stack=True, queries=[
              Query(requests_an_hour("write", "price_write"), "writes", OUT),
              Query(requests_an_hour("read", "price_read"), "reads", IN),
              Query(STORAGE_AN_HOUR, "storage", "yellow")]),
    Panel("Billed requests", """Requests by the class that clouds bill them in, every attempt counted:
        write is PUT, POST and LIST, read is GET and HEAD, free is DELETE.""",
          "reqps", width=12, queries=[
              Query(f"sum by (class) (rate({BILLED}{{@}}[$__rate_interval]))", "{{class}}")]),
    Panel("Bytes per billed write", """How much each PUT, POST or LIST carries. The larger, the
        cheaper: a full segment is 64 MiB, uploaded in parts.""",
          "bytes", width=12, queries=[
              Query(f"""sum(rate(tidegate_object_bytes_total{{@,operation=~"put|create|put_part"}}
                  [$__rate_interval]))
                  / (sum(rate({BILLED}{{@,class="write"}}[$__rate_interval])) > 0)""",
                    "bytes a write", OUT)]),
])

HEALTH = Row("Does the bucket answer?", [
    Panel("Failed operations", """The share of operations that failed after all retries: the service
        was away, too slow, or refused the credentials. While it is above 0, data stays in the
        write-ahead log and topics cannot be created or changed.""",
          "percentunit", kind="stat", width=6, height=6, decimals=2,
          steps=((0.001, ATTENTION), (0.05, BAD)), queries=[
              Query("""sum(rate(tidegate_object_requests_total{@,outcome=~"unavailable|denied"}
                  [$__rate_interval]))
                  / sum(rate(tidegate_object_requests_total{@}[$__rate_interval]))""", "failed")]),
    Panel("Failures and requests to slow down", """Operations that failed for good, attempts that were
        made again, and answers that asked for fewer requests (429, 503).""",
          "reqps", width=18, height=6, queries=[
              Query("""sum by (outcome) (rate(tidegate_object_requests_total
                  {@,outcome=~"unavailable|denied"}[$__rate_interval]))""", "{{outcome}}"),
              Query("sum(rate(tidegate_object_retries_total{@}[$__rate_interval]))",
                    "attempts made again", ATTENTION),
              Query("sum(rate(tidegate_object_throttles_total{@}[$__rate_interval]))",
                    "asked to slow down", BAD),
              Query("sum(rate(tidegate_object_hedges_total{@}[$__rate_interval]))",
                    "reads asked for twice", IN)]),
    Panel("Operations", """Operations that have ended, by what they were. create is a PUT that must
        not find the key taken; begin, part and complete are the steps of a multipart upload.""",
          "ops", width=12, queries=[
              Query("""sum by (operation) (rate(tidegate_object_requests_total{@}
                  [$__rate_interval]))""", "{{operation}}")]),
    Panel("Outcomes", """How operations ended. exists and not_found are answers, not failures: a
        create that finds its key taken, a read of what is not there.""",
          "ops", width=12, queries=[
              Query("""sum by (outcome) (rate(tidegate_object_requests_total{@}
                  [$__rate_interval]))""", "{{outcome}}")]),
])

SPEED = Row("How fast is it?", [
    Panel("Median time by operation", """Half of the operations took no longer, waiting for a free
        place and retries included.""",
          "s", width=8, queries=[
              Query("""histogram_quantile(0.5, sum by (operation, le)
                  (rate(tidegate_object_latency_seconds_bucket{@}[$__rate_interval]))) >= 0""",
                    "{{operation}}")]),
    Panel("99th percentile by operation", """One operation in a hundred took longer than this. Uploads
        of large parts take seconds on a slow link; ranged reads should stay below 0.2 s.""",
          "s", width=8, queries=[
              Query("""histogram_quantile(0.99, sum by (operation, le)
                  (rate(tidegate_object_latency_seconds_bucket{@}[$__rate_interval]))) >= 0""",
                    "{{operation}}")]),
    Panel("Traffic", "Bytes of objects that were read and written by operations that succeeded.",
          "Bps", width=8, queries=[
              Query("""sum(rate(tidegate_object_bytes_total{@,operation=~"get|get_range"}
                  [$__rate_interval]))""", "read", IN),
              Query("""sum(rate(tidegate_object_bytes_total{@,operation=~"put|create|put_part"}
                  [$__rate_interval]))""", "written", OUT)]),
])

GARBAGE = Row("Is it tidied up?", [
    Panel("Waiting for deletion", """Objects that nobody refers to and that are not deleted yet. They
        go 15 minutes after a checkpoint in the bucket says so; a number that only grows means that
        checkpoints or deletes fail.""",
          "short", width=8, queries=[
              Query("sum(tidegate_broker_garbage_objects{@})", "objects", ATTENTION)]),
    Panel("Bytes waiting for deletion", "The bytes of these objects, which are still paid for.",
          "bytes", width=8, queries=[
              Query("sum(tidegate_broker_garbage_bytes{@})", "bytes", ATTENTION)]),
    Panel("Deletions, checkpoints, sweeps", """Objects deleted by what they were and how it ended,
        checkpoints that the bucket took or did not take, and searches for orphans that were
        finished.""",
          "ops", width=8, queries=[
              Query("""sum by (what, outcome) (rate(tidegate_broker_deleted_objects_total{@}
                  [$__rate_interval]))""", "deleted {{what}}: {{outcome}}"),
              Query("""sum(rate(tidegate_broker_bucket_checkpoints_total{@}[$__rate_interval]))""",
                    "checkpoints", GOOD),
              Query("""sum(rate(tidegate_broker_bucket_checkpoint_failures_total{@}
                  [$__rate_interval]))""", "checkpoints that failed", BAD),
              Query("sum(rate(tidegate_broker_orphan_sweeps_total{@}[$__rate_interval]))",
                    "sweeps for orphans", IN)]),
])

DASHBOARD = Dashboard(
    "tidegate-bucket", "Tidegate / Bucket and cost",
    "What Tidegate asks of the object store, how that answers, and what it costs.",
    [COST, HEALTH, SPEED, GARBAGE], PRICES, job_of="tidegate_object_throttles_total")
