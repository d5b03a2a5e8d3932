"""Proxy: what stands between clients and an upstream Kafka cluster."""

from .model import ATTENTION, BAD, GOOD, IN, OUT, Dashboard, Panel, Query, Row, Variable, of

CLUSTER = [Variable("cluster", "Virtual cluster", "a virtual cluster of the proxy",
                    'label_values(tidegate_proxy_nodes{@}, cluster)')]
OF = '{@,cluster=~"$cluster"}'


def rate(metric, by="cluster", more=""):
    """The rate of a counter of the proxy, summed by a label."""
    selector = OF.replace("}", f",{more}}}") if more else OF
    return f"sum by ({by}) (rate({metric}{selector}[$__rate_interval]))"


def front_door(metric, by, more=""):
    """The rate of a counter that every process has at its front door, of proxies only."""
    expr = f"rate({metric}{{@{more}}}[$__rate_interval])"
    return f"sum by ({by}) {of('proxy', expr)}"


PRODUCE = front_door("tidegate_server_request_duration_seconds_bucket", "le", ',api="Produce"')

UP = Row("Is the upstream there?", [
    Panel("Upstream nodes known", """Nodes of the upstream cluster of which the proxy knows the
        address. 0: no bootstrap server has answered yet.""",
          "short", kind="stat", width=6, height=5, base=BAD, steps=((1, GOOD),),
          queries=[Query(f"sum by (cluster) (tidegate_proxy_nodes{OF})", "{{cluster}}")]),
    Panel("Failed connects", """The share of attempts to connect to an upstream node that failed.""",
          "percentunit", kind="stat", width=6, height=5, decimals=1,
          steps=((0.01, ATTENTION), (0.5, BAD)), queries=[
              Query(f"""{rate("tidegate_proxy_upstream_errors_total", more='kind="connect"')}
                  / (({rate("tidegate_proxy_upstream_errors_total", more='kind="connect"')}
                  + {rate("tidegate_proxy_upstream_connects_total")}) > 0)
                  or 0 * sum by (cluster) (tidegate_proxy_nodes{OF})""", "{{cluster}}")]),
    Panel("Upstream errors", """Upstreams that could not be connected to (connect), ended a connection
        with responses owed (ended), or sent what is no response (malformed).""",
          "ops", width=6, height=5, queries=[
              Query(rate("tidegate_proxy_upstream_errors_total", "kind"), "{{kind}}")]),
    Panel("Topology changes", """Times that an upstream node was new or was found at another address:
        a rolling restart shows here.""",
          "ops", width=6, height=5,
          queries=[Query(rate("tidegate_proxy_topology_changes_total"), "{{cluster}}", IN)]),
])

THROUGH = Row("What goes through?", [
    Panel("Requests", "Requests sent on to upstreams, by virtual cluster.",
          "reqps", queries=[Query(rate("tidegate_proxy_requests_total"), "{{cluster}}")]),
    Panel("Bytes", "Bytes of requests and responses that went through.",
          "Bps", queries=[
              Query(rate("tidegate_proxy_bytes_total", "frame"), "{{frame}}")]),
    Panel("Requests by API", "What clients ask for, the ten most frequent APIs.",
          "reqps", queries=[
              Query(f'topk(10, {front_door("tidegate_server_requests_total", "api")} > 0)',
                    "{{api}}")]),
    Panel("Connections", """Connections of clients, the connections to upstreams that belong to them,
        and those that are held until it is known where their node is.""",
          "short", queries=[
              Query(f"sum(tidegate_proxy_client_connections{OF})", "clients", IN),
              Query(f"sum(tidegate_proxy_upstream_connections{OF})", "upstreams", OUT),
              Query(f"sum(tidegate_proxy_held_connections{OF})", "held", ATTENTION)]),
    Panel("New connections", """Connections made to upstreams, and connections of clients accepted.
        Many a second for long: clients that connect for each request.""",
          "ops", queries=[
              Query(rate("tidegate_proxy_upstream_connects_total"), "to upstreams of {{cluster}}"),
              Query(front_door("tidegate_server_connections_accepted_total", "role"),
                    "of clients", IN)]),
    Panel("Rewrites", """Places changed in responses, addresses above all: clients must be led back to
        the proxy, never past it.""",
          "ops", queries=[Query(rate("tidegate_proxy_rewrites_total"), "{{cluster}}")]),
])

COST = Row("What does the proxy add, and who is slow?", [
    Panel("Time added", """How long a request and what came first of its response were held in the
        proxy: half of them no longer than the median, one in a hundred longer than 99%.""",
          "s", steps=((0.01, ATTENTION),), queries=[
              Query(f"""histogram_quantile(0.5, sum by (le)
                  (rate(tidegate_proxy_added_seconds_bucket{OF}[$__rate_interval])))""",
                    "median", IN),
              Query(f"""histogram_quantile(0.99, sum by (le)
                  (rate(tidegate_proxy_added_seconds_bucket{OF}[$__rate_interval])))""",
                    "99%", OUT)]),
    Panel("Saturation: clients that do not read", """Upstreams that were not read because clients did
        not take what came, in seconds of waiting per second: 1 is one connection that waits all the
        time.""",
          "short", queries=[
              Query(rate("tidegate_proxy_upstream_paused_seconds_total"), "{{cluster}}", ATTENTION)]),
    Panel("Saturation: clients that are not read", """Connections of clients that were not read, by what
        they waited for, in seconds of waiting per second. small_pool and receive_pool are memory.""",
          "short", queries=[
              Query(front_door("tidegate_server_read_pause_seconds_sum", "cause"),
                    "{{cause}}")]),
    Panel("Latency as clients see it, Produce", """Time from the last byte of a Produce to the last
        byte of its response, the upstream's own time included.""",
          "s", queries=[
              Query(f"histogram_quantile(0.5, {PRODUCE})", "median", IN),
              Query(f"histogram_quantile(0.99, {PRODUCE})", "99%", OUT)]),
    Panel("Requests in flight", "Requests received whose response is not yet written.",
          "short", queries=[
              Query(f"sum by (instance) {of('proxy', 'tidegate_server_requests_in_flight{@}')}",
                    "{{instance}}")]),
    Panel("Connections ended, by cause", """Why connections of clients ended. peer_closed is the normal
        one; slow_reader, malformed, plaintext and tls_handshake point to clients that are set up
        wrong.""",
          "ops", queries=[
              Query(f'{front_door("tidegate_server_connections_closed_total", "cause")} > 0',
                    "{{cause}}")]),
])

DASHBOARD = Dashboard(
    "tidegate-proxy", "Tidegate / Proxy",
    "What goes through Tidegate as a proxy, what it adds, and whether the upstream is there.",
    [UP, THROUGH, COST], CLUSTER, job_of="tidegate_proxy_nodes")
