// Pattern {{id}}: an item whose inputs name a `followUp` subagent gets one more item when it is done.
//
// A pattern is pure: the same view gives the same decisions. No clock but the view's now-ms, no randomness but its
// seed, no network, no files.

#include "text.h"

#define PAGE 256u

typedef pangolin_pattern_graph_borrow_run_view_t run_view;
typedef pangolin_pattern_graph_borrow_decisions_t decisions;
typedef pangolin_pattern_graph_item_brief_t item_brief;

// Adds what follows after one finished item. False, with `err`, when the host refuses it.
static bool follow_up(run_view view, decisions out, const item_brief *brief, pangolin_base_types_fault_t *err) {
  pangolin_pattern_graph_own_item_view_t item;
  if (!pangolin_pattern_graph_method_run_view_item(view, brief->index, &item)) return true;
  pangolin_pattern_graph_borrow_item_view_t source = pangolin_pattern_graph_borrow_item_view(item);
  plugin_string_t key = text("followUp"), subagent, executor;
  plugin_string_t id = join(text("after-"), brief->id);
  uint32_t there;
  bool spawned = true;
  // Already there: a step may see the same item again after a crash.
  if (pangolin_pattern_graph_method_item_view_input_json(source, &key, &subagent)) {
    if (!pangolin_pattern_graph_method_run_view_find(view, &id, &there)) {
      // TODO({{name}}): this is the place for your own decision. What is here adds one item with that subagent.
      pangolin_pattern_graph_method_item_view_executor(source, &executor);
      pangolin_pattern_graph_own_item_spec_t spec = pangolin_pattern_graph_constructor_item_spec(&id, &executor);
      pangolin_pattern_graph_borrow_item_spec_t to = pangolin_pattern_graph_borrow_item_spec(spec);
      plugin_string_t name = text("subagent"), after = brief->id;
      pangolin_pattern_graph_method_item_spec_set_input_json(to, &name, &subagent);
      pangolin_pattern_graph_method_item_spec_depend_on(to, &after);
      pangolin_pattern_graph_refusal_t refusal;
      spawned = pangolin_pattern_graph_method_decisions_spawn(out, spec, &refusal);
      if (spawned) {
        plugin_string_t why = join(brief->id, text(" is done and asks for a follow-up"));
        pangolin_pattern_graph_method_decisions_explain(out, &id, &why);
        plugin_string_free(&why);
      } else {
        *err = refused(&refusal);
      }
      plugin_string_free(&executor);
    }
    plugin_string_free(&subagent);
  }
  plugin_string_free(&id);
  pangolin_pattern_graph_item_view_drop_own(item);
  return spawned;
}

bool exports_pangolin_pattern_decide_step(run_view view, decisions out, pangolin_base_types_fault_t *err) {
  uint32_t offset = 0;
  bool good = true;
  for (;;) {
    pangolin_pattern_graph_list_item_brief_t page;
    pangolin_pattern_graph_method_run_view_changed(view, offset, PAGE, &page);
    for (size_t i = 0; good && i < page.len; i++) {
      if (page.ptr[i].phase == PANGOLIN_PATTERN_GRAPH_PHASE_SUCCEEDED) {
        good = follow_up(view, out, &page.ptr[i], err);
      }
    }
    offset += (uint32_t)page.len;
    bool last = page.len == 0;
    pangolin_pattern_graph_list_item_brief_free(&page);
    if (last || !good) return good;
  }
}
