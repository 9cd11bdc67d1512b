"""Pattern {{id}}: an item whose inputs name a `followUp` subagent gets one more item when it is done.

A pattern is pure: the same view gives the same decisions. No clock but view.now_ms(), no randomness but view.seed(),
no network, no files.
"""

from componentize_py_types import Err
from pangolin import guarded, refused
from wit_world import exports
from wit_world.imports.graph import Decisions, ItemBrief, ItemSpec, Phase, RunView

PAGE = 256


def changed(view: RunView):
    """What ended since the step before, page by page."""
    offset = 0
    while page := view.changed(offset, PAGE):
        yield from page
        offset += len(page)


def follow_up(view: RunView, brief: ItemBrief) -> tuple[str, ItemSpec] | None:
    """What to add after one finished item, or None."""
    with view.item(brief.index) as item:
        subagent = item.input_json("followUp")
        if subagent is None:
            return None
        new_id = f"after-{brief.id}"
        # Already there: a step may see the same item again after a crash.
        if view.find(new_id) is not None:
            return None
        # TODO({{name}}): this is the place for your own decision. What is here adds one item with that subagent.
        spec = ItemSpec(new_id, item.executor())
        spec.set_input_json("subagent", subagent)
        spec.depend_on(brief.id)
        return new_id, spec


class Decide(exports.Decide):
    @guarded
    def step(self, view: RunView, out: Decisions) -> None:
        for brief in changed(view):
            if brief.phase is not Phase.SUCCEEDED:
                continue
            added = follow_up(view, brief)
            if added is None:
                continue
            new_id, spec = added
            try:
                out.spawn(spec)
            except Err as error:
                raise refused(error)
            out.explain(new_id, f"{brief.id} is done and asks for a follow-up")
