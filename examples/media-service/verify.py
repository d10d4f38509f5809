#!/usr/bin/env python3
"""Is every row where it has to be?

    python3 verify.py apart        before the migration, and after its rollback: `images` and `docs`
    python3 verify.py merged       after the migration: `media`

It compares media.db with before.db, a copy from before the migration, and with uploads.log, what the uploader was told is
written. Stop the uploader first, or its last upload may be on its way. Exit code 0 if all is well, 1 if not.
"""

import os
import sqlite3
import sys

IMAGES = "id, user_id, {url}, title, width, height, uploaded_at"
DOCS = "id, user_id, {url}, title, pages, uploaded_at"
failures = 0


def check(what, right, seen=""):
    global failures
    failures += not right
    print(("ok      " if right else "FAILED  ") + what + (f": {seen}" if seen != "" else ""))


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in ("apart", "merged"):
        sys.exit(__doc__)
    db = sqlite3.connect("media.db")
    db.execute("ATTACH 'before.db' AS before")

    def one(sql, *values):
        return db.execute(sql, values).fetchone()[0]

    def table(name):
        return one("SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND name = ?", name) == 1

    # the last word on each URL
    said = {}
    if os.path.exists("uploads.log"):
        with open("uploads.log", encoding="utf-8") as log:
            for line in log:
                kind, url, title = line.rstrip("\n").split("\t")
                said[url] = (kind, title)
    uploads = {kind: {u: t for u, (k, t) in said.items() if k == kind and t} for kind in ("image", "doc")}
    expected = {
        kind: one(f"SELECT count(*) FROM before.{name}") + len(uploads[kind])
        for kind, name in (("image", "images"), ("doc", "docs"))
    }

    if sys.argv[1] == "apart":
        check("there is no table media", not table("media"))
        for name in ("images", "docs"):
            check(f"table {name} is there", table(name))
        if failures:
            return
        images = f"SELECT {IMAGES.format(url='image_url')} FROM main.images"
        docs = f"SELECT {DOCS.format(url='doc_url')} FROM main.docs"
        was = db.execute("SELECT name, sql FROM before.sqlite_schema WHERE sql NOT NULL AND name <> 'sqlite_sequence' ORDER BY name")
        wrong = [n for n, sql in was if db.execute("SELECT sql FROM main.sqlite_schema WHERE name = ?", (n,)).fetchone() != (sql,)]
        check("every table and index is defined as before", not wrong, ", ".join(wrong))
        orphans = one("SELECT count(*) FROM captions WHERE image_id NOT IN (SELECT id FROM main.images)")
        log = one("SELECT count(*) FROM main.sqlite_schema WHERE name = 'migration_log'") == 1
        marks = one("SELECT count(*) FROM migration_log WHERE outcome = 'completed'") if log else 0
        check("nothing says that the migration is completed", marks == 0)
    else:
        check("table media is there", table("media"))
        for name in ("images", "docs"):
            check(f"there is no table {name}", not table(name))
        if failures:
            return
        images = f"SELECT {IMAGES.format(url='url')} FROM media WHERE media_type = 'image'"
        # documents have got other numbers, as the images have theirs
        docs = f"SELECT {DOCS.format(url='url')} FROM media WHERE media_type = 'doc'"
        orphans = one("SELECT count(*) FROM captions WHERE image_id NOT IN (SELECT id FROM media WHERE media_type = 'image')")
        total, ids = db.execute("SELECT count(*), count(DISTINCT id) FROM media").fetchone()
        check("media has as many rows as images and docs together", total == ids == sum(expected.values()), total)

    for kind, name, rows in (("image", "images", images), ("doc", "docs", docs)):
        check(f"number of {name}", one(f"SELECT count(*) FROM ({rows})") == expected[kind], expected[kind])
        now = {row[2]: row for row in db.execute(rows)}
        url = "image_url" if kind == "image" else "doc_url"
        columns = (IMAGES if kind == "image" else DOCS).format(url=url)
        skip = 1 if (kind, sys.argv[1]) == ("doc", "merged") else 0
        old = list(db.execute(f"SELECT {columns} FROM before.{name}"))
        lost = [row[2] for row in old if now.get(row[2], ())[skip:] != row[skip:]]
        check(f"{name} from before are as they were", not lost, ", ".join(lost[:3]) or len(old))
        lost = [u for u, title in uploads[kind].items() if u not in now or now[u][3] != title]
        check(f"uploaded {name} are there", not lost, ", ".join(lost[:3]) or len(uploads[kind]))
    check("captions without an image", orphans == 0, orphans)
    check("rows whose parents are missing", not list(db.execute("PRAGMA main.foreign_key_check")))
    check("the database is sound", one("PRAGMA main.integrity_check") == "ok")


main()
sys.exit(1 if failures else 0)
