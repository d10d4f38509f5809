# Reads an Alembic project by Alembic's own offline mode, both ways of every revision in one go. SETTINGS is put before
# this text. The answer is one line of JSON; what env.py or a revision prints goes to stderr.
import functools
import json
import os
import re
import sys

answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)


def answer(**parts):
    answers.write(json.dumps(parts) + "\n")
    answers.flush()
    sys.exit(0)


try:
    import alembic
    from alembic.config import Config
    from alembic.operations import batch
    from alembic.runtime.environment import EnvironmentContext
    from alembic.runtime.migration import MigrationStep
    from alembic.script import ScriptDirectory
except ImportError as error:
    answer(missing=str(error))


def said(error, path=None):
    """An error's own words, with the line of the revision that it came from."""
    words = str(error).strip() or type(error).__name__
    line, trace, last = None, error.__traceback__, None
    while trace is not None:
        last = trace.tb_frame.f_code.co_filename
        if path and last == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    # a `raise` of the author's own, and not a call that went wrong
    meant = isinstance(error, NotImplementedError) or (type(error) in (Exception, RuntimeError) and last == path)
    if not meant and not type(error).__module__.startswith("alembic"):
        words = "%s: %s" % (type(error).__name__, words)
    return {"error": words, "line": line, "meant": meant}


class Written:
    """What offline mode writes: a statement at a time, as it calls write() once for each."""

    def __init__(self):
        self.begin(None)
        self.inside = False

    def begin(self, scratch):
        self.statements, self.alone, self.scratch, self.inside = [], False, scratch, True

    def write(self, text):
        if not self.inside:
            return
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        bare = text.strip()
        while bare.endswith(";"):
            bare = bare[:-1].rstrip()
        if bare.upper() in ("BEGIN", "COMMIT"):
            self.alone = True
        elif bare:
            self.statements.append(bare)
            if self.scratch is not None:
                self.scratch.run(bare)

    def flush(self):
        pass


class Scratch:
    """SQLite in memory, in which the statements so far have run: batch mode asks it what a table looks like."""

    def __init__(self, copied=None):
        import sqlite3

        self.database = sqlite3.connect(":memory:")
        self.broken = None
        self.asked = None
        if copied is not None:
            self.broken = copied.broken
            copied.database.commit()
            copied.database.backup(self.database)

    def run(self, sql):
        if self.broken is None:
            try:
                self.database.executescript(sql + "\n;")
            except Exception as error:
                self.broken = "%s (%s)" % (error, sql.split("\n")[0][:80])

    def connection(self):
        from sqlalchemy import create_engine
        from sqlalchemy.pool import StaticPool

        if self.broken is not None:
            raise alembic.util.CommandError(
                "batch mode needs to know the table, and the statements before it do not run in an empty database: "
                + self.broken
            )
        if self.asked is None:
            self.asked = create_engine(
                "sqlite://", creator=lambda: self.database, poolclass=StaticPool
            ).connect()
        return self.asked

    def close(self):
        if self.asked is not None:
            self.asked.close()
        self.database.close()


def reflect_from_scratch(written):
    """Lets batch mode on SQLite find the table in the scratch database, where offline mode alone cannot go on."""
    flush = batch.BatchOperationsImpl.flush

    @functools.wraps(flush)
    def with_scratch(self):
        context = self.operations.migration_context
        if written.scratch is None or self.copy_from is not None or not self._should_recreate():
            return flush(self)
        connection = written.scratch.connection()
        bind, context.as_sql = self.operations.get_bind, False
        self.operations.get_bind = lambda: connection
        try:
            return flush(self)
        finally:
            self.operations.get_bind, context.as_sql = bind, True
            # SQLAlchemy before 2.0 has begun nothing
            getattr(connection, "rollback", lambda: None)()

    if hasattr(batch.BatchOperationsImpl, "_should_recreate"):
        batch.BatchOperationsImpl.flush = with_scratch


def in_one_order():
    """Batch mode makes a table again with its constraints in the order of a set, which is another one each time."""
    grab = batch.ApplyBatchImpl._grab_table_elements

    def place(constraint):
        return type(constraint).__name__, [column.name for column in getattr(constraint, "columns", [])]

    @functools.wraps(grab)
    def sorted_elements(self):
        grab(self)
        self.named_constraints = dict(sorted(self.named_constraints.items(), key=lambda item: str(item[0])))
        self.unnamed_constraints.sort(key=place)
        self.indexes = dict(sorted(self.indexes.items(), key=lambda item: str(item[0])))

    batch.ApplyBatchImpl._grab_table_elements = sorted_elements


config = None
try:
    toml = os.path.join(os.path.dirname(os.path.abspath(SETTINGS["ini"])), "pyproject.toml")
    try:
        config = Config(SETTINGS["ini"], toml_file=toml if os.path.isfile(toml) else None)
    except TypeError:
        config = Config(SETTINGS["ini"])
    if SETTINGS["url"]:
        config.set_main_option("sqlalchemy.url", SETTINGS["url"].replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    heads = list(script.get_heads())
    if len(heads) > 1:
        answer(heads=heads)
    revisions = list(reversed(list(script.walk_revisions())))
except Exception as error:
    answer(failed=said(error))

written = Written()
reflect_from_scratch(written)
if hasattr(batch.ApplyBatchImpl, "_grab_table_elements"):
    in_one_order()
found, contexts = [], []


def tuples(value):
    return [] if not value else [value] if isinstance(value, str) else list(value)


def one_way(name, revision, scratch, kw):
    written.begin(scratch)
    try:
        getattr(revision.module, name)(**kw)
        return {"statements": written.statements, "alone": written.alone}
    except Exception as error:
        return said(error, revision.path)
    finally:
        written.inside = False


def both_ways(revision, state, kw):
    """Runs the way up, and the way down from where it ends."""
    up = one_way("upgrade", revision, state, kw)
    copy = None if state is None else Scratch(state)
    down = one_way("downgrade", revision, copy, kw)
    if copy is not None:
        copy.close()
    text = open(revision.path, encoding="utf-8", errors="replace").read()
    date = re.search(r"^Create Date:[ \t]*(.+?)[ \t]*$", revision.module.__doc__ or "", re.M)
    found.append(
        {
            "revision": revision.revision,
            "file": revision.path,
            "title": (revision.doc or "").strip(),
            "date": date.group(1) if date else None,
            "parents": tuples(revision.down_revision) + tuples(revision.dependencies),
            "tabs": bool(re.search(r"\S.*(\t|\\t)", text)),
            "up": up,
            "down": down,
        }
    )


def steps(heads, context):
    contexts.append(context)
    context.impl.output_buffer = written
    context.autocommit_block = alone(context.autocommit_block)
    state = Scratch() if context.dialect.name == "sqlite" else None
    for revision in revisions:
        step = MigrationStep.upgrade_from_script(script.revision_map, revision)

        def run(revision=revision, **kw):
            both_ways(revision, state, kw)

        step.migration_fn = functools.wraps(step.migration_fn)(run)
        yield step


def alone(block):
    @functools.wraps(block)
    def noted(*args, **kw):
        written.alone = True
        return block(*args, **kw)

    return noted


try:
    with EnvironmentContext(
        config, script, fn=steps, as_sql=True, starting_rev=None, destination_rev="head", tag=None
    ):
        script.run_env()
except Exception as error:
    answer(failed=said(error))

if revisions and len(contexts) != 1:
    words = "its env.py runs the revisions %d times in offline mode" % len(contexts)
    answer(failed={"error": words, "line": None, "meant": False})
context = contexts[0] if contexts else None
answer(
    dialect=context.dialect.name if context else None,
    transactional=bool(context.impl.transactional_ddl) if context else True,
    table=context.version_table if context else "alembic_version",
    schema=context.version_table_schema if context else None,
    revisions=found,
)
