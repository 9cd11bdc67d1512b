// Block {{id}}: no file of the workspace may be larger than MAX_BYTES.
//
// A block of the world `block` reads and judges. It changes nothing.

#include "text.h"

#define PAGE 256u
#define MAX_BYTES 1000000u

typedef exports_pangolin_block_run_borrow_input_t input;
typedef exports_pangolin_block_run_borrow_output_t output;

bool exports_pangolin_block_run_run(input source, output out, exports_pangolin_block_run_fault_t *err) {
  plugin_string_t prefix = text("workspace/");
  uint64_t total = 0;
  for (uint32_t offset = 0;;) {
    pangolin_block_stage_list_entry_t page;
    pangolin_block_stage_refusal_t refusal;
    if (!pangolin_block_stage_method_input_list_files(source, &prefix, offset, PAGE, &page, &refusal)) {
      *err = refused(&refusal);
      return false;
    }
    for (size_t i = 0; i < page.len; i++) {
      // TODO({{name}}): the place for your own check. An entry has path, size and perhaps a digest.
      if (page.ptr[i].size > MAX_BYTES) total++;
    }
    offset += (uint32_t)page.len;
    bool last = page.len == 0;
    pangolin_block_stage_list_entry_free(&page);
    if (last) break;
  }
  plugin_string_t count = decimal(total);
  plugin_string_t start = join(text("{\"schemaVersion\":1,\"total\":"), count);
  plugin_string_t evidence = join(start, text("}"));
  plugin_string_t key = text("large-files");
  pangolin_block_stage_method_output_evidence(out, &key, &evidence);
  plugin_string_t summary =
      total == 0 ? copy(text("no file is too large")) : join(count, text(" file(s) are too large"));
  pangolin_block_stage_method_output_verdict(out, total == 0, &summary);
  plugin_string_free(&count);
  plugin_string_free(&start);
  plugin_string_free(&evidence);
  plugin_string_free(&summary);
  return true;
}
