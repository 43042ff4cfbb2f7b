"""Databases for the tests of this folder: each test runs on SQLite and on PostgreSQL."""

from tests.store.conftest import database, database_url, migrated_postgres_url, sqlite_template

__all__ = ["database", "database_url", "migrated_postgres_url", "sqlite_template"]
