"""Consumers and lag: who is behind by how much, and whether groups are stable."""

from .model import ATTENTION, BAD, GOOD, IN, OUT, Dashboard, Link, Panel, Query, Row, Variable, of

CHOICE = [
    Variable("group", "Group", "consumer groups that have series of their own",
             "label_values(tidegate_consumer_group_members{@}, group)"),
    Variable("topic", "Topic", "topics that these groups read",
             'label_values(tidegate_consumer_group_lag_records{@,group=~"$group"}, topic)'),
]
GROUP = '{@,group=~"$group"}'
BOTH = '{@,group=~"$group",topic=~"$topic"}'
GROUP_APIS = "JoinGroup|SyncGroup|Heartbeat|OffsetCommit|OffsetFetch|FindCoordinator"
DURATIONS = f"""rate(tidegate_server_request_duration_seconds_bucket
    {{@,api=~"{GROUP_APIS}"}}[$__rate_interval])"""

BEHIND = Row("Who is behind?", [
    Panel("Worst lag, time", """The time by which the slowest group is behind: now less the timestamp of
        the first record that it has not read, from the log itself.""",
          "s", kind="stat", width=6, height=4, steps=((300, ATTENTION), (1800, BAD)),
          queries=[Query(f"max(tidegate_consumer_group_lag_seconds{BOTH})", "behind")]),
    Panel("Lag, records", "Records that the chosen groups have not read, all together.",
          "short", kind="stat", width=6, height=4,
          queries=[Query(f"sum(tidegate_consumer_group_lag_records{BOTH})", "records")]),
    Panel("Groups without members", """Groups that have committed offsets and nobody who reads: their
        lag grows for good.""",
          "short", kind="stat", width=6, height=4, steps=((1, ATTENTION),), queries=[
              Query(f"count(tidegate_consumer_group_members{GROUP} == 0) or vector(0)", "groups")]),
    Panel("Groups and topics left out", """Groups and pairs of group and topic that have no series of
        their own, because there are more than metrics.groups.max.""",
          "short", kind="stat", width=6, height=4, steps=((1, ATTENTION),), queries=[
              Query('sum(tidegate_metrics_omitted{@,what=~"groups|group_topics"})', "left out")]),
    Panel("Groups, by lag", """Every group and topic. Behind in time and not in records: one old record
        is left. A click on a group shows it alone.""",
          "short", kind="table", width=24, height=8,
          link=Link("group", "tidegate-consumers", "group"), queries=[
              Query(f"sum by (group, topic) (tidegate_consumer_group_lag_records{BOTH})",
                    "Behind, records"),
              Query(f"max by (group, topic) (tidegate_consumer_group_lag_seconds{BOTH})",
                    "Behind, time", unit="s"),
              Query(f"""sum by (group, topic) (tidegate_consumer_group_lag_records{BOTH}
                  * 0 + on (namespace, job, instance, group) group_left
                  tidegate_consumer_group_members{GROUP})""", "Members"),
              Query(f"""sum by (group, topic) (deriv(tidegate_consumer_group_lag_records{BOTH}
                  [10m]))""", "Growth, records a second")]),
    Panel("Lag in time", "By how much each group is behind, the ten worst pairs of group and topic.",
          "s", width=12, steps=((300, ATTENTION), (1800, BAD)), queries=[
              Query(f"topk(10, max by (group, topic) (tidegate_consumer_group_lag_seconds{BOTH}))",
                    "{{group}}: {{topic}}")]),
    Panel("Lag in records", """Records that each group has not read, the ten worst pairs of group and
        topic. A saw tooth is a reader in batches; a line that only rises is one that is too slow.""",
          "short", width=12, queries=[
              Query(f"topk(10, sum by (group, topic) (tidegate_consumer_group_lag_records{BOTH}))",
                    "{{group}}: {{topic}}")]),
])

PACE = Row("Do readers keep up with writers?", [
    Panel("Written against sent", """Bytes written to the topics of the chosen groups, and bytes of them
        sent to readers. With two groups, sent is twice what is written when both keep up.""",
          "Bps", queries=[
              Query("""sum(rate(tidegate_topic_received_bytes_total{@,topic=~"$topic"}
                  [$__rate_interval]))""", "written", OUT),
              Query("""sum(rate(tidegate_topic_sent_bytes_total{@,topic=~"$topic"}
                  [$__rate_interval]))""", "sent", IN)]),
    Panel("Commits", "Offsets that all groups commit, one for each partition of a commit.",
          "ops", queries=[
              Query("sum(rate(tidegate_group_offset_commits_total{@}[$__rate_interval]))",
                    "offsets", IN)]),
    Panel("Fetches that wait", """Fetch requests that wait for records: readers that have read
        everything, which is what should be.""",
          "short", queries=[Query("sum(tidegate_partition_fetch_waiters{@})", "waiting", GOOD)]),
])

STABLE = Row("Are groups stable?", [
    Panel("Members", "Members of each group, the ten largest.",
          "short", queries=[
              Query(f"topk(10, sum by (group) (tidegate_consumer_group_members{GROUP}))",
                    "{{group}}")]),
    Panel("Rebalances, by group", """Rebalances that began, the ten most restless groups. Nobody of a
        group reads while it rebalances.""",
          "short", queries=[
              Query(f"""topk(10, sum by (group) (increase(tidegate_consumer_group_rebalances_total
                  {GROUP}[$__rate_interval])))""", "{{group}}")]),
    Panel("Rebalances, by cause", """Why groups rebalanced. session_expired: a member did not answer for
        session.timeout.ms, often because it was busy for longer than max.poll.interval.ms or was
        killed.""",
          "short", queries=[
              Query("""sum by (reason) (increase(tidegate_group_rebalances_total{@}
                  [$__rate_interval]))""", "{{reason}}")]),
    Panel("Groups, by state", """Stable is reading, Empty has no members, the other two rebalance.""",
          "short", stack=True, queries=[
              Query("sum by (state) (tidegate_group_groups{@})", "{{state}}")]),
    Panel("State of each group", "The state that each of the chosen groups is in now.",
          "short", kind="table", queries=[
              Query(f"sum by (group, state) (tidegate_consumer_group_state{GROUP})", "Groups")]),
    Panel("Errors of group requests", """Error codes in answers to what groups ask. REBALANCE_IN_PROGRESS
        and MEMBER_ID_REQUIRED are ordinary; UNKNOWN_MEMBER_ID and ILLEGAL_GENERATION follow a member
        that came too late.""",
          "ops", queries=[
              Query(f"""sum by (code) (rate(tidegate_server_errors_total
                  {{@,api=~"{GROUP_APIS}"}}[$__rate_interval]))""", "{{code}}")]),
])

COORDINATOR = Row("Is the coordinator well?", [
    Panel("Time of group requests, 99%", """One in a hundred took longer. JoinGroup and SyncGroup wait for
        the other members, up to the rebalance timeout.""",
          "s", queries=[
              Query(f"histogram_quantile(0.99, sum by (api, le) {of('broker', DURATIONS)}) >= 0",
                    "{{api}}")]),
    Panel("Refusals", """Requests that were refused because their group had too many waiting or because
        groups hold all the memory they may have, and loads of the offsets' partitions that
        failed.""",
          "ops", queries=[
              Query("sum(rate(tidegate_group_requests_refused_total{@}[$__rate_interval]))",
                    "group is full", ATTENTION),
              Query("sum(rate(tidegate_group_memory_refusals_total{@}[$__rate_interval]))",
                    "memory is full", BAD),
              Query("sum(rate(tidegate_group_load_failures_total{@}[$__rate_interval]))",
                    "loads failed", "yellow")]),
    Panel("Offsets expired", """Committed offsets removed because of their age
        (offsets.retention.minutes) or because their topic is gone. A group that comes back after
        that begins where auto.offset.reset says.""",
          "ops", queries=[
              Query("sum(rate(tidegate_group_offsets_expired_total{@}[$__rate_interval]))",
                    "offsets", ATTENTION)]),
])

DASHBOARD = Dashboard(
    "tidegate-consumers", "Tidegate / Consumers and lag",
    "Which group is behind by how much, in records and in time, and whether groups are stable.",
    [BEHIND, PACE, STABLE, COORDINATOR], CHOICE, job_of="tidegate_group_members")
