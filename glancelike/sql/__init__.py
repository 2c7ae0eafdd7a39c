"""Databases for whoever keeps records in one: SQLite, PostgreSQL, MySQL and MariaDB.

The same transactions, time limits, retries and column types for all of
them, and nothing of what is kept. What is raised the user says (``Errors``).
"""
