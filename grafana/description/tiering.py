"""Cache and tiering: the write-ahead log, the way into the bucket, and the way back."""

from .model import ATTENTION, BAD, GOOD, IN, OUT, Dashboard, Panel, Query, Row

HITS = "sum by (cache) (rate(tidegate_tier_cache_hits_total{@}[$__rate_interval]))"
MISSES = "sum by (cache) (rate(tidegate_tier_cache_misses_total{@}[$__rate_interval]))"

WAL = Row("Is the write-ahead log fast, and is there room in it?", [
    Panel("Time of a sync", """How long the disk takes to make a group of records durable. Every
        Produce waits for one: this is the floor of its latency.""",
          "s", steps=((0.05, ATTENTION), (0.5, BAD)), queries=[
              Query("""histogram_quantile(0.5, sum by (le)
                  (rate(tidegate_wal_sync_seconds_bucket{@}[$__rate_interval])))""", "median", IN),
              Query("""histogram_quantile(0.99, sum by (le)
                  (rate(tidegate_wal_sync_seconds_bucket{@}[$__rate_interval])))""", "99%", OUT)]),
    Panel("Room in the log", """Bytes of the log's files, what they may grow to (wal.max.bytes), bytes
        that the bucket has not got yet, and what is free on the volume. When the files have grown
        to the limit and the bucket takes nothing, producers are slowed down and at last refused.""",
          "bytes", queries=[
              Query("sum(tidegate_wal_disk_bytes{@})", "files", IN),
              Query("sum(tidegate_wal_limit_bytes{@})", "limit", BAD),
              Query("sum(tidegate_broker_tier_lag_bytes{@})", "not in the bucket", ATTENTION),
              Query("sum(tidegate_wal_volume_free_bytes{@})", "free on the volume", GOOD)]),
    Panel("Refused for want of room", """Records that the log could not take because no file space was
        to be had, and attempts to grow that failed. Anything above 0 is refused writes.""",
          "ops", queries=[
              Query("""sum(rate(tidegate_wal_room_refused_total{@}[$__rate_interval]))
                  or vector(0)""", "records refused", BAD),
              Query("sum(rate(tidegate_wal_growth_failures_total{@}[$__rate_interval]))",
                    "failures to grow", ATTENTION)]),
    Panel("Groups and syncs", """Groups of records written and syncs of the disk. Under load several
        producers share a sync: records rise faster than syncs.""",
          "ops", queries=[
              Query("sum(rate(tidegate_wal_records_total{@}[$__rate_interval]))", "records", OUT),
              Query("sum(rate(tidegate_wal_groups_total{@}[$__rate_interval]))", "groups", IN),
              Query("sum(rate(tidegate_wal_syncs_total{@}[$__rate_interval]))", "syncs", GOOD)]),
    Panel("Records a group", """How many records share one write: half of the groups have no more, one
        in a hundred has more. The more, the less each costs.""",
          "short", queries=[
              Query("""histogram_quantile(0.5, sum by (le)
                  (rate(tidegate_wal_group_records_bucket{@}[$__rate_interval])))""", "median", IN),
              Query("""histogram_quantile(0.99, sum by (le)
                  (rate(tidegate_wal_group_records_bucket{@}[$__rate_interval])))""", "99%", OUT)]),
    Panel("Bytes written", """Bytes written to the log with their headers, and bytes of record batches
        among them.""",
          "Bps", queries=[
              Query("sum(rate(tidegate_wal_written_bytes_total{@}[$__rate_interval]))",
                    "log", OUT),
              Query("sum(rate(tidegate_partition_appended_bytes_total{@}[$__rate_interval]))",
                    "record batches", IN)]),
])

INTO = Row("Does data get into the bucket?", [
    Panel("Oldest data not in the bucket", """How long the oldest batch that the bucket has not got
        has waited. It stays below tier.max.age.ms (10 minutes unless set) and the time of an
        upload; more means that uploads fail or cannot keep up.""",
          "s", steps=((900, ATTENTION), (3600, BAD)), queries=[
              Query("max by (instance) (tidegate_broker_tier_lag_seconds{@})", "{{instance}}")]),
    Panel("Objects brought", """Objects uploaded by what they were made of: flushed from the log, merged
        from small pieces, or compacted; and those that failed and are tried again.""",
          "ops", queries=[
              Query("""sum by (origin) (rate(tidegate_broker_tier_objects_total{@,outcome="ok"}
                  [$__rate_interval]))""", "{{origin}}"),
              Query("""sum(rate(tidegate_broker_tier_objects_total{@,outcome="failed"}
                  [$__rate_interval]))""", "failed", BAD)]),
    Panel("Bytes brought", """Bytes of uploaded objects by what they were made of. What is merged or
        compacted was in the bucket before: it is written again.""",
          "Bps", stack=True, queries=[
              Query("""sum by (origin) (rate(tidegate_broker_tier_bytes_total{@}
                  [$__rate_interval]))""", "{{origin}}")]),
    Panel("Sections an object", """Partitions that share an object, by what it was made of. Many small
        partitions share a pack, so that idle ones cost nothing.""",
          "short", queries=[
              Query("""sum by (origin) (rate(tidegate_broker_tier_sections_total{@}
                  [$__rate_interval])) / (sum by (origin) (rate(tidegate_broker_tier_objects_total
                  {@,outcome="ok"}[$__rate_interval])) > 0)""", "{{origin}}")]),
    Panel("Log files kept back", """Files of the log between the oldest byte that is needed and the
        newest. It shrinks when data reaches the bucket and a checkpoint covers it.""",
          "short", queries=[
              Query("sum by (instance) (tidegate_broker_wal_pinned_files{@})",
                    "{{instance}}", ATTENTION),
              Query("sum by (instance) (tidegate_wal_files{@})", "{{instance}}: in use", IN)]),
    Panel("Who keeps the oldest file", """The partition whose bytes keep the oldest file of the log from
        being used again. Always the same one while the log fills: look at that topic.""",
          "short", kind="table", queries=[
              Query("""sum by (instance, topic, partition)
                  (tidegate_broker_wal_oldest_file_pin{@}) > 0""", "Keeps it")]),
])

BACK = Row("Where do readers get their bytes?", [
    Panel("Bytes read by source", """Record batches read from memory (the tail), from files of the log,
        and from the bucket or what is kept of it. Readers that keep up read from memory only.""",
          "Bps", stack=True, queries=[
              Query("sum(rate(tidegate_partition_tail_bytes_total{@}[$__rate_interval]))",
                    "memory", GOOD),
              Query("sum(rate(tidegate_partition_disk_bytes_total{@}[$__rate_interval]))",
                    "log files", IN),
              Query("sum(rate(tidegate_partition_tiered_bytes_total{@}[$__rate_interval]))",
                    "bucket or its cache", ATTENTION)]),
    Panel("Cache hit ratio", """The share of chunks and footers wanted that were in memory: hot for
        readers of young data, catch_up for readers of old data (who read everything once, so a low
        ratio is normal there), footers for both.""",
          "percentunit", most=1, queries=[Query(f"{HITS} / (({HITS} + {MISSES}) > 0)", "{{cache}}")]),
    Panel("Read amplification", """Bytes read for each byte that readers wanted: from log files, where
        partitions lie side by side, and from the bucket, read-ahead included. Below 1 is the work
        of the cache; far above 1 is a cache that is too small.""",
          "short", decimals=2, queries=[
              Query("""sum(rate(tidegate_partition_disk_read_bytes_total{@}[$__rate_interval]))
                  / (sum(rate(tidegate_partition_disk_bytes_total{@}[$__rate_interval])) > 0)""",
                    "log files", IN),
              Query("""sum(rate(tidegate_tier_cache_loaded_bytes_total{@}[$__rate_interval]))
                  / (sum(rate(tidegate_partition_tiered_bytes_total{@}[$__rate_interval])) > 0)""",
                    "bucket", ATTENTION)]),
    Panel("Loads from the bucket", """Loads of chunks and footers by outcome, read-ahead included.
        corrupt is never served to a reader; missing is an object that was deleted meanwhile.""",
          "ops", queries=[
              Query("""sum by (outcome) (rate(tidegate_tier_cache_loads_total{@}
                  [$__rate_interval]))""", "{{outcome}}")]),
    Panel("Memory of the cache", """Bytes kept by each part of the cache, and bytes that only readers
        still hold.""",
          "bytes", stack=True, queries=[
              Query("sum by (cache) (tidegate_tier_cache_bytes{@})", "{{cache}}"),
              Query("sum(tidegate_tier_cache_pinned_bytes{@})", "held by readers", ATTENTION)]),
    Panel("Evictions", """Bytes that had to go because others took their place, by part of the cache. As
        high as the loads: what is read does not fit.""",
          "Bps", queries=[
              Query("""sum by (cache) (rate(tidegate_tier_cache_evicted_bytes_total{@}
                  [$__rate_interval]))""", "{{cache}}")]),
])

TIDY = Row("Are logs compacted and retained?", [
    Panel("Waiting for compaction", """Partitions that wait for a pass of compaction, and partitions
        whose last pass failed and that are left alone for a while.""",
          "short", queries=[
              Query("sum(tidegate_broker_cleaner_due_partitions{@})", "due", IN),
              Query("sum(tidegate_broker_cleaner_uncleanable_partitions{@})", "failed", BAD)]),
    Panel("Compaction", """Bytes that passes of compaction looked at and kept, and bytes that could be
        compacted now.""",
          "bytes", queries=[
              Query("sum(increase(tidegate_broker_cleaner_read_bytes_total{@}[$__rate_interval]))",
                    "read", IN),
              Query("sum(increase(tidegate_broker_cleaner_kept_bytes_total{@}[$__rate_interval]))",
                    "kept", OUT),
              Query("sum(tidegate_broker_cleaner_dirty_bytes{@})", "could be compacted", ATTENTION)]),
    Panel("Retention", """Log starts that retention moved. The panel Deletion paused on Runtime says
        whether a clock jump holds it up.""",
          "ops", queries=[
              Query("sum(rate(tidegate_broker_retention_moves_total{@}[$__rate_interval]))",
                    "log starts moved", IN)]),
])

DASHBOARD = Dashboard(
    "tidegate-tiering", "Tidegate / Cache and tiering",
    "The write-ahead log, the way of data into the bucket, and the way back through the cache.",
    [WAL, INTO, BACK, TIDY], job_of="tidegate_wal_files")
