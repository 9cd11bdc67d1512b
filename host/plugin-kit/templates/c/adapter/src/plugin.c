// Adapter {{id}}: drives an agent command that takes its task on standard input.
//
// An adapter starts nothing. `prepare` describes the process, the worker starts it, the reader reads what it printed.
// This one does not look into standard output; it keeps the end of standard error for the message.

#include "text.h"

// TODO({{name}}): the program and the arguments of your agent.
static const char *const PROGRAM = "fake-agent";
static const char *const ARGS[] = {"--output", "jsonl"};

#define TAIL_BYTES 1000u

typedef exports_pangolin_runtime_adapter_adapter_fault_t fault;
typedef exports_pangolin_runtime_adapter_adapter_borrow_task_view_t task_view;
typedef exports_pangolin_runtime_adapter_adapter_borrow_report_t report;

struct exports_pangolin_runtime_adapter_adapter_reader_t {
  uint8_t tail[TAIL_BYTES];
  size_t tail_len;
};

bool exports_pangolin_runtime_adapter_adapter_prepare(
    task_view task, exports_pangolin_runtime_adapter_adapter_borrow_launch_plan_t out, fault *err) {
  plugin_string_t program = text(PROGRAM);
  pangolin_runtime_adapter_session_refusal_t refusal;
  if (!pangolin_runtime_adapter_session_method_launch_plan_program(out, &program, &refusal)) {
    *err = refused(&refusal);
    return false;
  }
  for (size_t i = 0; i < sizeof ARGS / sizeof ARGS[0]; i++) {
    plugin_string_t arg = text(ARGS[i]);
    pangolin_runtime_adapter_session_method_launch_plan_arg(out, &arg);
  }
  plugin_string_t model;
  if (pangolin_runtime_adapter_session_method_task_view_model(task, &model)) {
    plugin_string_t flag = text("--model");
    pangolin_runtime_adapter_session_method_launch_plan_arg(out, &flag);
    pangolin_runtime_adapter_session_method_launch_plan_arg(out, &model);
    plugin_string_free(&model);
  }
  plugin_string_t prompt;
  pangolin_runtime_adapter_session_method_task_view_prompt(task, &prompt);
  plugin_list_u8_t input = {prompt.ptr, prompt.len};
  pangolin_runtime_adapter_session_method_launch_plan_stdin(out, &input);
  plugin_string_free(&prompt);
  return true;
}

exports_pangolin_runtime_adapter_adapter_own_reader_t
exports_pangolin_runtime_adapter_adapter_constructor_reader(task_view task) {
  (void)task;
  exports_pangolin_runtime_adapter_adapter_reader_t *reader = calloc(1, sizeof *reader);
  if (reader == NULL) fail("out of memory");
  return exports_pangolin_runtime_adapter_adapter_reader_new(reader);
}

void exports_pangolin_runtime_adapter_adapter_reader_destructor(
    exports_pangolin_runtime_adapter_adapter_reader_t *reader) {
  free(reader);
}

// TODO({{name}}): what your agent prints. Chunks may end anywhere, also inside a character.
bool exports_pangolin_runtime_adapter_adapter_method_reader_feed(
    exports_pangolin_runtime_adapter_adapter_reader_t *reader,
    exports_pangolin_runtime_adapter_adapter_channel_t source, plugin_list_u8_t *data, report to, fault *err) {
  (void)to;
  (void)err;
  if (source != EXPORTS_PANGOLIN_RUNTIME_ADAPTER_ADAPTER_CHANNEL_ERR) return true;
  size_t take = data->len < TAIL_BYTES ? data->len : TAIL_BYTES;
  size_t keep = reader->tail_len < TAIL_BYTES - take ? reader->tail_len : TAIL_BYTES - take;
  memmove(reader->tail, reader->tail + reader->tail_len - keep, keep);
  memcpy(reader->tail + keep, data->ptr + data->len - take, take);
  reader->tail_len = keep + take;
  return true;
}

bool exports_pangolin_runtime_adapter_adapter_method_reader_finish(
    exports_pangolin_runtime_adapter_adapter_reader_t *reader,
    exports_pangolin_runtime_adapter_adapter_exit_info_t *exit, report to, fault *err) {
  (void)err;
  bool completed = exit->code.is_some && exit->code.val == 0;
  bool killed = exit->timed_out || exit->signal.is_some;
  // The contract's strings are UTF-8, what an agent prints need not be.
  for (size_t i = 0; i < reader->tail_len; i++) {
    if (reader->tail[i] < 0x20 || reader->tail[i] > 0x7e) reader->tail[i] = ' ';
  }
  plugin_string_t message = {reader->tail, completed ? 0 : reader->tail_len};
  plugin_string_t code = text(killed ? "killed" : completed ? "completed" : "agent-failed");
  pangolin_runtime_adapter_session_method_report_outcome(to, &code, &message);
  return true;
}
