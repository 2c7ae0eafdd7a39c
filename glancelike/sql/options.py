"""The options of a database, but for its URL."""

from __future__ import annotations

from oslo_config import cfg

OPTIONS = (
    cfg.IntOpt("max_pool_size", default=16, min=1, help="Connections each process keeps open."),
    cfg.IntOpt("max_overflow", default=50, min=0, help="Connections each process may open beyond these."),
    cfg.IntOpt("pool_timeout", default=30, min=1, help="Seconds to wait for a connection to come free."),
    cfg.IntOpt("connection_recycle_time", default=3600, help="Seconds after which a connection is renewed."),
    cfg.IntOpt("connect_timeout", default=10, min=1, help="Seconds to wait for the database server."),
    cfg.FloatOpt(
        "statement_timeout",
        default=30.0,
        min=0.1,
        help="Seconds that a database server may take over one statement. A caller is told soon after that "
        "the database is away, also when it just hangs.",
    ),
    cfg.FloatOpt(
        "lock_timeout",
        default=10.0,
        min=0.1,
        help="Seconds that one statement waits for another transaction's lock; MySQL and MariaDB wait whole "
        "seconds.",
    ),
    cfg.IntOpt(
        "db_max_retries",
        default=20,
        min=0,
        help="How often a transaction is tried again that a deadlock or a lost connection undid; for no "
        "longer than statement_timeout in all.",
    ),
    cfg.IntOpt(
        "mysql_wsrep_sync_wait",
        min=0,
        max=15,
        help="Galera only: wsrep_sync_wait of each connection. With 1 a read waits until its node has what "
        "other nodes have committed.",
    ),
    cfg.FloatOpt("sqlite_busy_timeout", default=10.0, help="Seconds to wait for another writer's lock."),
    cfg.BoolOpt(
        "sqlite_synchronous",
        default=True,
        help="Wait for the disk at every commit. Without, a power cut may take back the last commits.",
    ),
)
