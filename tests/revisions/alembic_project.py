# Makes an Alembic project with Alembic itself: alembic_project.py FOLDER URL COUNT
# The same one each time. What it does is what people do: tables, columns, indexes, keys, enums, checks, views, renames,
# rows; batch mode on SQLite, an autocommit block on PostgreSQL, and two branches that are merged.
import hashlib
import os
import re
import sys

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

folder, url, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
sqlite = url.startswith("sqlite")

config = Config(os.path.join(folder, "alembic.ini"))
sys.stdout = open(os.devnull, "w")
command.init(config, os.path.join(folder, "alembic"))
config.set_main_option("script_location", os.path.join(folder, "alembic"))
ini = open(os.path.join(folder, "alembic.ini")).read()
ini = re.sub(r"^sqlalchemy.url = .*$", lambda _: "sqlalchemy.url = " + url.replace("%", "%%"), ini, flags=re.M)
open(os.path.join(folder, "alembic.ini"), "w").write(ini)
script = ScriptDirectory.from_config(config)


def table(n):
    """Makes a table, and drops it."""
    up = f"""op.create_table(
        "t{n}",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(80), nullable=False, server_default="it's {n}; -- no"),
        sa.Column("price", sa.Numeric(10, 2), server_default=sa.text("1.50")),
        sa.Column("is_on", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("made", sa.DateTime(), server_default=sa.func.now()),
        sa.UniqueConstraint("name", name="uq_t{n}_name"),
    )"""
    return f"create table t{n}", up, f'op.drop_table("t{n}")'


def column(n):
    up = f'op.add_column("t{n}", sa.Column("note", sa.Text(), server_default="none"))'
    return f"add note to t{n}", up, f'op.drop_column("t{n}", "note")'


def index(n):
    up = f'op.create_index("ix_t{n}_price", "t{n}", ["price", "name"], unique={n % 20 == 0})'
    return f"index t{n}", up, f'op.drop_index("ix_t{n}_price", table_name="t{n}")'


def key(n):
    parent = max(n - 10, 0)
    if sqlite:
        up = f"""with op.batch_alter_table("t{n}") as batch:
        batch.add_column(sa.Column("parent_id", sa.Integer()))
        batch.create_foreign_key("fk_t{n}_parent", "t{parent}", ["parent_id"], ["id"], ondelete="CASCADE")"""
        down = f"""with op.batch_alter_table("t{n}") as batch:
        batch.drop_constraint("fk_t{n}_parent", type_="foreignkey")
        batch.drop_column("parent_id")"""
    else:
        up = f"""op.add_column("t{n}", sa.Column("parent_id", sa.Integer()))
    op.create_foreign_key("fk_t{n}_parent", "t{n}", "t{parent}", ["parent_id"], ["id"], ondelete="CASCADE")"""
        down = f"""op.drop_constraint("fk_t{n}_parent", "t{n}", type_="foreignkey")
    op.drop_column("t{n}", "parent_id")"""
    return f"t{n} gets a parent", up, down


def enum(n):
    up = f"""op.create_table(
        "e{n}",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("mood", sa.Enum("glad", "so so", "it's bad", name="mood{n}", create_constraint=True), nullable=False),
    )"""
    down = f'op.drop_table("e{n}")' + ("" if sqlite else f'\n    op.execute("DROP TYPE mood{n}")')
    return f"moods {n}", up, down


def rows(n):
    up = f"""op.bulk_insert(
        sa.table("t{n}", sa.column("id", sa.Integer), sa.column("name", sa.String), sa.column("made", sa.DateTime)),
        [
            {{"id": 1, "name": "a 'quoted'; -- name /* 50% */", "made": datetime.datetime(2024, 1, 2, 3, 4, 5)}},
            {{"id": 2, "name": "two\\nlines, \\u00e4 \\u96ea $$ $1 :x", "made": datetime.datetime(2024, 1, 2)}},
        ],
    )
    op.execute("UPDATE t{n} SET note = 'COMMIT; BEGIN' WHERE id = 1 -- only one")
    op.execute("UPDATE t{n} SET price = 2;")"""
    return f"rows of t{n}", up, f'op.execute("DELETE FROM t{n} WHERE id IN (1, 2)")'


def retype(n):
    if sqlite:
        change = """with op.batch_alter_table("t{n}") as batch:
        batch.alter_column("name", type_=sa.String({to}), existing_nullable=False)"""
    else:
        change = 'op.alter_column("t{n}", "name", type_=sa.String({to}), existing_nullable=False)'
    return f"longer names in t{n}", change.format(n=n, to=200), change.format(n=n, to=80)


def check(n):
    if sqlite:
        up = f"""with op.batch_alter_table("t{n}") as batch:
        batch.create_check_constraint("ck_t{n}", "price >= 0")"""
        down = f'with op.batch_alter_table("t{n}") as batch:\n        batch.drop_constraint("ck_t{n}", type_="check")'
    else:
        up = f'op.create_check_constraint("ck_t{n}", "t{n}", "price >= 0")'
        down = f'op.drop_constraint("ck_t{n}", "t{n}", type_="check")'
    return f"no negative prices in t{n}", up, down


def view(n):
    up = f'op.execute("CREATE VIEW v{n} AS SELECT id, name FROM t{n} WHERE is_on = {"0" if sqlite else "false"}")'
    return f"view v{n}", up, f'op.execute("DROP VIEW v{n}")'


def alone(n):
    if sqlite:
        up = f'op.create_index("ix_t{n}_made", "t{n}", ["made"])'
        return f"index t{n} by time", up, f'op.drop_index("ix_t{n}_made", table_name="t{n}")'
    up = f"""with op.get_context().autocommit_block():
        op.create_index("ix_t{n}_made", "t{n}", ["made"], postgresql_concurrently=True)"""
    down = f"""with op.get_context().autocommit_block():
        op.drop_index("ix_t{n}_made", table_name="t{n}", postgresql_concurrently=True)"""
    return f"index t{n} by time", up, down


KINDS = [table, column, index, key, enum, rows, retype, check, view, alone]
made = 0


def write(rev, message, parents, moment, body=None):
    """A revision of Alembic's own making, with our body and a time that does not change."""
    made = script.generate_revision(rev, message, head=parents, splice=True)
    text = open(made.path).read()
    text = re.sub(r"^Create Date: .*$", "Create Date: " + moment, text, flags=re.M)
    if body:
        text = text.replace("import sqlalchemy as sa\n", "import datetime\n\nimport sqlalchemy as sa\n", 1)
        text = text.split("def upgrade()", 1)[0]
        text += "def upgrade() -> None:\n    %s\n\n\ndef downgrade() -> None:\n    %s\n" % body
    open(made.path, "w").write(text)
    return rev


def revision(what, parent):
    """One more revision upon `parent`."""
    global made
    message, *body = what
    moment = "2024-%02d-%02d %02d:%02d:00.123456" % (1 + made // 100 % 12, 1 + made // 10 % 28, made % 10, made % 60)
    rev = write(name_of(made), message, parent or "base", moment, tuple(body))
    made += 1
    return rev


def name_of(n):
    return hashlib.sha256(str(n).encode()).hexdigest()[:12]


head = None
while made < count:
    n = made // 10 * 10
    if made == 55 and count > 60:
        # two people at once
        one = revision(rows(n), head)
        other = revision(("a table of its own", *table(1055)[1:]), head)
        head = write(name_of("merge"), "merge", [one, other], "2024-01-01 00:00:00")
        made += 1
        continue
    head = revision(KINDS[made % 10](n), head)
