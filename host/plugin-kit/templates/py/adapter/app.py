"""Adapter {{id}}: drives an agent command that takes its task on standard input and prints JSON lines.

An adapter starts nothing. `prepare` describes the process, the worker starts it, `Reader` in
adapter.py reads what it printed.
"""

import json

from componentize_py_types import Err
from pangolin import fault, guarded, refused
from wit_world import exports
from wit_world.imports.session import LaunchPlan, TaskView

# TODO({{name}}): the program and the arguments of your agent.
PROGRAM = "fake-agent"
ARGS = ["--output", "jsonl"]


def read_params(task: TaskView) -> tuple[str, list[str]]:
    """The subagent's `params`: program and arguments can be replaced there."""
    try:
        params = json.loads(task.attr("params") or "{}")
    except (ValueError, RecursionError) as error:
        raise fault("bad-params", f"/params: not JSON ({error})")
    if not isinstance(params, dict):
        raise fault("bad-params", "/params: must be an object")
    program, args = params.get("program", PROGRAM), params.get("args", ARGS)
    if not isinstance(program, str):
        raise fault("bad-params", "/params/program: must be a string")
    if not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
        raise fault("bad-params", "/params/args: must be a list of strings")
    return program, args


class Adapter(exports.Adapter):
    @guarded
    def prepare(self, task: TaskView, out: LaunchPlan) -> None:
        program, args = read_params(task)
        try:
            out.program(program)
        except Err as error:
            raise refused(error)
        for arg in args:
            out.arg(arg)
        model = task.model()
        if model is not None:
            out.arg("--model")
            out.arg(model)
        out.stdin(task.prompt().encode())
