#!/usr/bin/env python3
"""Makes the rows of the matrix and compares what a server holds with them. Standard library only, and nothing of rekindle.

compare.py make KIND DIR REACH...    before a run: the rows as SQLite, or in the source at REACH; the index of a search row
compare.py check KIND DIR REACH...   after it: every row is there once, byte for byte, and nothing else
"""
import base64, glob, json, os, socket, sqlite3, ssl, subprocess, sys, urllib.request

ROWS = 30_000


def rows():
    """Key and value of each row; some values are long, some are not ASCII."""
    for n in range(1, ROWS + 1):
        text = "größe 鍵 " * (200 if n % 1000 == 0 else 1)
        yield n, f"page:{n}", json.dumps({"id": n, "name": text, "price": n / 8}, ensure_ascii=False)


def make_sqlite(folder):
    db = sqlite3.connect(os.path.join(folder, "rows.sqlite"))
    db.execute("CREATE TABLE page (id INTEGER PRIMARY KEY, key TEXT, data TEXT, store TEXT)")
    db.executemany("INSERT INTO page VALUES (?, ?, ?, 'DE')", rows())
    db.commit()


def make_source(folder, client):
    """Feeds SQL to the client program that the row names."""
    with open(os.path.join(folder, "rows.sql"), "w", encoding="utf-8") as out:
        quote = '"' if "psql" in client[0] or "postgres" in client[0] else "`"
        out.write(f"CREATE TABLE page (id BIGINT NOT NULL PRIMARY KEY, {quote}key{quote} VARCHAR(255), data TEXT);\n")
        batch = []
        for n, key, value in rows():
            batch.append(f"({n},'{key}','{value}')")
            if len(batch) == 500:
                out.write(f"INSERT INTO page VALUES {','.join(batch)};\n")
                batch = []
    with open(out.name, "rb") as sql:
        subprocess.run(client, stdin=sql, check=True)


class Redis:
    """As much of Redis's protocol as a comparison needs."""

    def __init__(self, port, ca=None):
        raw = socket.create_connection(("127.0.0.1", int(port)))
        if ca:
            raw = ssl.create_default_context(cafile=ca).wrap_socket(raw, server_hostname="127.0.0.1")
        self.socket, self.file = raw, raw.makefile("rb")

    def ask(self, *words):
        parts = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
        return reply(self.file)


def reply(file):
    line = file.readline().rstrip(b"\r\n")
    sign, rest = line[:1], line[1:]
    if sign == b"-":
        raise SystemExit(f"redis refused: {rest.decode()}")
    if sign == b"$":
        if int(rest) < 0:
            return None
        return file.read(int(rest) + 2)[:-2]
    if sign == b"*":
        return [reply(file) for _ in range(int(rest))]
    return rest


def redis_content(ports, ca):
    content = {}
    for port in ports.split(","):
        redis = Redis(port, ca)
        for key in redis.ask("KEYS", "*"):
            assert key not in content, "a key on two nodes"
            content[key] = redis.ask("GET", key)
    return content


def file_content(folder):
    content = {}
    for path in glob.glob(os.path.join(folder, "out", "*.resp")):
        with open(path, "rb") as file:
            while file.peek(1):
                words = reply(file)
                assert words[0] == b"SET"
                content[words[1]] = words[2]
    return content


def search(base, path, body=None, method=None):
    url, _, login = base.partition("#")
    login, _, ca = login.partition("#")
    request = urllib.request.Request(url + path, data=body, method=method, headers={"Content-Type": "application/json"})
    if login:
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    context = ssl.create_default_context(cafile=ca) if ca else None
    with urllib.request.urlopen(request, timeout=60, context=context) as answer:
        return json.load(answer)


def make_index(base):
    settings = {"mappings": {"properties": {"id": {"type": "long"}, "name": {"type": "text"}, "price": {"type": "double"}}}}
    settings["settings"] = {"number_of_shards": 1, "number_of_replicas": 0}
    search(base, "/matrix_de_page", json.dumps(settings).encode(), "PUT")


def check_search(base):
    search(base, "/matrix_de_page/_refresh", b"", "POST")
    count = search(base, "/matrix_de_page/_count")["count"]
    if count != ROWS:
        raise SystemExit(f"{count} documents, not {ROWS}")
    wanted = {key: json.loads(value) for _, key, value in rows()}
    ids = list(wanted)
    for start in range(0, ROWS, 1000):
        body = json.dumps({"ids": ids[start : start + 1000]}).encode()
        for doc in search(base, "/matrix_de_page/_mget", body, "POST")["docs"]:
            if doc.get("_source") != wanted[doc["_id"]]:
                raise SystemExit(f"document {doc['_id']} is missing or differs")


def check(found, prefix=b""):
    wanted = {prefix + key.encode(): value.encode() for _, key, value in rows()}
    missing, extra = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    wrong = [key for key in wanted.keys() & found.keys() if wanted[key] != found[key]]
    if missing or extra or wrong:
        raise SystemExit(f"{len(missing)} rows missing, {len(extra)} too many ({sorted(extra)[:3]}), {len(wrong)} wrong")


def main():
    what, kind, folder, *reach = sys.argv[1:]
    if what == "make":
        if kind == "source":
            make_source(folder, reach)
        else:
            make_sqlite(folder)
            if kind == "search":
                make_index(reach[0])
        return
    if kind == "source":
        check(file_content(folder))
    elif kind == "redis":
        check(redis_content(reach[0], reach[1] if len(reach) > 1 else None))
    else:
        check_search(reach[0])
    print(f"{ROWS:,}")


main()
