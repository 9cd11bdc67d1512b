// Pattern {{id}}: an item whose inputs name a `followUp` subagent gets one more item when it is done.
//
// A pattern is pure: the same view gives the same decisions. No clock but view.nowMs(), no randomness but
// view.seed(), no network, no files.

import { ItemSpec } from 'pangolin:pattern/graph@{{contract}}';
import { guarded, refused, release } from './pangolin.js';

const PAGE = 1024;

/** What to add after one finished item, or undefined. */
function followUp(view, brief) {
  const item = view.item(brief.index);
  if (item === undefined) return undefined;
  try {
    const subagent = item.inputJson('followUp');
    if (subagent === undefined) return undefined;
    const id = `after-${brief.id}`;
    // Already there: a step may see the same item again after a crash.
    if (view.find(id) !== undefined) return undefined;
    // TODO({{name}}): this is the place for your own decision. What is here adds one item with that subagent.
    const spec = new ItemSpec(id, item.executor());
    spec.setInputJson('subagent', subagent);
    spec.dependOn(brief.id);
    return { id, spec };
  } finally {
    release(item);
  }
}

export const decide = {
  step: guarded((view, out) => {
    for (let offset = 0; ; ) {
      const page = view.changed(offset, PAGE);
      if (page.length === 0) return;
      offset += page.length;
      for (const brief of page) {
        if (brief.phase !== 'succeeded') continue;
        const next = followUp(view, brief);
        if (next === undefined) continue;
        try {
          out.spawn(next.spec);
        } catch (error) {
          throw refused(error);
        }
        out.explain(next.id, `${brief.id} is done and asks for a follow-up`);
      }
    }
  }),
};
