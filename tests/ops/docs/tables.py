"""The parts of pages that are made from sources: each stands between `<!-- made: NAME -->` and
`<!-- /made -->`. `run --write` writes them, and a run fails where a page says something else."""
import re

from pages import BOOK, ROOT, Wrong

# Amazon S3 Standard in us-east-1, list prices of 2026-11; storage is per GB of 10^9 bytes.
WRITE_REQUESTS_1000 = 0.005
READ_REQUESTS_1000 = 0.0004
STORAGE_GB_MONTH = 0.023
GB_PER_GIB = 2**30 / 1e9
# The example: so much is produced, kept and read back.
MIB_PER_SECOND = 10
KEPT_DAYS = 7
DAYS_PER_MONTH = 30


def literals(source):
    """The strings of a piece of Rust."""
    source = re.sub(r"\\\n\s*", "", source)
    return [text.replace('\\"', '"') for text in re.findall(r'"((?:[^"\\]|\\.)*)"', source)]


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def differences():
    """What tests/diff/announced.rs says of Tidegate beside Apache Kafka."""
    source = (ROOT / "tests/diff/announced.rs").read_text()
    source = source[source.index("pub const ANNOUNCED") :]
    source = source[: source.index("\n];")]
    places = {}
    for call in source.split("differs(")[1:]:
        strings = literals(call)
        if len(strings) != 4:
            raise Wrong(f"tests/diff/announced.rs: four strings make a difference, not {strings}")
        place, reason = strings[0], re.sub(r" \(DESIGN D\d+\)", "", strings[3])
        reason = re.sub(r", as above$", "", reason)
        places.setdefault(reason, []).append(place.strip(": ") or "any answer")
    lines = []
    for reason, found in places.items():
        named = ", ".join(dict.fromkeys(f"*{place}*" for place in found))
        lines.append(f"- {named}: {reason}")
    return "\n".join(wrapped(line) for line in lines)


def wrapped(line):
    indent = "  " if line.startswith("- ") else ""
    out, now = [], ""
    for word in line.split():
        if now and len(now) + len(word) + 1 > 98:
            out.append(now)
            now = f"{indent}{word}"
        else:
            now = f"{now} {word}" if now else word
    return "\n".join([*out, now])


def economy():
    """Rows of the table of benches/README.md: partitions, and PUTs per GiB written."""
    text = (ROOT / "benches/README.md").read_text()
    rows = re.findall(
        r"^\| ([\d,]+) partitions \| [^|]+ \| ([\d.]+) \| \d+ \| \d+ \| [\d.]+ \|$", text, re.M
    )
    if not rows:
        raise Wrong("benches/README.md has no table of what tiered storage costs")
    return [(f"measured, {name} partitions", float(put)) for name, put in rows]


def allowed():
    """The most PUTs per GiB, and the least MiB per GET, that tests/broker/tier_economy.rs lets
    pass."""
    source = (ROOT / "tests/broker/tier_economy.rs").read_text()
    put = re.search(r"^const WRITES_PER_GIB: u64 = (\d+);$", source, re.M)
    get = re.search(r"^const BYTES_PER_GET: u64 = (\d+) \* MIB;$", source, re.M)
    if not (put and get):
        raise Wrong("tests/broker/tier_economy.rs has other bounds than it had")
    return int(put[1]), int(get[1])


def cost():
    """What a month costs at a bucket with those prices."""
    gib_per_month = MIB_PER_SECOND * 86_400 * DAYS_PER_MONTH / 1024
    gib_kept = MIB_PER_SECOND * 86_400 * KEPT_DAYS / 1024
    storage = gib_kept * GB_PER_GIB * STORAGE_GB_MONTH
    most, mib_per_get = allowed()
    rows = []
    for name, put in [*economy(), ("the most that the tests let pass", most)]:
        write = gib_per_month * put / 1000 * WRITE_REQUESTS_1000
        rows.append([
            name, f"{put:g}", f"{gib_per_month * put:,.0f}", f"${write:,.2f}", f"${storage:,.2f}",
            f"${write + storage:,.2f}",
        ])  # fmt: skip
    head = ["", "PUT-class per GiB", "of them a month", "they cost", "storage", "together"]
    gets = gib_per_month * 1024 / mib_per_get
    text = (
        f"{MIB_PER_SECOND} MiB/s are {gib_per_month:,.0f} GiB a month of {DAYS_PER_MONTH} days; "
        f"with {KEPT_DAYS} days of retention {gib_kept:,.0f} GiB are kept:\n\n"
        f"{table(head, rows)}\n\n"
        f"Reading all of it once from the bucket, with the {mib_per_get} MiB a request that the "
        f"tests hold large partitions to, is {gets:,.0f} GET-class requests: "
        f"${gets / 1000 * READ_REQUESTS_1000:,.2f}."
    )
    return "\n".join(line if line.startswith("|") else wrapped(line) for line in text.split("\n"))


def reliability():
    """How much of what is tried."""
    kills = (ROOT / "tests/broker/tier_kill.rs").read_text()
    lots = kills[kills.index("const LOTS") :]
    lots = lots[: lots.index("\n];")]
    gotchas = (ROOT / "tests/gotchas.md").read_text()
    tested = {row.split("|")[1] for row in re.findall(r"^\| \d+ \|.*$", gotchas, re.M)}
    fuzz = re.findall(r"^\| `\w+` \|", (ROOT / "tests/fuzz/README.md").read_text(), re.M)
    rules = (ROOT / "grafana/alerts/alerting.yaml").read_text()
    alerts = set(re.findall(r"^ +- alert: (\w+)$", rules, re.M))
    readme = (ROOT / "README.md").read_text()
    matrix = readme[readme.index("<!-- table:clients -->") :]
    clients = len(matrix.split("\n")[1].strip("|").split("|")) - 1
    scenarios = len(re.findall(r"^\|", matrix[: matrix.index("\nWhat a client lacks")], re.M)) - 2
    rows = [
        ["steps of bringing logs into the bucket, merging, compacting, deleting and sweeping, "
         "before or after which the broker is killed (`kill -9`)", len(literals(lots)),
         "`tests/broker/tier_kill.rs`"],
        ["scenarios for each of the clients, judged by a reader of our own",
         f"{scenarios} × {clients}", "`tests/compat/matrix`"],
        ["traps of the Kafka protocol, with a test for each part that applies", len(tested),
         "`tests/gotchas.md`"],
        ["fuzz targets for what reads bytes that may be anything", len(fuzz), "`tests/fuzz`"],
        ["alerts, each with a case in which it fires and one in which it does not", len(alerts),
         "`grafana/alerts/tests`"],
    ]  # fmt: skip
    return table(["what", "how many", "where"], rows)


MADE = {
    "compatibility.md": ["differences"],
    "reliability.md": ["reliability"],
    "tiering.md": ["cost"],
}


def pages():
    for name, makers in MADE.items():
        path = BOOK / name
        text = path.read_text()
        for maker in makers:
            begin, end = f"<!-- made: {maker} -->\n", "\n<!-- /made -->"
            before, found, rest = text.partition(begin)
            if not found or end not in rest:
                raise Wrong(f"docs/{name} has no place for {maker}")
            was, after = rest.split(end, 1)
            yield path, maker, was, f"{before}{begin}", f"{end}{after}", globals()[maker]()


def check():
    return [
        f"docs/{path.name}: {maker} is out of date: run tests/ops/docs/run --write"
        for path, maker, was, _, _, now in pages()
        if was != now
    ]


def write():
    for path, _, was, before, after, now in pages():
        if was != now:
            path.write_text(before + now + after)
            print(f"docs/{path.name}: written")
