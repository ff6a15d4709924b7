"""The trail on standard output, in a real rsyslog over TLS, and at the OpenTelemetry Collector's receiver, each stopped and back."""

import json
import os
import re
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

from sinks import CLEAN, PROGRAM, Certificates, Load, Process, Proxy, folder, free_port, reachable, run, same, until

COLLECTOR = os.environ["AUDIT_COLLECTOR"]
KEY = "collector-key-0123456789"


def main(score):
    output(score)
    syslog(score)
    otlp(score)


class Reader(threading.Thread):
    """Reads lines from a pipe, and stops to do so when it is told."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.lines, self.go = path, [], threading.Event()
        self.go.set()
        self.start()

    def run(self):
        with open(self.path, encoding="utf-8") as pipe:
            for line in pipe:
                self.go.wait()
                self.lines.append(line.rstrip("\n"))


class Piped(Proxy):
    """A proxy whose standard output is a named pipe."""

    def start_with(self, pipe):
        self.process = Process(["sh", "-c", f'exec "$0" run -c "$1" >"{pipe}"', PROGRAM, str(self.config)])
        until("vestibule is ready", self.ready)


def output(score):
    """Lines on standard output; a slow reader holds up this sink, and nothing else."""
    pipe = folder() / "pipe"
    os.mkfifo(pipe)
    proxy = Piped([{"name": "console", "kind": "stdout"}])
    proxy.kill()
    (proxy.folder / "state/journal/cursors/console.json").unlink(missing_ok=True)
    reader = Reader(pipe)
    proxy.start_with(pipe)
    load = Load(proxy)
    time.sleep(2)
    reader.go.clear()
    time.sleep(3)
    behind = proxy.sink("console")["records_behind"]
    before = sum(load.answered)
    time.sleep(1)
    score.check("a reader that stops holds up this sink only", behind > 50 and sum(load.answered) > before, f"{behind} records behind")
    reader.go.set()
    load.stop()
    proxy.settled("console")
    proxy.stop()
    until("the pipe is read to its end", lambda: not reader.is_alive())
    same(score, "standard output has every line once, and nothing else", proxy.journal(), reader.lines)
    closed(score, proxy, pipe)


def closed(score, proxy, pipe):
    """Whoever read the pipe is gone: that is told, the proxy lives, and what was not taken comes later."""
    reader = Reader(pipe)
    proxy.start_with(pipe)
    holder = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # so that a new reader may come
    proxy.settled("console")
    proxy.kill()
    until("the first reader is done", lambda: not reader.is_alive())
    os.close(holder)
    process = subprocess.Popen(["sh", "-c", f'"{PROGRAM}" run -c "{proxy.config}" | head -n 1 >/dev/null; sleep 60'], env=CLEAN,
                               stderr=proxy.process.log, start_new_session=True)
    proxy.ended.append(proxy.process)
    try:
        until("it answers", lambda: reachable(proxy.port), 20)
        until("it is told", lambda: proxy.get("/json")[0] == 200 and proxy.sink("console").get("state") == "failing", 30, 0.2)
        error = proxy.sink("console")["last_error"]
        score.check("a closed pipe is told, and requests are served", "closed" in error and proxy.get("/json")[0] == 200, error)
    finally:
        os.killpg(process.pid, 9)
        process.wait()


class Rsyslog:
    """A syslog server of its own, over TLS, that writes each message as it came."""

    def __init__(self, certificates):
        self.home, self.port = folder(), free_port()
        self.out = self.home / "messages"
        (self.home / "conf").write_text(f"""
global(workDirectory="{self.home}" maxMessageSize="128k" defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{certificates.ca}"
       defaultNetstreamDriverCertFile="{certificates.certificate}" defaultNetstreamDriverKeyFile="{certificates.key}")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
template(name="parts" type="list") {{
  property(name="msgid") constant(value=" ") property(name="app-name") constant(value=" ") property(name="pri") constant(value=" ")
  property(name="timereported" dateFormat="rfc3339") constant(value=" ") property(name="structured-data") constant(value="|")
  property(name="msg") constant(value="\\n")
}}
ruleset(name="in") {{ action(type="omfile" file="{self.out}" template="parts" asyncWriting="off" flushOnTXEnd="on") }}
input(type="imtcp" port="{self.port}" address="127.0.0.1" ruleset="in")
""")
        self.start()

    def start(self):
        self.process = Process(["/usr/sbin/rsyslogd", "-n", "-f", str(self.home / "conf"), "-i", str(self.home / "pid")])
        until("rsyslog listens", lambda: reachable(self.port) or self.process.child.poll() is not None)
        if self.process.child.poll() is not None:
            raise RuntimeError(self.process.tail())

    def stop(self):
        self.process.child.terminate()
        self.process.child.wait(20)

    def messages(self):
        """What stands before the message, and the message."""
        if not self.out.exists():
            return []
        return [tuple(line.split("|", 1)) for line in self.out.read_text().splitlines()]


def syslog(score):
    """RFC 5424 over TLS, to a server that goes and comes."""
    trusted, other = Certificates(), Certificates("somebody else")
    server = Rsyslog(trusted)
    sink = {"name": "logs", "kind": "syslog", "url": f"tls://localhost:{server.port}", "tls": {"ca": str(trusted.ca)}, "facility": "local3"}
    proxy = Proxy([sink])
    load = Load(proxy, 2)
    time.sleep(2)
    server.stop()
    until("the sink fails", lambda: proxy.sink("logs").get("state") == "failing", 30)
    time.sleep(1)
    server.start()
    time.sleep(1)
    load.stop()
    proxy.settled("logs")
    proxy.stop()
    journal = proxy.journal()

    def arrived():
        return len({message.strip() for _, message in server.messages()} & set(journal)) == len(journal)

    try:
        until("all messages are written", arrived, 20, 0.2)
    except TimeoutError:
        pass  # the comparison says what is missing
    messages = server.messages()
    same(score, "rsyslog, stopped and back, has every line at least once", journal, [message.strip() for _, message in messages], twice_allowed=True)
    line = re.compile(r'^(event|head|segment|close) vestibule (157|158) \d{4}-\d\d-\d\dT[^ ]+ \[vestibule@32473 node="[0-9a-f]{16}" epoch="1" seq="\d+"\]$')
    odd = [front for front, _ in messages if not line.match(front)]
    score.check("each is a message of RFC 5424 as rsyslog reads it", not odd, odd[:2] or messages[0][0])
    fits = all(f'seq="{json.loads(message)["seq"]}"' in front and front.startswith(json.loads(message)["kind"]) for front, message in messages)
    score.check("number and kind are those of the record", fits)
    score.check("signed heads are recognised by their MSGID", sum(front.startswith("head ") for front, _ in messages) >= 1)
    before = len(messages)
    proxy.start()
    proxy.settled("logs")
    proxy.stop()
    until("what is new is written", lambda: len({message.strip() for _, message in server.messages()}) == len(proxy.journal()), 20, 0.2)
    again = {message.strip() for _, message in server.messages()[before:]} & set(journal)
    # this server ends TLS without saying so, which anybody in between could do: the last batch is no more sure than that
    last = set(journal[len(journal) - len(again):])
    score.check("after a stop, nothing but the last batch is sent again", again == last and len(again) < len(journal), f"{len(again)} of {len(journal)} records")
    wrong = Proxy([{**sink, "tls": {"ca": str(other.ca)}}])
    until("it is told", lambda: wrong.sink("logs").get("last_error"), 20)
    error = wrong.sink("logs")["last_error"]
    code, live = wrong.command("check", "--live")
    score.check("a server with a certificate of another authority gets nothing", "certificate" in error and code == 1 and "FAIL" in live, error)
    wrong.stop()


class Collector:
    """The OpenTelemetry Collector's own receiver."""

    def __init__(self):
        self.out = folder() / "records"
        self.process = Process([COLLECTOR, str(self.out)], first_line=True)
        said = self.process.first_line()
        self.url, self.admin = said["otlp"], said["admin"]

    def behave(self, word):
        urllib.request.urlopen(f"{self.admin}/mode", word.encode(), timeout=5).close()

    def records(self):
        return [json.loads(line) for line in self.out.read_text().splitlines()]


def otlp(score):
    """Logs at the collector's receiver, which is busy for a while, and refuses for a while."""
    collector = Collector()
    sink = {"name": "otel", "kind": "otlp", "url": collector.url.removesuffix("/v1/logs"), "headers": [{"name": "X-Api-Key", "value": {"file": "key"}}]}
    proxy = Proxy([sink], secrets={"key": KEY})
    load = Load(proxy, 2)
    time.sleep(2)
    collector.behave("busy")
    until("the sink fails", lambda: proxy.sink("otel").get("state") == "failing", 30)
    busy = proxy.sink("otel")["last_error"]
    collector.behave("take")
    until("it goes on", lambda: proxy.sink("otel").get("state") == "shipping", 40)
    collector.behave("refuse")
    until("the sink refuses", lambda: proxy.sink("otel").get("state") == "refusing", 60)
    refused, metrics = proxy.sink("otel"), proxy.metrics()
    score.check("what may pass is told as failing, what will not as refusing, with the record's number", "503" in busy and re.search(r"record \d+ of epoch 1 is refused", refused["last_error"]),
                f"{busy}; {refused['last_error']}")
    score.check("a refused record holds up this sink, and that is seen", metrics['records_behind{sink="otel"}'] > 0 and proxy.logged("nothing behind it is sent"))
    collector.behave("take")
    load.stop()
    proxy.settled("otel")
    proxy.stop()
    journal, records = proxy.journal(), collector.records()
    same(score, "the collector has every line once", journal, [one["body"] for one in records])
    of = {one["body"]: one for one in records}
    heads = [one for one in records if one["event"] == "vestibule.audit.head"]
    score.check("signed heads are recognised by the event's name", len(heads) == sum('"kind":"head"' in line for line in journal) > 0, len(heads))

    def fits(line):
        record, found = json.loads(line), of[line]
        body = record[record["kind"]]
        wanted = {"vestibule.audit.node": record["node"], "vestibule.audit.epoch": record["epoch"], "vestibule.audit.seq": record["seq"], "vestibule.audit.kind": record["kind"]}
        right = wanted.items() <= found["attributes"].items() and found["time"] == body.get("time", body.get("last")) * 1_000_000 and found["observed"]
        if body.get("class_uid") == 4002:
            right = right and found["attributes"]["url.path"] == body["http_request"]["url"]["path"] and found["trace"] == body["unmapped"]["trace_id"]
            right = right and found["attributes"]["vestibule.decision"] == body["action"] and found["severity"] == (9 if body["severity_id"] == 1 else 13)
        return right and found["resource"]["service.name"] == "vestibule"

    odd = [line for line in journal if not fits(line)]
    score.check("time, severity, trace and attributes are the record's", not odd, odd[:1] or next(iter(of.values()))["attributes"])
    score.check("no secret is logged", not proxy.logged(KEY))
    code, live = proxy.command("check", "--live")
    score.check("`check --live` asks it", "ok" in next(line for line in live.splitlines() if "sink `otel`" in line), live)


if __name__ == "__main__":
    run(main)
