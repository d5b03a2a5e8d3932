#!/usr/bin/env python3
"""Writes src/protocol/guard/shapes.rs and the files below shapes/ from the message definitions
inside a kafka-clients jar.

    python3 tests/wire/generate_shapes.py JAR            write the files
    python3 tests/wire/generate_shapes.py --check JAR    exit 1 if the files are not what JAR gives

JAR is org.apache.kafka:kafka-clients:4.3.1:

    mvn -q dependency:copy -Dartifact=org.apache.kafka:kafka-clients:4.3.1 -DoutputDirectory=DIR

To guard another message, add its name to MESSAGES; a response is added in the same way, by the
name of its definition.  The decoded size of a structure is taken from the kafka-protocol crate's
type of the same name, so a structure that the crate does not know does not compile.  Needs only
the standard library and rustfmt.
"""

import argparse
import difflib
import json
import pathlib
import re
import subprocess
import sys
import zipfile

JAR_VERSION = "4.3.1"

# Every request that this broker advertises or decodes.
MESSAGES = [
    "ProduceRequest",
    "FetchRequest",
    "ListOffsetsRequest",
    "MetadataRequest",
    "OffsetCommitRequest",
    "OffsetFetchRequest",
    "FindCoordinatorRequest",
    "JoinGroupRequest",
    "HeartbeatRequest",
    "LeaveGroupRequest",
    "SyncGroupRequest",
    "DescribeGroupsRequest",
    "ListGroupsRequest",
    "ApiVersionsRequest",
    "CreateTopicsRequest",
    "DeleteTopicsRequest",
    "DeleteRecordsRequest",
    "InitProducerIdRequest",
    "OffsetForLeaderEpochRequest",
    "DescribeConfigsRequest",
    "AlterConfigsRequest",
    "DescribeLogDirsRequest",
    "CreatePartitionsRequest",
    "DeleteGroupsRequest",
    "ElectLeadersRequest",
    "IncrementalAlterConfigsRequest",
    "AlterPartitionReassignmentsRequest",
    "ListPartitionReassignmentsRequest",
    "OffsetDeleteRequest",
    "DescribeQuorumRequest",
    "UpdateFeaturesRequest",
    "DescribeClusterRequest",
    "ListConfigResourcesRequest",
    "DescribeTopicPartitionsRequest",
]

# Every response that says where a node is; the proxy rewrites them. Our own client decodes some.
NODES = [
    "ProduceResponse",
    "FetchResponse",
    "MetadataResponse",
    "FindCoordinatorResponse",
    "DescribeQuorumResponse",
    "DescribeClusterResponse",
    "ShareFetchResponse",
    "ShareAcknowledgeResponse",
]

# What the proxy rewrites.
RESPONSES = NODES + ["ApiVersionsResponse"]

# Responses that our own client decodes besides.
ANSWERS = [
    "ListOffsetsResponse",
    "OffsetCommitResponse",
    "OffsetFetchResponse",
    "JoinGroupResponse",
    "HeartbeatResponse",
    "LeaveGroupResponse",
    "SyncGroupResponse",
    "DescribeGroupsResponse",
    "ListGroupsResponse",
    "InitProducerIdResponse",
    "CreateTopicsResponse",
    "DeleteTopicsResponse",
    "DeleteRecordsResponse",
    "DescribeConfigsResponse",
    "DescribeLogDirsResponse",
    "CreatePartitionsResponse",
    "DeleteGroupsResponse",
    "IncrementalAlterConfigsResponse",
    "OffsetDeleteResponse",
    "ConsumerGroupDescribeResponse",
]

# Responses with hosts that are no address of a node, and why.
OTHER_HOSTS = {
    "ConsumerGroupDescribeResponse": "where the members are",
    "DescribeAclsResponse": "the pattern of an ACL",
    "DescribeGroupsResponse": "where the members are",
    "DeleteAclsResponse": "the pattern of an ACL",
    "ShareGroupDescribeResponse": "where the members are",
    "StreamsGroupDescribeResponse": "where the members are",
    "StreamsGroupHeartbeatResponse": "where the members are",
    "BeginQuorumEpochResponse": "among controllers only",
    "EndQuorumEpochResponse": "among controllers only",
    "FetchSnapshotResponse": "among controllers only",
    "UpdateRaftVoterResponse": "among controllers only",
    "VoteResponse": "among controllers only",
}

# Which file below shapes/ has a message's structures.
FILES = {
    "records": [
        "ProduceRequest",
        "FetchRequest",
        "ListOffsetsRequest",
        "MetadataRequest",
        "ApiVersionsRequest",
        "InitProducerIdRequest",
        "OffsetForLeaderEpochRequest",
    ],
    "groups": [
        "OffsetCommitRequest",
        "OffsetFetchRequest",
        "FindCoordinatorRequest",
        "JoinGroupRequest",
        "HeartbeatRequest",
        "LeaveGroupRequest",
        "SyncGroupRequest",
        "DescribeGroupsRequest",
        "ListGroupsRequest",
        "DeleteGroupsRequest",
        "OffsetDeleteRequest",
    ],
    "nodes": NODES,
    "answers": ["ApiVersionsResponse"] + ANSWERS,
}
# Where all others are.
OTHERS = "admin"
SUBJECTS = {
    "records": "what producers and consumers send",
    "groups": "what members of groups send, and what is asked about groups",
    "admin": "what administers a cluster",
    "nodes": "what tells clients where nodes are",
    "answers": "what else our own client is answered",
}

TYPES = {
    "bool": "Bool",
    "int8": "Int8",
    "int16": "Int16",
    "uint16": "Uint16",
    "int32": "Int32",
    "uint32": "Uint32",
    "int64": "Int64",
    "float64": "Float64",
    "uuid": "Uuid",
    "string": "String",
    "bytes": "Bytes",
    "records": "Records",
}

OPEN = 32767
ROOT = pathlib.Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "src" / "protocol" / "guard" / "shapes.rs"

GENERATED = f"""\
// @generated by tests/wire/generate_shapes.py from kafka-clients {JAR_VERSION}; do not edit.
"""

HEAD = GENERATED + """\
//! The shapes of the requests and responses that are guarded, and the header facts of every Kafka
//! API.

"""

USES = """
use super::shape::{KafkaApi, Message, between, never, since};
"""

FILE_HEAD = GENERATED + """\
//! The structures of SUBJECT.

use kafka_protocol::messages as m;

use super::super::shape::Type::{TYPES_IN_USE};
use super::super::shape::{SHAPES_IN_USE};
"""


def load(text):
    """Parses a message definition: JSON with comments that start with two slashes."""
    kept = []
    for line in text.splitlines():
        out, quoted, i = [], False, 0
        while i < len(line):
            char = line[i]
            if quoted and char == "\\":
                out.append(line[i : i + 2])
                i += 2
                continue
            if char == '"':
                quoted = not quoted
            if not quoted and line.startswith("//", i):
                break
            out.append(char)
            i += 1
        kept.append("".join(out))
    return json.loads("\n".join(kept))


def versions(text):
    """None for "none", (3, 3) for "3", (3, 5) for "3-5", (3, OPEN) for "3+"."""
    text = (text or "none").strip()
    if text == "none":
        return None
    if text.endswith("+"):
        return int(text[:-1]), OPEN
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def rust_range(bounds):
    if bounds is None:
        return "never()"
    low, high = bounds
    return f"since({low})" if high == OPEN else f"between({low}, {high})"


def snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


class Writer:
    """Collects one static per structure, inner structures first."""

    def __init__(self, names):
        self.statics = []
        self.roots = []
        self.names = names
        self.commons = {}
        self.types = set()

    def structure(self, message, name, fields, commons, path, visible=""):
        """Emits the structure `name` and returns the name of its static."""
        lines = [self.field(message, field, commons) for field in fields]
        static = snake(name).upper()
        if static in self.names:
            static = f"{snake(message['name'])}_{snake(name)}".upper()
        if static in self.names:
            sys.exit(f"structure {name} of {message['name']} appears twice")
        self.names.add(static)
        body = "".join(f"    {line},\n" for line in lines)
        self.statics.append(
            f"{visible}static {static}: Struct = Struct::new(size_of::<m::{path}>(), &[\n{body}]);"
        )
        return static

    def field(self, message, field, commons):
        kind, array = field["type"], field["type"].startswith("[]")
        kind = kind.removeprefix("[]")
        if kind in TYPES:
            of = TYPES[kind]
            self.types.add(of)
        else:
            inner = field.get("fields") or commons[kind]["fields"]
            path = f"{snake(message['name'])}::{kind}"
            self.types.add("Struct as Of")
            # A common structure stands once, however many fields are one.
            static = self.commons.get(path) or self.structure(message, kind, inner, commons, path)
            if kind in commons:
                self.commons[path] = static
            of = f"Of(&{static})"
        valid = versions(field["versions"])
        tagged = versions(field.get("taggedVersions"))
        name = field["name"][0].upper() + field["name"][1:]
        maker = "array" if array else "one"
        text = f'Field::{maker}("{name}", {of}, {rust_range(valid)})'
        nullable = versions(field.get("nullableVersions"))
        if nullable:
            text += f".nullable({rust_range(nullable)})"
        if tagged:
            text += f".tagged({field['tag']}, {rust_range(tagged)})"
        # The header's client id is the one field of a request with an encoding of its own.
        if "flexibleVersions" in field:
            sys.exit(f"{message['name']}.{name} has its own flexible versions")
        return text


def flexible_since(definition):
    bounds = versions(definition.get("flexibleVersions"))
    if bounds and bounds[1] != OPEN:
        sys.exit(f"{definition['name']} stops being flexible")
    return rust_range(bounds)


def definitions(jar):
    """Every message definition of the jar, by name."""
    found = {}
    with zipfile.ZipFile(jar) as archive:
        for entry in archive.namelist():
            if entry.startswith("common/message/") and entry.endswith(".json"):
                definition = load(archive.read(entry).decode())
                found[definition["name"]] = definition
    return found


def file_of(name):
    """The file below shapes/ that has the message's structures."""
    return next((file for file, names in FILES.items() if name in names), OTHERS)


def has_host(fields):
    """Whether one of the fields, or of those below them, is a host."""
    return any(
        field["name"].lower() == "host" or has_host(field.get("fields", [])) for field in fields
    )


def check_hosts(found):
    """Ends when a response has a host and is not said to tell where a node is, or not to."""
    for name, message in found.items():
        if message["type"] != "response" or versions(message["validVersions"]) is None:
            continue
        commons = [field for common in message.get("commonStructs", []) for field in common["fields"]]
        named = has_host(message["fields"]) or has_host(commons)
        named = named or name in OTHER_HOSTS
        if named != (name in NODES or name in OTHER_HOSTS):
            sys.exit(f"{name} has a host: add it to NODES or to OTHER_HOSTS")


def guarded(found):
    """All structures by file, and one row per message: of requests, responses and answers."""
    check_hosts(found)
    names, requests, responses, answers = set(), [], [], []
    every = MESSAGES + RESPONSES + ANSWERS
    writers = {file: Writer(names) for file in sorted({file_of(name) for name in every})}
    for name in every:
        rows = requests if name in MESSAGES else responses if name in RESPONSES else answers
        message, writer = found[name], writers[file_of(name)]
        commons = {common["name"]: common for common in message.get("commonStructs", [])}
        fields = message["fields"]
        root = writer.structure(message, name, fields, commons, name, "pub(super) ")
        writer.roots.append(root)
        low, high = versions(message["validVersions"])
        api = name.removesuffix("Request").removesuffix("Response")
        rows.append(
            (
                message["apiKey"],
                f"    Message::new({message['apiKey']}, \"{api}\", "
                f"between({low}, {high}), {flexible_since(message)}, &{root}),\n",
            )
        )
    texts = [[text for _, text in sorted(rows)] for rows in (requests, responses, answers)]
    return writers, *texts


def api_rows(found):
    """One row per API key that Kafka still speaks."""
    rows = []
    for name, request in found.items():
        if request["type"] != "request":
            continue
        bounds = versions(request["validVersions"])
        if bounds is None:
            continue
        response = found[name.removesuffix("Request") + "Response"]
        flexible = flexible_since(request)
        if flexible_since(response) != flexible:
            sys.exit(f"{name} and its response become flexible at different versions")
        stable = bounds[1] - (1 if request.get("latestVersionUnstable") else 0)
        rows.append((request["apiKey"], name.removesuffix("Request"), bounds[0], stable, flexible))
    return [
        f'    KafkaApi::new({key}, "{name}", between({low}, {high}), {flexible}),\n'
        for key, name, low, high, flexible in sorted(rows)
    ]


def structures(file, writer):
    """A file below shapes/."""
    body = "\n\n".join(writer.statics)
    shapes = [name for name in ("Field", "Struct", "between", "never", "since") if name + "(" in body
              or name + "::" in body]
    head = FILE_HEAD.replace("SUBJECT", SUBJECTS[file])
    head = head.replace("TYPES_IN_USE", ", ".join(sorted(writer.types)))
    return head.replace("SHAPES_IN_USE", ", ".join(shapes)) + "\n" + body


def render(jar):
    """Every file, by path."""
    found = definitions(jar)
    writers, requests, responses, answers = guarded(found)
    parts = [HEAD + "".join(f"mod {file};\n" for file in writers)]
    parts += ["".join(f"use {file}::{{{', '.join(w.roots)}}};\n" for file, w in writers.items())]
    parts += [USES, "/// Every guarded request, by key.", "pub static MESSAGES: &[Message] = &["]
    parts += ["".join(requests) + "];", ""]
    parts += ["/// The responses that the proxy rewrites, by key: all that say where a node is."]
    parts += ["pub static RESPONSES: &[Message] = &[", "".join(responses) + "];", ""]
    parts += ["/// What our own client decodes besides, by key."]
    parts += ["pub static ANSWERS: &[Message] = &[", "".join(answers) + "];", ""]
    parts += ["/// Every API of Kafka, by key, with the versions that are stable there."]
    parts += ["#[rustfmt::skip]", "pub static KAFKA_APIS: &[KafkaApi] = &["]
    parts += ["".join(api_rows(found)) + "];", ""]
    files = {OUTPUT: formatted("\n".join(parts))}
    for file, writer in writers.items():
        files[OUTPUT.with_suffix("") / f"{file}.rs"] = formatted(structures(file, writer))
    return files


def formatted(source):
    """A source as rustfmt writes it."""
    result = subprocess.run(
        ["rustfmt", "--edition", "2024", "--config-path", str(ROOT / ".rustfmt.toml")],
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        sys.exit(result.stderr)
    return result.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("jar", type=pathlib.Path, help=f"kafka-clients-{JAR_VERSION}.jar")
    options = parser.parse_args()
    if JAR_VERSION not in options.jar.name:
        sys.exit(f"{options.jar.name} is not kafka-clients {JAR_VERSION}")
    files = render(options.jar)
    if not options.check:
        OUTPUT.with_suffix("").mkdir(exist_ok=True)
        for path, text in files.items():
            path.write_text(text)
        return
    differs = False
    for path, text in files.items():
        present = path.read_text() if path.exists() else ""
        names = (f"checked in: {path.name}", f"generated: {path.name}")
        lines = difflib.unified_diff(present.splitlines(), text.splitlines(), *names, lineterm="")
        if present != text:
            differs = True
            print("\n".join(lines))
    sys.exit(differs)


if __name__ == "__main__":
    main()
