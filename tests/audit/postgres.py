"""The trail in a real PostgreSQL: with rights to add and no others, over TLS and through pgbouncer; stopped under load, and back."""

import json
import shutil
import subprocess
import time

from sinks import PASSWORD, CLEAN, PROGRAM, Certificates, Load, Postgres, Process, Proxy, folder, free_port, reachable, run, same, until


def main(score):
    trusted, other = Certificates(), Certificates("somebody else")
    postgres = Postgres(trusted)
    stopped(score, postgres, trusted)
    by_itself(score, postgres)
    kept(score, postgres)
    older(score, postgres, trusted)
    rights(score, postgres, trusted, other)
    pooled(score, postgres, trusted)


def statements(*words):
    done = subprocess.run([PROGRAM, "audit", "schema", *words], env=CLEAN, capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def over_tls(postgres, certificates, name, role, schema, **more):
    return {"name": name, "kind": "postgres", "url": f"postgres://{role}@localhost:{postgres.port}/audit", "schema": schema,
            "password": {"file": "sink"}, "tls": {"ca": str(certificates.ca)}, **more}


def stopped(score, postgres, certificates):
    """PostgreSQL is gone for a while under load, and the proxy is killed meanwhile: the table has what the journal has."""
    postgres.role("writer")
    postgres.sql(statements("--schema", "trail", "--writer", "writer"))
    score.check("the statements of `audit schema` can be run twice", True, postgres.sql(statements("--schema", "trail", "--writer", "writer")))
    proxy = Proxy([over_tls(postgres, certificates, "db", "writer", "trail")], secrets={"sink": PASSWORD}, segment="2MiB")
    pause = 20 if score.full else 1.5 # the rest is waited for by what it shows; each record more is sent six times below
    load = Load(proxy)
    time.sleep(pause)
    score.check("records arrive while there is load", until("some", lambda: proxy.sink("db").get("shipped"), 20), proxy.sink("db").get("shipped"))
    postgres.stop("immediate")
    until("the sink fails", lambda: proxy.sink("db").get("state") == "failing", 30)
    time.sleep(pause)
    until("the oldest record is old", lambda: proxy.metrics()['oldest_unshipped_seconds{sink="db"}'] >= 2, 20)
    behind, metrics = proxy.sink("db"), proxy.metrics()
    score.check("status and metrics say how far it is behind", behind["records_behind"] > 100 and behind["last_error"]
                and metrics['records_behind{sink="db"}'] > 100 and metrics['oldest_unshipped_seconds{sink="db"}'] >= 2
                and metrics['bytes_behind{sink="db"}'] > 10_000 and metrics['failures_total{sink="db"}'] > 0,
                f"{behind['records_behind']} records, {behind['bytes_behind']} bytes, {behind['oldest_age']} s: {behind['last_error']}")
    code, text = proxy.command("status")
    score.check("the error says where the sink is", f"localhost:{postgres.port}/audit: " in behind["last_error"], behind["last_error"])
    score.check("`vestibule status` says so to people", code == 0 and "sink db" in text and "FAILING" in text,
                next((line for line in text.splitlines() if line.startswith("sink db")), text))
    proxy.kill()
    proxy.start()
    time.sleep(pause)
    postgres.start()
    until("the sink goes on", lambda: proxy.sink("db").get("state") == "shipping", 40)
    proxy.kill()
    proxy.start()
    time.sleep(pause)
    answered, rate = load.stop()
    took = proxy.settled("db")
    seconds = proxy.stop()
    journal = proxy.journal()
    same(score, "PostgreSQL stopped at once and came back, the proxy killed twice: the table has every line once", journal, postgres.lines("trail"))
    score.check("under load", answered > 200 and rate > 50, f"{answered} requests answered, {rate:.0f} a second; caught up in {took:.1f} s, stopped in {seconds:.1f} s")
    failing, again = proxy.logged("takes no records", '"db"'), proxy.logged("takes records again", '"db"')
    score.check("the log says once that it fails, and once that it is back, for each process", 1 <= len(failing) <= 3 and 1 <= len(again) <= 2,
                f"{len(failing)} and {len(again)}")
    score.check("no password is logged", not proxy.logged(PASSWORD))
    score.figure("audit: PostgreSQL stopped for a while under load", f"{len(journal)} lines, equal sets, {rate:.0f} requests/s")
    auditor(score, postgres, journal)
    anchored(score, postgres, proxy)
    lost(score, postgres, proxy)
    poison(score, postgres, proxy)
    changed(score, postgres, certificates, proxy)


CHAIN = """SELECT count(*) FROM (
    SELECT prev, lag(encode(sha256(convert_to(line, 'UTF8')), 'hex')) OVER (PARTITION BY node, epoch ORDER BY seq) AS before,
           seq, lag(seq) OVER (PARTITION BY node, epoch ORDER BY seq) AS last
    FROM trail.records) AS chain
WHERE last IS NOT NULL AND (prev <> before OR seq <> last + 1)"""
HEADS = """SELECT count(*) FROM trail.heads h LEFT JOIN trail.records r USING (node, epoch, seq)
WHERE r.seq IS NULL OR encode(sha256(convert_to(r.line, 'UTF8')), 'hex') <> h.hash"""


def auditor(score, postgres, journal):
    """What docs/audit.md tells an auditor to ask."""
    score.check("the chain can be recomputed in SQL", postgres.sql(CHAIN) == "0", postgres.sql(CHAIN))
    heads = [json.loads(line) for line in journal if json.loads(line)["kind"] == "head"]
    same_heads = sorted(postgres.lines("trail", "heads")) == sorted(line for line in journal if '"kind":"head"' in line)
    score.check("every signed head is in its own table too, and covers the records", heads and same_heads and postgres.sql(HEADS) == "0", len(heads))
    postgres.sql("UPDATE trail.records SET line = replace(line, '\"GET\"', '\"PUT\"') WHERE seq = (SELECT min(seq) FROM trail.records WHERE method = 'GET')")
    score.check("a record that is changed in the table breaks the chain there", int(postgres.sql(CHAIN)) >= 1)
    postgres.sql("UPDATE trail.records SET line = replace(line, '\"PUT\"', '\"GET\"') WHERE line LIKE '%\"PUT\"%'")
    columns = postgres.sql("SELECT count(*) FROM trail.records WHERE route = 'open' AND decision = 'Allowed' AND policies @> ARRAY['route:open:allow:1']"
                           " AND client = '127.0.0.1' AND status = 200 AND path = '/json' AND method = 'GET' AND request ~ '^[0-9a-f]{32}$'")
    wanted = sum(1 for line in journal if '"route":"open"' in line and '"action":"Allowed"' in line and '"code":200' in line)
    score.check("who, what and which policy stand in columns", int(columns) == wanted > 100, f"{columns} of {wanted}")
    plan = postgres.sql("SET enable_seqscan = off; EXPLAIN SELECT line FROM trail.records WHERE policies @> ARRAY['x']; EXPLAIN SELECT line FROM trail.records WHERE user_id = 'gitlab:1' AND time > now() - interval '1 day'")
    score.check("policies and people are looked up by an index", "policies_idx" in plan and "user_id_time_idx" in plan, plan)
    parts = postgres.sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'trail.records'::regclass")
    score.check("today and tomorrow have a partition", int(parts) >= 2, parts)


def anchored(score, postgres, proxy):
    """The heads of the table tell a journal whose end was cut off from a whole one."""
    anchors, copy = proxy.folder / "anchors", proxy.folder / "copy"
    anchors.write_text("\n".join(postgres.lines("trail", "heads")) + "\n")
    shutil.copytree(proxy.folder / "state/journal", copy)
    code, text = proxy.command("audit", "verify", "--anchors", str(anchors))
    score.check("`audit verify --anchors` finds every head of the table in the journal", code == 0, text)
    last = sorted(copy.glob("*.jsonl"))[-1]
    lines = last.read_text().splitlines(keepends=True)
    at = max(index for index, line in enumerate(lines) if '"kind":"head"' in line)
    last.write_text("".join(lines[: at - 1]))
    code, text = proxy.command("audit", "verify", "--journal", str(copy), "--anchors", str(anchors))
    score.check("and names what was cut off", code == 1, text)


def lost(score, postgres, proxy):
    """A cursor that is damaged, made up or of a version before starts from the beginning, and nothing is there twice."""
    cursor = proxy.folder / "state/journal/cursors/db.json"
    whole = cursor.read_text()
    inner = json.loads(whole)["cursor"]
    for how, text, words in [
        ("cut in half", whole[:40], "leads nowhere"),
        ("that somebody changed", whole.replace(inner["hash"], "0" * 64), "not signed by this journal's key"),
        ("without a signature", json.dumps(inner), "as versions before this one left it"),
    ]:
        cursor.write_text(text)
        proxy.start()
        until("it is told", lambda: proxy.logged(words), 20)
        proxy.settled("db")
        shipped = proxy.sink("db")["shipped"]
        told = len(proxy.logged(words)) == 1
        proxy.stop()
        journal = proxy.journal()
        score.check(f"a cursor {how} is told, and everything is sent again", told and shipped > len(journal) * 0.9, f"{shipped} sent, {len(journal)} in the journal")
        same(score, f"after that ({how}), the table has every line once", journal, postgres.lines("trail"))


def poison(score, postgres, proxy):
    """A record that the database refuses for what it is: nothing is left out, and everybody is told."""
    postgres.sql("ALTER TABLE trail.records ADD CONSTRAINT no_poison CHECK (path <> '/poison')")
    proxy.start()
    for path in [*("/json" for _ in range(20)), "/poison", *("/json" for _ in range(20))]:
        proxy.get(path)
    until("it is refused", lambda: proxy.sink("db").get("state") == "refusing", 60)
    poisoned = next(json.loads(line) for line in proxy.journal() if '"/poison"' in line)
    sink = proxy.sink("db")
    score.check("the record that is refused is named, and all before it are there",
                f"record {poisoned['seq']} of epoch 1 is refused" in sink["last_error"] and sink["seq"] == poisoned["seq"] - 1, sink["last_error"])
    score.check("the log says that nothing behind it is sent", len(proxy.logged("nothing behind it is sent")) == 1)
    postgres.sql("ALTER TABLE trail.records DROP CONSTRAINT no_poison")
    proxy.stop() # it is tried once more at once: that it goes on by itself, after 15 s, is shown with the collector
    same(score, "once it is taken, every line is there once", proxy.journal(), postgres.lines("trail"))


def changed(score, postgres, certificates, proxy):
    """Sinks come, change and go without a restart."""
    proxy.start()
    db = over_tls(postgres, certificates, "db", "writer", "trail")
    postgres.sql(statements("--schema", "second", "--writer", "writer"))
    second = over_tls(postgres, certificates, "second", "writer", "second")
    proxy.change([db, second])
    proxy.settled("second")
    score.check("a sink that is added gets all that the journal has", proxy.sink("second")["shipped"] > 100, proxy.sink("second")["shipped"])
    proxy.change([{**db, "schema": "second", "batch": "64KiB"}])
    proxy.settled("db")
    score.check("one that is removed is gone", not proxy.sink("second"))
    proxy.get("/json")
    proxy.settled("db")
    proxy.stop()
    known = set(postgres.lines("trail"))
    newest = [line for line in postgres.lines("second") if line not in known]
    score.check("a changed one goes on where it was", 0 < len(newest) < 60, len(newest))
    score.check("it was no restart", not proxy.logged("takes effect at the next start"))


def by_itself(score, postgres):
    """A role that may makes its tables itself, over a Unix socket."""
    postgres.sql("CREATE ROLE maker LOGIN; GRANT CREATE ON DATABASE audit TO maker")
    socket = str(postgres.home).replace("/", "%2F")
    url = f"postgres://maker@{socket}:{postgres.port}/audit"
    proxy = Proxy([{"name": "db", "kind": "postgres", "url": url, "schema": "own"}], mode="required")
    load = Load(proxy)
    time.sleep(2)
    load.stop()
    proxy.settled("db")
    proxy.stop()
    same(score, "tables that the proxy made itself have every line, in mode `required`", proxy.journal(), postgres.lines("own"))


def kept(score, postgres):
    """Retention waits for a sink that is down: no segment goes before the table has it."""
    socket = str(postgres.home).replace("/", "%2F")
    sink = {"name": "db", "kind": "postgres", "url": f"postgres://maker@{socket}:{postgres.port}/audit", "schema": "kept"}
    proxy = Proxy([sink], segment="64KiB", retention={"size": "128KiB"})
    proxy.settled("db")
    postgres.stop("immediate")
    load = Load(proxy, 2)
    until("there are many segments", lambda: len(segments(proxy)) > 8, 60)
    score.check("a segment that a sink does not have stays", segments(proxy)[0].endswith("00000000000000000001.jsonl"), len(segments(proxy)))
    postgres.start()
    until("old segments go", lambda: len(segments(proxy)) <= 4, 120, 0.2)
    load.stop()
    proxy.settled("db")
    proxy.stop()
    count = postgres.sql("SELECT count(*) || ' ' || max(seq) FROM kept.records").split()
    score.check("once it has them, they go, and the table lacks none", count[0] == count[1] and int(count[0]) > 300, f"{count[0]} rows, the last is {count[1]}; {segments(proxy)[0]}")
    score.check("and the proxy goes on behind what went", not proxy.logged("leads nowhere"))


def segments(proxy):
    return sorted(path.name for path in (proxy.folder / "state/journal").glob("*.jsonl"))


def older(score, postgres, certificates):
    """Tables of an earlier version are brought up to date. Neither partitions without end nor heads can be made up in them."""
    postgres.sql(statements("--schema", "older", "--writer", "writer"))
    postgres.sql("ALTER TABLE older.heads DROP CONSTRAINT heads_pkey, ADD PRIMARY KEY (node, epoch, seq); DROP TABLE older.records_other;"
                 "DROP FUNCTION older.audit_revision(); ALTER TABLE older.records DROP COLUMN phase")
    proxy = Proxy([over_tls(postgres, certificates, "db", "writer", "older")], secrets={"sink": PASSWORD})
    until("it is told", lambda: proxy.sink("db").get("state") == "failing", 20)
    error = proxy.sink("db")["last_error"]
    score.check("who may not bring tables up to date is told what does", "of an earlier version" in error and "vestibule audit schema --schema older" in error, error)
    live = live_of(proxy, "db")
    score.check("also by `check --live`", "FAIL" in live and "`older.audit_revision` is missing" in live, live)
    postgres.sql(statements("--schema", "older", "--writer", "writer"))
    proxy.settled("db")
    parts = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'older.records'::regclass"
    before = int(postgres.sql(parts))
    postgres.sql("SELECT older.add_day(current_date + days) FROM (VALUES (401), (-401), (5000), (300000)) AS far (days); SELECT older.add_day(current_date + 399)", role="writer")
    score.check("days that are far away get no partition", int(postgres.sql(parts)) == before + 1, f"{before} and {postgres.sql(parts)}")
    row = "INSERT INTO older.records (node, epoch, seq, time, kind, prev, line) VALUES ('made up', 1, {}, current_date + {}, 'event', '', '')"
    postgres.sql(f"{row.format(1, 9000)}; {row.format(2, 300)}; SELECT older.add_day(current_date + 300); {row.format(3, 300)}", role="writer")
    score.check("what is of no day's partition is kept all the same", postgres.sql("SELECT count(*) FROM older.records_other") == "3")
    node, seq = postgres.sql("SELECT node || ' ' || max(seq) FROM older.records WHERE node <> 'made up' GROUP BY node").split()
    postgres.sql("INSERT INTO older.heads (node, epoch, seq, hash, time, key, signature, line)"
                 f" SELECT '{node}', 1, {seq} + ahead, 'made up', now(), '', '', 'made up' FROM generate_series(0, 200) AS ahead", role="writer")
    for _ in range(20):
        proxy.get("/json")
    proxy.stop()
    heads = {line for line in proxy.journal() if '"kind":"head"' in line}
    there = set(postgres.lines("older", "heads"))
    score.check("a made-up head keeps no true one out", "made up" in there and len(heads) > 1 and heads <= there, f"{len(heads)} heads, {len(heads - there)} are not in the table")


def live_of(proxy, name):
    """What `check --live` says of a sink."""
    return next((line for line in proxy.command("check", "--live")[1].splitlines() if f"sink `{name}`" in line), "")


def rights(score, postgres, trusted, other):
    """What may not be done is not done, and is said with what to do."""
    for act in ("SELECT line FROM trail.records LIMIT 1", "UPDATE trail.records SET line = ''", "DELETE FROM trail.records", "TRUNCATE trail.records",
                "DROP TABLE trail.records", "UPDATE trail.heads SET line = ''", "DELETE FROM trail.heads"):
        done = postgres.sql(act, role="writer", check=False)
        score.check(f"the writer may not: {act.split(' SET')[0]}", done.returncode and ("permission denied" in done.stderr or "must be owner" in done.stderr), done.stderr)
    missing = Proxy([over_tls(postgres, trusted, "db", "writer", "nowhere")], secrets={"sink": PASSWORD})
    until("it is told", lambda: missing.sink("db").get("state") == "failing", 20)
    error = missing.sink("db")["last_error"]
    score.check("a role that may not make the tables is told what prints them", "vestibule audit schema --schema nowhere" in error, error)
    live = live_of(missing, "db")
    score.check("also by `check --live`", "FAIL" in live and "needs the right to CREATE in the database" in live and "audit schema --schema nowhere" in live, live)
    missing.stop()
    there = Proxy([over_tls(postgres, trusted, "db", "writer", "trail")], secrets={"sink": PASSWORD})
    score.check("`check --live` finds tables that are as they should be", "ok" in live_of(there, "db") and "are there" in live_of(there, "db"), live_of(there, "db"))
    for do, undo, words in [
        ("ALTER TABLE trail.records RENAME TO hidden", "ALTER TABLE trail.hidden RENAME TO records", "the table `trail.records` is missing"),
        ("ALTER TABLE trail.heads RENAME TO hidden", "ALTER TABLE trail.hidden RENAME TO heads", "the table `trail.heads` is missing"),
        ("REVOKE INSERT ON trail.heads FROM writer", "GRANT INSERT ON trail.heads TO writer", "may not insert into `trail.heads`"),
        ("REVOKE EXECUTE ON FUNCTION trail.add_day FROM writer", "GRANT EXECUTE ON FUNCTION trail.add_day TO writer", "may not call `trail.add_day`"),
        ("REVOKE USAGE ON SCHEMA trail FROM writer", "GRANT USAGE ON SCHEMA trail TO writer", "permission denied for schema trail"),
    ]:
        postgres.sql(do)
        live = live_of(there, "db")
        postgres.sql(undo)
        score.check(f"`check --live` says: {words}", "FAIL" in live and words in live and "vestibule audit schema --schema trail" in live, live)
    there.stop()
    for claim, sink, password, words in [
        ("a certificate of another authority is refused", over_tls(postgres, other, "db", "writer", "trail"), PASSWORD, "certificate"),
        ("a wrong password is told", over_tls(postgres, trusted, "db", "writer", "trail"), "wrong", "password authentication failed"),
    ]:
        proxy = Proxy([sink], secrets={"sink": password})
        until("it is told", lambda: proxy.sink("db").get("last_error"), 20)
        error = proxy.sink("db")["last_error"]
        code, live = proxy.command("check", "--live")
        found = [line for line in live.splitlines() if "sink `db`" in line]
        score.check(claim, words in error.lower() or words in error, error)
        score.check(f"{claim}: also by `check --live`", code == 1 and found and "FAIL" in found[0], found)
        proxy.stop()


def pooled(score, postgres, certificates):
    """Through pgbouncer, which gives every transaction another connection."""
    home, port = folder(), free_port()
    (home / "users").write_text(f'"maker" "{PASSWORD}"\n')
    (home / "pgbouncer.ini").write_text(
        f"[databases]\naudit = host={postgres.home} port={postgres.port} dbname=audit\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"auth_type = plain\nauth_file = {home}/users\npool_mode = transaction\nserver_reset_query =\nunix_socket_dir =\nlogfile = {home}/log\n"
        "default_pool_size = 3\nserver_lifetime = 1\n")
    (home / "log").touch()
    (home / "log").chmod(0o666)
    Process([*postgres.user, "/usr/sbin/pgbouncer", str(home / "pgbouncer.ini")])
    until("pgbouncer listens", lambda: reachable(port))
    sink = {"name": "db", "kind": "postgres", "url": f"postgres://maker@127.0.0.1:{port}/audit", "schema": "pooled", "password": {"file": "sink"}}
    proxy = Proxy([sink], secrets={"sink": PASSWORD})
    load = Load(proxy)
    time.sleep(4)
    load.stop()
    proxy.settled("db")
    proxy.stop()
    same(score, "through pgbouncer, one connection a transaction, every line is there once", proxy.journal(), postgres.lines("pooled"))
    score.check("nothing failed there", not proxy.logged("takes no records"), proxy.logged("takes no records"))


if __name__ == "__main__":
    run(main)
