"""The SQL that lets others read the results database on PostgreSQL, and nothing else. It is printed, never run here.

Two roles. The one with personal data reads the `v1_*` views themselves. The one without reads views of the same names
in a schema of their own, which leave the personal columns out: column grants on the views would do as well, but then
`SELECT *` is refused, and with it most tools. Views run with their owner's rights, so no role needs a table.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import count

from psycopg import sql

from worker.store.view_columns import VIEWS_DESCRIBED

LONGEST_NAME = 63
"""Bytes. PostgreSQL cuts longer names off, and then two roles can be one."""


@dataclass(frozen=True, slots=True)
class GrantNames:
    """What the roles and schemas are called. `schema` is where Verisink's own tables and views are. Raises ValueError
    for a name that cannot be one, or for two that must differ."""

    reader: str
    personal_reader: str
    schema: str
    reader_schema: str

    def __post_init__(self) -> None:
        for name in astuple(self):
            if not name or not name.isprintable() or len(name.encode()) > LONGEST_NAME:
                raise ValueError(f"{name!r} is no name: 1 to {LONGEST_NAME} bytes that can be printed")
        if self.reader == self.personal_reader:
            raise ValueError("the two roles need different names: one of them must not see personal data")
        if self.schema == self.reader_schema:
            raise ValueError("the views without personal data need a schema of their own")


def granting(names: GrantNames) -> list[str]:
    """The statements that make both roles and give them what they may read. Running them again repairs what was
    changed since, and adds what a newer release brought."""
    reader, personal = _quoted(names.reader), _quoted(names.personal_reader)
    schema, own = _quoted(names.schema), _quoted(names.reader_schema)
    return [
        "BEGIN;",
        *(_role(name) for name in (names.reader, names.personal_reader)),
        _block(_CONNECT, reader=names.reader, personal_reader=names.personal_reader),
        _block(_CHECK_SCHEMA, own=names.reader_schema, views=list(VIEWS_DESCRIBED)),
        f"CREATE SCHEMA IF NOT EXISTS {own};",
        *(_impersonal_view(names, view) for view in VIEWS_DESCRIBED),
        _block(_OWNER, schema=names.schema, own=names.reader_schema, views=list(VIEWS_DESCRIBED)),
        f"REVOKE ALL ON SCHEMA {own} FROM PUBLIC;",
        *(f"REVOKE ALL ON {_all(own)} FROM {role};" for role in ("PUBLIC", reader, personal)),
        *(f"REVOKE ALL ON {_all(schema)} FROM {role};" for role in (reader, personal)),
        f"GRANT USAGE ON SCHEMA {own} TO {reader};",
        f"GRANT SELECT ON {_all(own)} TO {reader};",
        f"GRANT USAGE ON SCHEMA {schema} TO {personal};",
        f"GRANT SELECT ON {_all(schema)} TO {personal};",
        *_checking(names),
        "COMMIT;",
    ]


def revoking(names: GrantNames) -> list[str]:
    """The statements that take it all back. The roles stay, empty-handed: they may be somebody's for more than this."""
    reader, personal = _quoted(names.reader), _quoted(names.personal_reader)
    schema, own = _quoted(names.schema), _quoted(names.reader_schema)
    return [
        "BEGIN;",
        *(f"DROP VIEW IF EXISTS {own}.{_quoted(view)};" for view in VIEWS_DESCRIBED),
        f"DROP SCHEMA IF EXISTS {own};",
        *(
            _block(_REVOKE, role=role, revokes=[f"REVOKE ALL ON {_all(schema)} FROM {quoted}",
                                                f"REVOKE USAGE ON SCHEMA {schema} FROM {quoted}"])
            for role, quoted in ((names.reader, reader), (names.personal_reader, personal))
        ),
        "COMMIT;",
    ]  # fmt: skip


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


def _literal(value: str | Sequence[str]) -> str:
    if isinstance(value, str):
        return sql.Literal(value).as_string()
    return f"ARRAY[{', '.join(_literal(item) for item in value)}]"


def _all(schema: str) -> str:
    return ", ".join(f"{schema}.{_quoted(view)}" for view in VIEWS_DESCRIBED)


def _role(name: str) -> str:
    return _block(_CREATE, role=name, create=f"CREATE ROLE {_quoted(name)} NOLOGIN")


def _impersonal_view(names: GrantNames, view: str) -> str:
    # Every name in it is quoted by psycopg.
    own, schema, name = _quoted(names.reader_schema), _quoted(names.schema), _quoted(view)
    impersonal = VIEWS_DESCRIBED[view].impersonal
    columns = ", ".join(_quoted(column) for column in impersonal)
    outdated = _block(_DROP_OUTDATED, view=f"{own}.{name}", columns=impersonal, drop=f"DROP VIEW {own}.{name}")
    return f"{outdated}\nCREATE OR REPLACE VIEW {own}.{name} AS\n  SELECT {columns}\n  FROM {schema}.{name};"  # noqa: S608


def _checking(names: GrantNames) -> list[str]:
    views = list(VIEWS_DESCRIBED)
    return [
        _block(_CHECK_RIGHTS, schema=names.schema, own=names.reader_schema, views=views),
        _block(_CHECK_ROLE, role=names.reader, schema=names.schema, allowed=[]),
        _block(_CHECK_ROLE, role=names.personal_reader, schema=names.schema, allowed=views),
    ]


def _block(body: str, **values: str | Sequence[str]) -> str:
    """A DO statement, whose `{name}` in the body are replaced by literals."""
    # One pass, so that a name which looks like a placeholder stays the name that it is.
    filled = body.format(**{name: _literal(value) for name, value in values.items()})
    tag = next(tag for number in count() if (tag := f"$verisink{number or ''}$") not in filled)
    return f"DO {tag}{filled}{tag};"


_CREATE = """
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {role}) THEN
    EXECUTE {create};
  END IF;
END
"""

_CONNECT = """
BEGIN
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I, %I', current_database(), {reader}, {personal_reader});
END
"""

_CHECK_SCHEMA = """
-- What else is in it would change hands with it.
BEGIN
  IF EXISTS (
    SELECT FROM pg_catalog.pg_class
    WHERE relnamespace = to_regnamespace(quote_ident({own})) AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      AND relname <> ALL ({views})
  ) THEN
    RAISE EXCEPTION 'schema % holds other things: choose another name', quote_ident({own});
  END IF;
END
"""

_DROP_OUTDATED = """
-- Replacing a view takes no column away from it, and puts none in between: what became personal has to go.
DECLARE
  had text[] := (SELECT array_agg(attname::text ORDER BY attnum) FROM pg_catalog.pg_attribute
                 WHERE attrelid = to_regclass({view}) AND attnum > 0 AND NOT attisdropped);
BEGIN
  IF had <> ({columns}::text[])[1:cardinality(had)] THEN
    EXECUTE {drop};
  END IF;
END
"""

_OWNER = """
-- They read with the rights of their owner, who is the owner of Verisink's views, and not whoever runs this.
DECLARE
  view_name text;
  owner text := (
    SELECT pg_get_userbyid(relowner) FROM pg_catalog.pg_class
    WHERE relnamespace = to_regnamespace(quote_ident({schema})) AND relname = 'v1_results');
BEGIN
  EXECUTE format('ALTER SCHEMA %I OWNER TO %I', {own}, owner);
  FOREACH view_name IN ARRAY {views} LOOP
    EXECUTE format('ALTER VIEW %I.%I OWNER TO %I', {own}, view_name, owner);
  END LOOP;
END
"""

_REVOKE = """
DECLARE
  one_of_them text;
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {role}) THEN
    FOREACH one_of_them IN ARRAY {revokes} LOOP
      EXECUTE one_of_them;
    END LOOP;
    EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM %I', current_database(), {role});
  END IF;
END
"""

_CHECK_RIGHTS = """
-- With security_invoker a view would read with the consumer's rights, and every consumer would need the tables.
BEGIN
  IF EXISTS (
    SELECT FROM pg_catalog.pg_class, pg_options_to_table(reloptions)
    WHERE relnamespace IN (to_regnamespace(quote_ident({schema})), to_regnamespace(quote_ident({own})))
      AND relname = ANY ({views}) AND option_name = 'security_invoker' AND option_value::boolean
  ) THEN
    RAISE EXCEPTION 'a v1 view is security_invoker: nothing was granted';
  END IF;
END
"""

_CHECK_ROLE = """
-- What the role got elsewhere counts too: from PUBLIC, from another role, or because it is a superuser.
DECLARE
  excess text;
BEGIN
  SELECT string_agg(DISTINCT quote_ident(relname), ', ') INTO excess
  FROM pg_catalog.pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS privilege
  WHERE relnamespace = to_regnamespace(quote_ident({schema})) AND relkind IN ('r', 'p', 'v', 'm', 'f')
    AND relowner = (SELECT relowner FROM pg_catalog.pg_class
                    WHERE relnamespace = to_regnamespace(quote_ident({schema})) AND relname = 'v1_results')
    AND NOT (relname = ANY ({allowed}::text[]) AND privilege = 'SELECT')
    AND (has_any_column_privilege({role}, oid, privilege)
         OR has_table_privilege({role}, oid, 'DELETE, TRUNCATE, TRIGGER'));
  IF excess IS NOT NULL THEN
    RAISE EXCEPTION 'role % can do more than it should with: %', quote_ident({role}), excess
      USING HINT = 'It may be a superuser, be in another role, or have it from PUBLIC. Nothing was granted.';
  END IF;
  IF EXISTS (
    SELECT FROM pg_catalog.pg_default_acl, aclexplode(defaclacl) AS given
    WHERE defaclobjtype = 'r' AND (defaclnamespace = 0 OR defaclnamespace = to_regnamespace(quote_ident({schema})))
      AND (given.grantee = 0 OR pg_has_role({role}, given.grantee, 'USAGE'))
      AND defaclrole IN (SELECT relowner FROM pg_catalog.pg_class
                         WHERE relnamespace = to_regnamespace(quote_ident({schema})) AND relname = 'v1_results')
      AND given.grantee <> defaclrole
  ) THEN
    RAISE EXCEPTION 'default privileges would give role % the tables of later releases', quote_ident({role})
      USING HINT = 'ALTER DEFAULT PRIVILEGES … REVOKE them, and run this again. Nothing was granted.';
  END IF;
  IF has_schema_privilege({role}, to_regnamespace(quote_ident({schema})), 'CREATE') THEN
    RAISE WARNING 'role % can create tables in the schema of Verisink', quote_ident({role})
      USING HINT = 'Servers set up before PostgreSQL 15 let PUBLIC do that: REVOKE CREATE ON SCHEMA public FROM '
        'PUBLIC, once the role that runs `verisink migrate` has it by itself.';
  END IF;
END
"""
