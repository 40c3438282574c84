// Package callocator is an allocator of the C ABI that counts, for the tests: Go's test files cannot hold C themselves.
package callocator

/*
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

static _Atomic int64_t oscar_go_test_live;

static void *oscar_go_test_allocate(void *user, uint64_t size, uint64_t alignment) {
	void *memory = NULL;
	(void)user;
	if (posix_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment, size)) return NULL;
	atomic_fetch_add(&oscar_go_test_live, (int64_t)size);
	return memory;
}

static void oscar_go_test_release(void *user, void *memory, uint64_t size, uint64_t alignment) {
	(void)user;
	(void)alignment;
	if (memory) atomic_fetch_sub(&oscar_go_test_live, (int64_t)size);
	free(memory);
}

static int64_t oscar_go_test_count(void) { return atomic_load(&oscar_go_test_live); }
static void *oscar_go_test_allocate_address(void) { return (void *)oscar_go_test_allocate; }
static void *oscar_go_test_release_address(void) { return (void *)oscar_go_test_release; }
*/
import "C"

import "unsafe"

// Functions are the addresses of the allocator's two C functions.
func Functions() (allocate, release unsafe.Pointer) {
	return C.oscar_go_test_allocate_address(), C.oscar_go_test_release_address()
}

// LiveBytes is what was allocated and has not been released.
func LiveBytes() int { return int(C.oscar_go_test_count()) }
