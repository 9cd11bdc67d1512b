// Memory and bytes, without an operating system.
//
// Every call of a plugin starts in a fresh instance, so the allocator may be simple: blocks have a power of two as
// their size, a freed block goes to the list of its size, memory is never given back.

#include <stdint.h>

#include "stdlib.h"
#include "string.h"

extern unsigned char __heap_base;

#define PAGE_BYTES 65536u
#define CLASSES 32

// Before each block; 16 bytes keep what follows aligned.
typedef union header {
  struct {
    uint32_t class;
    union header *next;
  } is;
  unsigned char bytes[16];
} header;

static header *freed[CLASSES];
static uintptr_t heap_next;

static uint32_t class_of(size_t size) {
  uint32_t class = 4;
  while (class < CLASSES && ((size_t)1 << class) < size) class++;
  return class;
}

static size_t capacity(const header *block) { return (size_t)1 << block->is.class; }

void *malloc(size_t size) {
  uint32_t class = class_of(size);
  if (class >= CLASSES - 1) return NULL;
  header *block = freed[class];
  if (block != NULL) {
    freed[class] = block->is.next;
    return block + 1;
  }
  if (heap_next == 0) heap_next = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
  uint64_t end = (uint64_t)heap_next + sizeof(header) + ((uint64_t)1 << class);
  uint64_t have = (uint64_t)__builtin_wasm_memory_size(0) * PAGE_BYTES;
  if (end > have) {
    uint64_t pages = (end - have + PAGE_BYTES - 1) / PAGE_BYTES;
    if (__builtin_wasm_memory_grow(0, (size_t)pages) == (size_t)-1) return NULL;
  }
  block = (header *)heap_next;
  block->is.class = class;
  heap_next = (uintptr_t)end;
  return block + 1;
}

void free(void *memory) {
  if (memory == NULL) return;
  header *block = (header *)memory - 1;
  block->is.next = freed[block->is.class];
  freed[block->is.class] = block;
}

void *calloc(size_t count, size_t size) {
  size_t total;
  if (__builtin_mul_overflow(count, size, &total)) return NULL;
  void *memory = malloc(total);
  return memory == NULL ? NULL : memset(memory, 0, total);
}

void *realloc(void *memory, size_t size) {
  if (memory == NULL) return malloc(size);
  size_t old = capacity((header *)memory - 1);
  if (size <= old) return memory;
  void *moved = malloc(size);
  if (moved == NULL) return NULL;
  memcpy(moved, memory, old);
  free(memory);
  return moved;
}

_Noreturn void abort(void) { __builtin_trap(); }

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
  unsigned char *out = to;
  const unsigned char *in = from;
  for (size_t i = 0; i < size; i++) out[i] = in[i];
  return to;
}

void *memmove(void *to, const void *from, size_t size) {
  unsigned char *out = to;
  const unsigned char *in = from;
  if ((uintptr_t)out < (uintptr_t)in) {
    for (size_t i = 0; i < size; i++) out[i] = in[i];
  } else {
    for (size_t i = size; i > 0; i--) out[i - 1] = in[i - 1];
  }
  return to;
}

void *memset(void *to, int byte, size_t size) {
  unsigned char *out = to;
  for (size_t i = 0; i < size; i++) out[i] = (unsigned char)byte;
  return to;
}

int memcmp(const void *left, const void *right, size_t size) {
  const unsigned char *a = left, *b = right;
  for (size_t i = 0; i < size; i++) {
    if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
  }
  return 0;
}

size_t strlen(const char *text) {
  size_t size = 0;
  while (text[size] != '\0') size++;
  return size;
}
