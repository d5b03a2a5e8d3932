"""Topics: who writes and reads how much, and where it lies."""

from .model import ATTENTION, BAD, GOOD, OUT, Dashboard, Link, Panel, Query, Row, Variable

TOPIC = [Variable("topic", "Topic", "topics that have series of their own",
                  "label_values(tidegate_topic_partitions{@}, topic)")]
OF = '{@,topic=~"$topic"}'


def rate(metric):
    """The rate of a counter of topics, by topic."""
    return f"sum by (topic) (rate({metric}{OF}[$__rate_interval]))"


def size(place):
    """Bytes of topics in a place, by topic."""
    return f'sum by (topic) (tidegate_topic_log_bytes{{@,topic=~"$topic",place="{place}"}})'


WHAT = Row("What is there?", [
    Panel("Topics", "Topics of the cluster, internal ones included.", "short", kind="stat", width=4,
          height=4, queries=[Query("max(tidegate_cluster_topics{@})", "topics")]),
    Panel("Partitions", "Partitions of the cluster, internal ones included.", "short", kind="stat",
          width=4, height=4, queries=[Query("max(tidegate_cluster_partitions{@})", "partitions")]),
    Panel("Not in the bucket yet", "Bytes of all topics that are in the write-ahead log only.",
          "bytes", kind="stat", width=4, height=4,
          queries=[Query("sum(tidegate_broker_tier_lag_bytes{@})", "bytes")]),
    Panel("In the bucket", "Bytes that the chosen topics have in the bucket.",
          "bytes", kind="stat", width=4, height=4,
          queries=[Query(f"sum({size('bucket')})", "bytes")]),
    Panel("Failed", """The share of partitions in Produce and Fetch requests to the chosen topics that
        were answered with an error, the clients' own mistakes included.""",
          "percentunit", kind="stat", width=4, height=4, decimals=2,
          steps=((0.001, ATTENTION), (0.05, BAD)), queries=[
              Query(f"""(sum({rate("tidegate_topic_produce_failures_total")})
                  + sum({rate("tidegate_topic_fetch_failures_total")}))
                  / (sum({rate("tidegate_topic_produce_requests_total")})
                  + sum({rate("tidegate_topic_fetch_requests_total")}))""", "failed")]),
    Panel("Topics left out", """Topics without series of their own, because there are more than
        metrics.topics.max: they are in no panel by topic.""",
          "short", kind="stat", width=4, height=4, steps=((1, ATTENTION),),
          queries=[Query('sum(tidegate_metrics_omitted{@,what="topics"})', "left out")]),
    Panel("Topics, by traffic", """Every chosen topic. A click on one shows its consumers.""",
          "short", kind="table", width=24, height=9,
          link=Link("topic", "tidegate-consumers", "topic"), queries=[
              Query(rate("tidegate_topic_received_bytes_total"), "Written", unit="Bps"),
              Query(rate("tidegate_topic_received_records_total"), "Records", unit="cps"),
              Query(rate("tidegate_topic_sent_bytes_total"), "Sent", unit="Bps"),
              Query(size("wal"), "Not in the bucket", unit="bytes"),
              Query(size("bucket"), "In the bucket", unit="bytes"),
              Query(f"sum by (topic) (tidegate_topic_partitions{OF})", "Partitions")]),
])

TRAFFIC = Row("Who writes and reads?", [
    Panel("Written", "Bytes of record batches that producers wrote, the ten busiest topics.",
          "Bps", stack=True, queries=[
              Query(f'topk(10, {rate("tidegate_topic_received_bytes_total")})', "{{topic}}")]),
    Panel("Records", "Records that producers wrote, the ten busiest topics.",
          "cps", stack=True, queries=[
              Query(f'topk(10, {rate("tidegate_topic_received_records_total")})', "{{topic}}")]),
    Panel("Sent", """Bytes of record batches in Fetch responses, the ten busiest topics. A topic that
        is written and never sent has no reader.""",
          "Bps", stack=True, queries=[
              Query(f'topk(10, {rate("tidegate_topic_sent_bytes_total")})', "{{topic}}")]),
    Panel("Bytes a record", """Size of a record as it lies in the log, compressed if the producer
        compresses.""",
          "bytes", queries=[
              Query(f"""topk(10, {rate("tidegate_topic_received_bytes_total")}
                  / ({rate("tidegate_topic_received_records_total")} > 0))""", "{{topic}}")]),
    Panel("Records a batch", """Records that producers send together, over all topics. Near 1: linger.ms
        is 0, or the producers are many and slow; every batch costs the same few dozen bytes.""",
          "short", queries=[
              Query("""sum(rate(tidegate_partition_appended_records_total{@}[$__rate_interval]))
                  / (sum(rate(tidegate_partition_produces_total{@}[$__rate_interval])) > 0)""",
                    "records", OUT)]),
    Panel("Duplicates", """Batches of idempotent producers that came twice and were written once. Many:
        responses get lost or come too late for the producers' timeout.""",
          "ops", queries=[
              Query("sum(rate(tidegate_partition_duplicate_batches_total{@}[$__rate_interval]))",
                    "batches", ATTENTION)]),
])

FAILED = Row("What fails?", [
    Panel("Produce: failed", """Partitions of Produce requests that were answered with an error, the ten
        worst topics. Overview has the codes.""",
          "ops", width=12, queries=[
              Query(f'topk(10, {rate("tidegate_topic_produce_failures_total")})', "{{topic}}")]),
    Panel("Fetch: failed", """Partitions of Fetch requests that were answered with an error, the ten
        worst topics.""",
          "ops", width=12, queries=[
              Query(f'topk(10, {rate("tidegate_topic_fetch_failures_total")})', "{{topic}}")]),
])

SIZE = Row("How large are they, and where?", [
    Panel("Size", "Bytes of the log of each topic, wherever they lie, the ten largest topics.",
          "bytes", stack=True, queries=[
              Query(f"topk(10, sum by (topic) (tidegate_topic_log_bytes{OF}))", "{{topic}}")]),
    Panel("Where it lies", """Bytes of the chosen topics that are in the bucket, and bytes that are in
        the write-ahead log only.""",
          "bytes", stack=True, queries=[
              Query(f"sum({size('bucket')})", "bucket", GOOD),
              Query(f"sum({size('wal')})", "log only", ATTENTION)]),
    Panel("Growth", """How fast each topic grows over an hour, the ten fastest: written less what
        retention and compaction removed.""",
          "Bps", least=None, queries=[
              Query(f"topk(10, sum by (topic) (deriv(tidegate_topic_log_bytes{OF}[1h])))",
                    "{{topic}}")]),
])

DASHBOARD = Dashboard(
    "tidegate-topics", "Tidegate / Topics",
    "Who writes and reads how much of which topic, what fails, and where the bytes lie.",
    [WHAT, TRAFFIC, FAILED, SIZE], TOPIC, job_of="tidegate_cluster_topics")
