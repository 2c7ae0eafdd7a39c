"""Rules of tasks."""

from __future__ import annotations

from glancelike.policy.base import ADMIN, Rule, rule

TASKS = "/v2/tasks"
TASK = "/v2/tasks/{task_id}"
UNASKED = "Asked by nothing here, kept for policy files: see tasks_api_access"

RULES: tuple[Rule, ...] = (
    rule("get_task", "rule:default", UNASKED),
    rule("get_tasks", "rule:default", UNASKED),
    rule("add_task", "rule:default", UNASKED),
    rule("modify_task", "rule:default", UNASKED),
    rule(
        "tasks_api_access",
        ADMIN,
        "Use the tasks API, all of it",
        f"GET {TASKS}",
        f"POST {TASKS}",
        f"GET {TASK}",
        f"DELETE {TASK}",
    ),
)
