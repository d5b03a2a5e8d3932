"""What a dashboard is made of, and how it becomes Grafana's JSON.

An expression says `{@}` where the variables of the process belong and `{@,topic=~"$topic"}` where
more labels follow: no panel can forget a variable. Everything else is plain PromQL.
"""

import json
import re
from dataclasses import dataclass, field

SCHEMA_VERSION = 39
COLUMNS = 24
TAG = "tidegate"
DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
PROCESS = 'namespace=~"$namespace",job=~"$job",instance=~"$instance"'

# Colours mean the same on every dashboard.
GOOD, ATTENTION, BAD = "green", "orange", "red"
IN, OUT = "blue", "purple"
NEUTRAL = "text"


def expression(text):
    """PromQL with the variables of the process filled in, on one line."""
    return re.sub(r"\{@", "{" + PROCESS, " ".join(text.split()))


def of(role, expr):
    """What an expression by process gives of brokers, or of proxies: both have a front door."""
    return f"""({expr} * on (namespace, job, instance) group_left (role)
        tidegate_build_info{{@,role="{role}"}})"""


def by_role(expr):
    """An expression by process with the role as a further label."""
    return f"""({expr} * on (namespace, job, instance) group_left (role)
        tidegate_build_info{{@}})"""


@dataclass
class Query:
    """One PromQL query. In a table, `legend` heads the column and `unit` is that of the column."""

    expr: str
    legend: str
    color: str | None = None
    unit: str | None = None


@dataclass
class Link:
    """Where a click on a row of a table goes: another dashboard, with the row's label set there."""

    label: str
    to: str
    variable: str


@dataclass
class Panel:
    """A panel. `steps` are thresholds: (from this value on, this colour)."""

    title: str
    description: str
    unit: str
    queries: list
    kind: str = "timeseries"
    width: int = 8
    height: int = 7
    steps: tuple = ()
    base: str | None = None
    stack: bool = False
    least: float | None = 0
    most: float | None = None
    decimals: int | None = None
    names: dict = field(default_factory=dict)
    link: Link | None = None
    label: str | None = None


@dataclass
class Row:
    """A row: a question that its panels answer."""

    title: str
    panels: list


@dataclass
class Variable:
    """A variable of a dashboard beyond those of the process."""

    name: str
    label: str
    description: str
    values: str | None = None
    text: str | None = None


@dataclass
class Dashboard:
    """A dashboard. `job_of` is a metric that every job to choose from has."""

    uid: str
    title: str
    description: str
    rows: list
    variables: list = field(default_factory=list)
    job_of: str = "tidegate_build_info"


def as_json(dashboard):
    """The text of the file that Grafana reads."""
    return json.dumps(_dashboard(dashboard), indent=2, ensure_ascii=False) + "\n"


def _dashboard(it):
    return {
        "annotations": {"list": _annotations()},
        "description": it.description,
        "editable": False,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "id": None,
        "links": [_dashboard_links()],
        "panels": _panels(it.rows),
        "refresh": "30s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": [TAG],
        "templating": {"list": _variables(it)},
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": it.title,
        "uid": it.uid,
        "version": 1,
        "weekStart": "",
    }


def _dashboard_links():
    return {
        "asDropdown": False,
        "icon": "dashboard",
        "includeVars": True,
        "keepTime": True,
        "tags": [TAG],
        "targetBlank": False,
        "title": "Tidegate",
        "tooltip": "The other dashboards of Tidegate, with the same time and variables",
        "type": "dashboards",
        "url": "",
    }


def _annotations():
    started = expression("process_start_time_seconds{@} * 1000")
    alerts = expression('ALERTS{@,alertname=~"Tidegate.*",alertstate="firing"}')
    return [
        {
            "datasource": DATA_SOURCE,
            "enable": True,
            "expr": started,
            "iconColor": "blue",
            "name": "Starts",
            "textFormat": "a process started",
            "titleFormat": "{{instance}}",
            "useValueForTime": "on",
        },
        {
            "datasource": DATA_SOURCE,
            "enable": True,
            "expr": alerts,
            "iconColor": BAD,
            "name": "Alerts",
            "textFormat": "{{instance}}",
            "titleFormat": "{{alertname}}",
        },
    ]


# --- variables ------------------------------------------------------------------------------------


def _variables(it):
    process = [
        Variable("namespace", "Namespace", "Kubernetes namespace; empty elsewhere",
                 f"label_values({it.job_of}, namespace)"),
        Variable("job", "Job", "Prometheus job", f'label_values({it.job_of}{{namespace=~"$namespace"}}, job)'),
        Variable("instance", "Instance", "one process",
                 f'label_values({it.job_of}{{namespace=~"$namespace",job=~"$job"}}, instance)'),
    ]
    source = {
        "current": {},
        "hide": 0,
        "includeAll": False,
        "label": "Data source",
        "multi": False,
        "name": "datasource",
        "options": [],
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "type": "datasource",
    }
    return [source] + [_variable(variable) for variable in process + it.variables]


def _variable(it):
    common = {"description": it.description, "hide": 0, "label": it.label, "name": it.name}
    if it.text is not None:
        current = {"selected": True, "text": it.text, "value": it.text}
        return common | {"current": current, "options": [current], "query": it.text, "type": "textbox"}
    return common | {
        # Outside of Kubernetes there is no namespace, and all of it includes none.
        "allValue": ".*" if it.name == "namespace" else ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": DATA_SOURCE,
        "definition": expression(it.values),
        "includeAll": True,
        "multi": True,
        "options": [],
        "query": {"query": expression(it.values), "refId": "StandardVariableQuery"},
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "type": "query",
    }


# --- panels ---------------------------------------------------------------------------------------


def _panels(rows):
    panels, y = [], 0
    for row in rows:
        panels.append(_row(row, len(panels) + 1, y))
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            place = {"h": panel.height, "w": panel.width, "x": x, "y": y}
            panels.append(_panel(panel, len(panels) + 1, place))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    return panels


def _row(row, number, y):
    return {
        "collapsed": False,
        "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
        "id": number,
        "panels": [],
        "title": row.title,
        "type": "row",
    }


def _panel(it, number, place):
    made = {
        "datasource": DATA_SOURCE,
        "description": " ".join(it.description.split()),
        "fieldConfig": {"defaults": _defaults(it), "overrides": _overrides(it)},
        "gridPos": place,
        "id": number,
        "options": _options(it),
        "targets": [_target(it, query, at) for at, query in enumerate(it.queries)],
        "title": it.title,
        "type": it.kind,
    }
    if it.kind == "table":
        made["transformations"] = _transformations(it)
    return made


def _ref(at):
    return chr(ord("A") + at)


def _target(panel, query, at):
    is_instant = panel.kind != "timeseries"
    made = {
        "datasource": DATA_SOURCE,
        "editorMode": "code",
        "expr": expression(query.expr),
        "instant": is_instant,
        "legendFormat": query.legend,
        "range": not is_instant,
        "refId": _ref(at),
    }
    if panel.kind == "table":
        made["format"] = "table"
    return made


def _thresholds(it):
    base = it.base or (GOOD if it.steps else NEUTRAL)
    steps = [{"color": base, "value": None}]
    steps += [{"color": color, "value": value} for value, color in it.steps]
    return {"mode": "absolute", "steps": steps}


def _defaults(it):
    made = {"unit": it.unit, "thresholds": _thresholds(it), "mappings": _mappings(it)}
    if it.least is not None and it.kind == "timeseries":
        made["min"] = it.least
    if it.most is not None:
        made["max"] = it.most
    if it.decimals is not None:
        made["decimals"] = it.decimals
    if it.kind != "timeseries":
        return made | {"color": {"mode": "thresholds"}}
    custom = {
        "drawStyle": "line",
        "fillOpacity": 25 if it.stack else 8,
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if it.stack else "none"},
        "thresholdsStyle": {"mode": "dashed" if it.steps else "off"},
    }
    if it.label:
        custom["axisLabel"] = it.label
    return made | {"color": {"mode": "palette-classic"}, "custom": custom}


def _mappings(it):
    """What to say in place of a number, as `{0: ("no", GOOD)}`."""
    options = {
        str(value): {"color": color, "index": at, "text": text}
        for at, (value, (text, color)) in enumerate(it.names.items())
    }
    return [{"options": options, "type": "value"}] if options else []


def _overrides(it):
    if it.kind == "table":
        return _columns(it)
    return [
        {
            "matcher": {"id": "byFrameRefID", "options": _ref(at)},
            "properties": [{"id": "color", "value": {"fixedColor": query.color, "mode": "fixed"}}],
        }
        for at, query in enumerate(it.queries)
        if query.color
    ]


def _columns(it):
    """The unit of each column, and the link of the column that has one."""
    made = [
        {
            "matcher": {"id": "byName", "options": query.legend},
            "properties": [{"id": "unit", "value": query.unit or it.unit}],
        }
        for query in it.queries
    ]
    if it.link:
        target = {
            "title": f"Show this {it.link.label}",
            "url": f"/d/{it.link.to}?var-{it.link.variable}=${{__value.raw}}"
                   "&${datasource:queryparam}&${__url_time_range}",
        }
        made.append({
            "matcher": {"id": "byName", "options": it.link.label},
            "properties": [{"id": "links", "value": [target]}],
        })
    return made


def _options(it):
    if it.kind == "timeseries":
        return {
            "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom",
                       "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if it.kind == "table":
        first = it.queries[0].legend
        return {"cellHeight": "sm", "showHeader": True, "sortBy": [{"desc": True, "displayName": first}]}
    return {
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto",
    }


def _transformations(it):
    """Joins the queries by their labels and names each one's column as its legend says."""
    several = len(it.queries) > 1
    renamed = {f"Value #{_ref(at)}" if several else "Value": query.legend
               for at, query in enumerate(it.queries)}
    return [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": renamed}},
    ]
