"""Databases for the tests of this folder: each test runs on SQLite and on PostgreSQL."""

from tests.support.results import database, database_url, sqlite_template

__all__ = ["database", "database_url", "sqlite_template"]
