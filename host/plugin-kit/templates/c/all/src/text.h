// Text for a plugin: the contract's strings have a length and no final zero byte.
#ifndef PLUGIN_TEXT_H
#define PLUGIN_TEXT_H

#include <stdlib.h>
#include <string.h>

#include "plugin.h"

// A constant as a string of the contract. Not to be freed.
static inline plugin_string_t text(const char *constant) {
  plugin_string_t string = {(uint8_t *)constant, strlen(constant)};
  return string;
}

// Ends the plugin with words for the operator.
_Noreturn static inline void fail(const char *why) {
  plugin_string_t message = text(why);
  pangolin_base_log_panicked(&message);
  abort();
}

// Both after each other, in new memory.
static inline plugin_string_t join(plugin_string_t left, plugin_string_t right) {
  plugin_string_t both = {malloc(left.len + right.len + 1), left.len + right.len};
  if (both.ptr == NULL) fail("out of memory");
  memcpy(both.ptr, left.ptr, left.len);
  memcpy(both.ptr + left.len, right.ptr, right.len);
  return both;
}

// In new memory: what a result hands over is freed by the generated code.
static inline plugin_string_t copy(plugin_string_t string) { return join(string, text("")); }

// `value` in decimal, in new memory.
static inline plugin_string_t decimal(uint64_t value) {
  char digits[21];
  size_t at = sizeof digits - 1;
  digits[at] = '\0';
  do {
    digits[--at] = (char)('0' + value % 10);
    value /= 10;
  } while (value > 0);
  return copy(text(digits + at));
}

// A fault that says what the host refused. Takes over the refusal.
static inline pangolin_base_types_fault_t refused(pangolin_base_types_refusal_t *refusal) {
  plugin_string_t start = join(refusal->capability, text(": "));
  pangolin_base_types_fault_t fault = {
      .code = copy(text("refused")),
      .message = join(start, refusal->reason),
      .retryable = false,
      .detail = {.is_some = false},
  };
  plugin_string_free(&start);
  pangolin_base_types_refusal_free(refusal);
  return fault;
}

#endif
