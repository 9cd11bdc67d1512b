// The part of the C library that a plugin and its generated bindings need. There is no operating system below.
#ifndef PLUGIN_STDLIB_H
#define PLUGIN_STDLIB_H

#include <stddef.h>

void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *memory, size_t size);
void free(void *memory);
_Noreturn void abort(void);

#endif
