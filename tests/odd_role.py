"""A role that owns nothing but its schema, and whose settings are as far from the defaults as they go."""

from __future__ import annotations

from typing import Final

import asyncpg

NAME: Final = "odd"

OF_THE_SERVER: Final = {"TimeZone": "Asia/Kathmandu", "log_timezone": "Asia/Kathmandu"}

OF_THE_ROLE: Final = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "timezone_abbreviations": "India",
    "lc_messages": "C.UTF-8",
    "standard_conforming_strings": "off",
    "escape_string_warning": "off",
    "backslash_quote": "off",
    "bytea_output": "escape",
    "xmlbinary": "hex",
    "xmloption": "document",
    "extra_float_digits": "-15",
    "search_path": "nowhere, public",
    "quote_all_identifiers": "on",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "check_function_bodies": "off",
    "row_security": "off",
    "client_min_messages": "debug1",
    "lc_monetary": "C",
    "default_text_search_config": "simple",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "default_statistics_target": "1",
    "constraint_exclusion": "on",
    "cursor_tuple_fraction": "0.001",
    "from_collapse_limit": "1",
    "join_collapse_limit": "1",
    "enable_partition_pruning": "off",
    "enable_indexonlyscan": "off",
    "enable_nestloop": "off",
    "enable_hashjoin": "off",
    "enable_hashagg": "off",
    "enable_material": "off",
    "enable_memoize": "off",
    "plan_cache_mode": "force_custom_plan",
    "jit_above_cost": "0",
    "work_mem": "64kB",
    "temp_buffers": "800kB",
    "synchronous_commit": "local",
    "lock_timeout": "45s",
    "statement_timeout": "90s",
    "idle_in_transaction_session_timeout": "90s",
    "idle_session_timeout": "90s",
    "client_connection_check_interval": "1s",
    "default_toast_compression": "pglz",
}


async def create(url: str) -> None:
    """Create the role, and its schema in the database of the URL, for the superuser of the URL."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE ROLE {NAME} LOGIN")
        for setting, value in OF_THE_ROLE.items():
            await connection.execute(f"ALTER ROLE {NAME} SET {setting} = {_written(value)}")
        await connection.execute(f"CREATE SCHEMA rowlock AUTHORIZATION {NAME}")
        for kind in ("TABLES", "SEQUENCES"):  # those of the tests
            await connection.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON {kind} TO {NAME}")
        # Of this database alone: its clones have no such grant.
        name = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute(f"GRANT CREATE ON DATABASE {name} TO {NAME}")
    finally:
        await connection.close()


def _written(value: str) -> str:
    """A list of names as such, anything else as a text."""
    return value if value == OF_THE_ROLE["search_path"] else f"'{value}'"
