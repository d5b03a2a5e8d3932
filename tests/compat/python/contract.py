"""What every Python driver shares: commands in, answers out, records as JSON.

The contract is described in tests/compat/matrix/driver.rs.
"""

import json
import sys
import threading
import traceback
import zlib

_out = threading.Lock()


def answer(line):
    """Prints one answer."""
    text = json.dumps(line)
    with _out:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def text(data):
    """A key or value as answers have it."""
    if data is None or len(data) <= 256:
        return None if data is None else data.decode()
    return f"crc32:{zlib.crc32(data):08x}:{len(data)}"


def encoded(value):
    """A text of a command as bytes."""
    return None if value is None else value.encode()


def value_of(record):
    """The value of a record to send."""
    value = encoded(record.get("value"))
    return None if value is None else value * (record.get("repeat") or 1)


def headers_of(record):
    """The headers of a record to send, as pairs."""
    return [(name, encoded(value)) for name, value in record.get("headers") or []]


def read_record(topic, partition, offset, timestamp, key, value, headers):
    """A record that was read, as answers have it."""
    return {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "timestamp": timestamp,
        "key": text(key),
        "value": text(value),
        "headers": [[name, text(value)] for name, value in headers or []],
    }


def fault(error):
    """An error in words, with its name."""
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"


def do(driver, command):
    """Does one command of a driver whose methods are named like the commands."""
    line = {"id": command["id"]}
    try:
        line.update(getattr(driver, command["op"])(command) or {})
    except Exception as error:  # pylint: disable=broad-except
        line["error"] = fault(error)
    answer(line)


def serve(driver):
    """Does the commands of standard input, each on a thread of its own."""
    for line in sys.stdin:
        command = json.loads(line)
        threading.Thread(target=do, args=(driver, command), daemon=True).start()
