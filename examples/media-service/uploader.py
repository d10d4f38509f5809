#!/usr/bin/env python3
"""The service's uploader: it keeps one connection open and goes on uploading, whatever happens to the tables meanwhile.

It knows both forms of the data, as an application does that is deployed before its migration: in each transaction it looks
which one is there. What the database has acknowledged goes to uploads.log: kind, URL, title ("" once it is deleted).

    python3 uploader.py            until it is told to stop (Ctrl-C)
    python3 uploader.py 100        a hundred steps
"""

import signal
import sqlite3
import sys
import time

stop = False


def asked_to_stop(*_):
    global stop
    stop = True


class Uploader:
    def __init__(self):
        # isolation_level None: transactions are where this program says BEGIN
        self.db = sqlite3.connect("media.db", timeout=30, isolation_level=None)
        self.db.execute("PRAGMA foreign_keys = ON")
        self.run = int(time.time() * 1000)
        self.mine = []  # URLs of this run, with their kinds
        self.log = open("uploads.log", "a", encoding="utf-8")

    def merged(self):
        return self.db.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'media'").fetchone()[0] == 1

    def place(self, kind, merged):
        """Where things of this kind are: the table, its column for the URL, and what else a query has to say."""
        if merged:
            return "media", "url", f" AND media_type = '{kind}'"
        return ("images", "image_url", "") if kind == "image" else ("docs", "doc_url", "")

    def step(self, n):
        self.db.execute("BEGIN IMMEDIATE")
        try:
            merged = self.merged()
            done = self.delete(merged) if n % 11 == 10 else self.rename(n, merged) if n % 5 == 4 else self.upload(n, merged)
            self.db.execute("COMMIT")
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        # only now is it a promise
        self.log.write("\t".join(done) + "\n")
        self.log.flush()

    def upload(self, n, merged):
        kind = "doc" if n % 3 == 0 else "image"
        suffix = "pdf" if kind == "doc" else "png"
        url, title = f"https://media.example.org/u/{self.run}-{n}.{suffix}", f"Upload {n}"
        table, column, _ = self.place(kind, merged)
        what = {"user_id": n % 3 + 1, column: url, "title": title}
        what.update({"pages": n + 1} if kind == "doc" else {"width": 800, "height": 600})
        if merged:
            what["media_type"] = kind
        names, marks = ", ".join(what), ", ".join("?" * len(what))
        made = self.db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(what.values())).lastrowid
        if kind == "image":
            self.db.execute("INSERT INTO captions (image_id, words) VALUES (?, ?)", (made, f"Caption of {url}"))
        self.mine.append((kind, url))
        return kind, url, title

    def rename(self, n, merged):
        kind, url = self.mine[n * 7 % len(self.mine)]
        table, column, more = self.place(kind, merged)
        self.db.execute(f"UPDATE {table} SET title = ? WHERE {column} = ?{more}", (f"Renamed {n}", url))
        return kind, url, f"Renamed {n}"

    def delete(self, merged):
        kind, url = self.mine.pop(0)
        table, column, more = self.place(kind, merged)
        # its captions go with it
        self.db.execute(f"DELETE FROM {table} WHERE {column} = ?{more}", (url,))
        return kind, url, ""


def main():
    signal.signal(signal.SIGINT, asked_to_stop)
    signal.signal(signal.SIGTERM, asked_to_stop)
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else None
    uploader, n = Uploader(), 0
    while not stop and n != steps:
        uploader.step(n)
        n += 1
        time.sleep(0.01)


main()
