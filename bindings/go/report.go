package oscar

// #include "shim.h"
import "C"

import "unsafe"

// Report is what a configuration costs for one sequence of Context tokens, before any memory is taken.
type Report struct {
	Served              bool    // NewCache will accept it, memory permitting
	Context             int     // tokens of the sequence
	BytesSequences      int     // all that grows with tokens: codes, scales, means, windows, scores, padding, tables
	BytesFixed          int     // the rest: calibration, workspace, bookkeeping
	BytesBF16           int     // the same tokens as BF16 keys and values
	BlockBytes          int     // one block of 128 tokens of one KV head of layer 0 (0 for exact storage)
	BitsPerElement      float64 // 8 BytesSequences / elements of keys and values
	BlockBitsPerElement float64 // of packed tokens alone: codes, scales, mean and ids
	Reason              string  // why it is not served, or advice; may be empty

	// Once a collecting cache is frozen; the fields above speak of it while it collects. The same for any other cache.
	BytesSequencesFrozen int
	BytesFixedFrozen     int // at most: KV heads that stay data-free take less
}

// Check says whether a configuration is served, and predicts its memory exactly: BytesSequences is what [Cache.Stats]
// reports when one sequence holds context tokens and a step for one more has begun. A configuration that is understood and
// not served is no error: Served is false, and Reason says why.
//
// Errors: ErrInvalid (a malformed configuration), ErrState (its calibration is closed).
func Check(config *Config, context int) (Report, error) {
	raw, layers, err := config.raw()
	if err != nil {
		return Report{}, err
	}
	tokens, err := count("context", context)
	if err != nil {
		return Report{}, err
	}
	calibration, err := config.Calibration.acquire()
	if err != nil {
		return Report{}, err
	}
	defer config.Calibration.release()
	var r C.oscar_cache_report
	self, frequencies, free, err := config.SelfCalibrate.raw()
	defer free()
	if err != nil {
		return Report{}, err
	}
	if err := check(C.oscar_go_cache_check(&raw, unsafe.SliceData(layers), calibration, &self, frequencies, tokens,
		&r)); err != nil {
		return Report{}, err
	}
	return Report{
		Served:              r.served != 0,
		Context:             int(r.context),
		BytesSequences:      int(r.bytes_sequences),
		BytesFixed:          int(r.bytes_fixed),
		BytesBF16:           int(r.bytes_bf16),
		BlockBytes:          int(r.block_bytes),
		BitsPerElement:      float64(r.bits_per_element),
		BlockBitsPerElement: float64(r.block_bits_per_element),
		Reason:              C.GoString(&r.reason[0]),

		BytesSequencesFrozen: int(r.bytes_sequences_frozen),
		BytesFixedFrozen:     int(r.bytes_fixed_frozen),
	}, nil
}

// CacheState says what a cache does with tokens that leave the recent window.
type CacheState int32

// Stats is what a cache holds now.
type Stats struct {
	NSequences     int
	NOpenSteps     int
	State          CacheState
	NTokens        int     // accepted tokens of all sequences
	NPackedTokens  int     // summed over sequences: the most tokens that any one layer reads from blocks
	NBlocks        int     // blocks of 128 tokens in use (reserved, while collecting), over all layer classes; shared ones count once
	NExactPages    int     // pages of 16 exact rows in use, over all layer classes
	NNonFinite     int     // elements that were NaN or infinite when packed, and were stored as 0
	BytesSequences int     // as in Report, for all sequences
	BytesFixed     int     // as in Report
	BytesSlabs     int     // capacity in slabs that hold something: BytesSequences and free places of the same kind
	BytesFree      int     // capacity in empty slabs, free for anything
	BitsPerElement float64 // 8 BytesSequences / elements of NTokens; 0 without tokens

	BytesCalibration int // part of BytesFixed: the transforms, and what is gathered while collecting

	BytesBase        int // BytesSequences by what they are for. Of blocks: 2-bit codes, scales, means, headers, and padding.
	BytesRefined     int // Of blocks: refinement codes and ids.
	BytesExact       int // Pages of exact rows.
	BytesScores      int // Votes of tokens that are not packed yet.
	BytesTables      int // Where a sequence has its blocks and pages.
	BytesShared      int // What would come on top of BytesSequences if nobody shared blocks.
	NSharedBlocks    int // Of NBlocks, those that more than one sequence holds.
	NBlockReferences int // Holds of blocks by sequences (and open steps): NBlocks where nothing is shared.
	NSteps           int // Since the cache was created: steps that have ended.
	NBlocksPacked    int // Blocks packed by steps that have begun or ended, and by freeze, over all layer classes.
	NRollbacks       int // Calls of truncate and accept that forgot tokens.
	NTokensForgotten int // Tokens that these forgot.
}

// Stats tells what the cache holds.
//
// Errors: ErrState (closed).
func (c *Cache) Stats() (Stats, error) {
	if err := c.share(); err != nil {
		return Stats{}, err
	}
	defer c.mu.RUnlock()
	var r C.oscar_cache_stats
	if err := check(C.oscar_go_cache_stats_get(c.handle, &r)); err != nil {
		return Stats{}, err
	}
	return Stats{
		NSequences:     int(r.n_sequences),
		NOpenSteps:     int(r.n_open_steps),
		State:          CacheState(r.state),
		NTokens:        int(r.n_tokens),
		NPackedTokens:  int(r.n_packed_tokens),
		NBlocks:        int(r.n_blocks),
		NExactPages:    int(r.n_exact_pages),
		NNonFinite:     int(r.n_non_finite),
		BytesSequences: int(r.bytes_sequences),
		BytesFixed:     int(r.bytes_fixed),
		BytesSlabs:     int(r.bytes_slabs),
		BytesFree:      int(r.bytes_free),
		BitsPerElement: float64(r.bits_per_element),

		BytesCalibration: int(r.bytes_calibration),

		BytesBase:        int(r.bytes_base),
		BytesRefined:     int(r.bytes_refined),
		BytesExact:       int(r.bytes_exact),
		BytesScores:      int(r.bytes_scores),
		BytesTables:      int(r.bytes_tables),
		BytesShared:      int(r.bytes_shared),
		NSharedBlocks:    int(r.n_shared_blocks),
		NBlockReferences: int(r.n_block_references),
		NSteps:           int(r.n_steps),
		NBlocksPacked:    int(r.n_blocks_packed),
		NRollbacks:       int(r.n_rollbacks),
		NTokensForgotten: int(r.n_tokens_forgotten),
	}, nil
}

// LayerStats is what was packed of one layer since its cache was created, by any sequence. An element is clipped where it
// lies beyond the outermost level's cell of its token's code. A block is worse where its transform is expected to lead to a
// larger error than a data-free one: the calibration was made from another distribution.
type LayerStats struct {
	NBlocks        int // packed, of each KV head by itself
	NKeyElements   int // packed
	NKeysClipped   int // of these
	NKeysWorse     int // of NBlocks, by their keys; 0 for heads whose keys are data-free
	NValueElements int // likewise of values
	NValuesClipped int
	NValuesWorse   int
	NNonFinite     int // elements of both that were NaN or infinite, and were stored as 0
}

// LayerStats counts what was packed of a layer; all 0 for one that is exact or has a KVSource: it packs nothing.
//
// Errors: ErrInvalid (there is no such layer); ErrUnsupported (the cache is on a device, whose kernels pack there and do not
// count); ErrState (closed).
func (c *Cache) LayerStats(layer int) (LayerStats, error) {
	at, err := index("layer", layer)
	if err != nil {
		return LayerStats{}, err
	}
	if err := c.share(); err != nil {
		return LayerStats{}, err
	}
	defer c.mu.RUnlock()
	var r C.oscar_layer_stats
	if err := check(C.oscar_go_layer_stats_get(c.handle, at, &r)); err != nil {
		return LayerStats{}, err
	}
	return LayerStats{
		NBlocks:        int(r.n_blocks),
		NKeyElements:   int(r.n_key_elements),
		NKeysClipped:   int(r.n_keys_clipped),
		NKeysWorse:     int(r.n_keys_worse),
		NValueElements: int(r.n_value_elements),
		NValuesClipped: int(r.n_values_clipped),
		NValuesWorse:   int(r.n_values_worse),
		NNonFinite:     int(r.n_non_finite),
	}, nil
}
