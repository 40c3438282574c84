// Package cloop times calls of the C ABI made by C itself: what the benchmarks of the binding are compared with.
package cloop

/*
#cgo pkg-config: oscar
#include <string.h>
#include <oscar/oscar.h>

// What the timed calls work on: a step of one token without a past.
typedef struct oscar_go_loop {
	oscar_cache *cache;
	oscar_seq seq;
	oscar_step step;
	float q[4 * 64], k[2 * 64], v[2 * 64], out[4 * 64];
} oscar_go_loop;

static oscar_tensor oscar_go_loop_tensor(float *data, int64_t heads) {
	oscar_tensor t = {.data = data, .device_type = OSCAR_DEVICE_CPU, .dtype_code = OSCAR_DTYPE_FLOAT, .dtype_bits = 32};
	t.dtype_lanes = 1, t.ndim = 3;
	t.shape[0] = 1, t.shape[1] = heads, t.shape[2] = 64;
	return t;
}

static oscar_status oscar_go_loop_open(oscar_go_loop *l) {
	memset(l, 0, sizeof *l);
	for (int i = 0; i < 4 * 64; ++i) l->q[i] = (float)(i * 37 % 64) / 32 - 1;
	for (int i = 0; i < 2 * 64; ++i) l->k[i] = l->v[i] = (float)(i * 29 % 64) / 32 - 1;
	oscar_cache_config config;
	oscar_status s = oscar_cache_config_init(&config, sizeof config, "2bit");
	config.n_layers = 1, config.n_q_heads = 4, config.n_kv_heads = 2, config.key_dim = 64;
	config.n_sink = 4, config.n_recent = 32, config.max_rollback = 8; // as newConfig in support_test.go
	config.max_sequences = 8, config.max_open_steps = 4, config.max_tokens = 4096, config.capacity_bytes = 16 << 20;
	if (!s) s = oscar_cache_create(&config, &l->cache);
	if (!s) s = oscar_seq_open(l->cache, &l->seq);
	const oscar_step_entry entry = {l->seq, 1, 0};
	const oscar_step_args args = {.struct_size = sizeof args, .n_entries = 1, .entries = &entry};
	if (!s) s = oscar_step_begin(l->cache, &args, NULL, &l->step);
	return s;
}

static oscar_status oscar_go_loop_append(oscar_go_loop *l, int n) {
	oscar_status s = OSCAR_OK;
	while (n-- > 0 && !s) {
		oscar_append_args args = {.struct_size = sizeof args};
		args.k = oscar_go_loop_tensor(l->k, 2), args.v = oscar_go_loop_tensor(l->v, 2);
		s = oscar_append(l->cache, l->step, &args, NULL);
	}
	return s;
}

static oscar_status oscar_go_loop_attend(oscar_go_loop *l, int n) {
	oscar_status s = OSCAR_OK;
	while (n-- > 0 && !s) {
		oscar_attend_args args = {.struct_size = sizeof args};
		args.q = oscar_go_loop_tensor(l->q, 4), args.out = oscar_go_loop_tensor(l->out, 4);
		s = oscar_attend(l->cache, l->step, &args, NULL);
	}
	return s;
}

static oscar_status oscar_go_loop_length(oscar_go_loop *l, int n) {
	oscar_status s = OSCAR_OK;
	uint64_t length;
	while (n-- > 0 && !s) s = oscar_seq_length(l->cache, l->seq, &length);
	return s;
}
*/
import "C"

import (
	"fmt"
	"time"
)

// Times are how long calls from C take: oscar_append and oscar_attend with one token that has no past, and
// oscar_seq_length.
type Times struct{ Append, Attend, Length time.Duration }

// Batch is how many calls are timed together; the least of NBatches counts: other programs only ever add time.
const Batch, NBatches = 1000, 300

// Measure times the calls.
func Measure() (Times, error) {
	var loop C.oscar_go_loop
	defer func() { C.oscar_cache_destroy(loop.cache) }()
	if status := C.oscar_go_loop_open(&loop); status != C.OSCAR_OK {
		return Times{}, fmt.Errorf("status %d", status)
	}
	var times Times
	for _, timed := range []struct {
		into *time.Duration
		call func() C.oscar_status
	}{
		{&times.Append, func() C.oscar_status { return C.oscar_go_loop_append(&loop, Batch) }},
		{&times.Attend, func() C.oscar_status { return C.oscar_go_loop_attend(&loop, Batch) }},
		{&times.Length, func() C.oscar_status { return C.oscar_go_loop_length(&loop, Batch) }},
	} {
		*timed.into = time.Hour
		for range NBatches {
			start := time.Now()
			if status := timed.call(); status != C.OSCAR_OK {
				return Times{}, fmt.Errorf("status %d", status)
			}
			*timed.into = min(*timed.into, time.Since(start)/Batch)
		}
	}
	return times, nil
}
