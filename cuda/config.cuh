// How a CTA is made up: its warps, its shared memory.
//
// Shared memory, in this order (bytes for D = 128, h = 4, one tile of two sets, 16 consumer warps):
//   ring      kStages * P::kStage     16 * 8864  blocks and pages as they arrive
//   reduce    kReduce                 66560      merge of the warps, then of the CTAs
//   queries   QueryOperands           6208
//   lse       8 * kTiles floats       32
//   full, empty  8 * kStages each                mbarriers
//   spans     8 * kStages                        StageSpan of what a stage holds
//   flag      8, segment_ctas 8
//
// kWarps consumer warps in groups; a group takes a stage together: for each row tile two warps, one for each half of the
// block. One producer warp. A stage belongs to one group for ever (kStages is a multiple of kGroups): a group that runs
// a ring ahead of a late copy would else pass the other parity of its barrier and read what has not arrived.
#pragma once
#include "profile.cuh"
#include "query.cuh"
#include "state.cuh"

namespace oscar::cuda {

struct StageSpan {
  uint32_t start;
  uint32_t limits;  // first | last << 8 | page << 16
};

constexpr int larger_of(int a, int b) { return a > b ? a : b; }

template <class P_, int kTiles_, int kSets_, int kWarps_, int kCtasPerSm_, bool kInvariant_ = false>
struct Config {
  using P = P_;
  static constexpr bool kInvariant = kInvariant_;  // for plan_step_invariant
  static constexpr int kTiles = kTiles_, kSets = kSets_, kCtasPerSm = kCtasPerSm_;
  static constexpr int kWarps = kWarps_, kConsumers = kWarps * 32, kThreads = kConsumers + 128;
  static_assert(kWarps == 8 || kWarps == 16);
  static_assert(kCtasPerSm == 1 || (kCtasPerSm == 2 && kInvariant));
  // Registers move from the producer's group of four warps, of which one works, to the consumers. A spill in the
  // producer's loop costs 2 us where an SM has 16 consumer warps (H100, 100K tokens), 5 % where it has 8 (16 times that).
  static constexpr int kConsumerRegisters = kWarps == 16 || kCtasPerSm == 2 ? 104 : 208;
  static constexpr int kProducerRegisters = kWarps == 16 ? 64 : kCtasPerSm == 2 ? 32 : 80;
  // A CTA is launched with equal shares for all its threads, in steps of 8; what it has then is all it can move. Asking
  // for more waits for ever.
  static constexpr int kLaunchRegisters = 65536 / (kCtasPerSm * kThreads) / 8 * 8;
  static_assert(kWarps * kConsumerRegisters + 4 * kProducerRegisters <= (kWarps + 4) * kLaunchRegisters);
  // Arrivals that fill a stage: of a page, one after each lane's copies and one for the span. Of a block, one lane
  // makes them all.
  static constexpr uint32_t kFullArrivals = 33;
  // Arrivals that free a stage: one lane of each warp, after the warp has synchronised. compute-sanitizer's racecheck does
  // not follow that, so for it every lane arrives.
#ifdef OSCAR_RACECHECK
  static constexpr bool kEveryLaneArrives = true;
#else
  static constexpr bool kEveryLaneArrives = false;
#endif

  static constexpr int kGroupWarps = 2 * kTiles, kGroups = kWarps / kGroupWarps;
  static_assert(kTiles == 1 || kTiles == 2 || kTiles == 4);
  using Queries = QueryOperands<P::kDk, kTiles, kSets>;
  static constexpr int kTileRows = Queries::kTileRows, kRows = kTiles * kTileRows;

  // A warp's place in `reduce`: float2 out[Dv / 8][32], float2 {largest, sum}[8].
  static constexpr int kWarpSums = P::kDv / 8 * 32, kWarpBytes = (kWarpSums + 8) * 8;
  // Merge of the CTAs: two sums of kRows rows and then kDenseRows rows of every warp, or two sums of fewer than 1024
  // floats together and kConsumers partial columns.
  static constexpr int kDenseRows = kTiles == 4 || P::kDv > 128 ? 2 : 4;
  static constexpr int kColumnBytes = 2 * 16 + 8;
  static constexpr int kMergeBytes = larger_of((2 * kRows + kWarps * kDenseRows) * P::kDv * 4,
                                               2 * 1024 * 4 + kConsumers * kColumnBytes);
  // Batch-invariant merge: two sums of kRows rows and kChunkParts partial columns of each.
  static constexpr int kChunkParts = 2, kColumns = kRows * P::kDv / 4;
  static constexpr int kChunkMergeBytes = kInvariant ? 2 * kRows * P::kDv * 4 + kChunkParts * kColumns * kColumnBytes
                                                     : 0;
  // And of a chunk's warps, two chunks at a time: float2 out[Dv / 8][kTileRows * 4], {largest, sum}[kTileRows].
  static_assert(!kInvariant || (kTiles == 1 && kTileRows == kInvariantQueries && kWarps == 8));
  static constexpr int kChunkSums = P::kDv / 8 * kTileRows * 4, kChunkWarpBytes = (kChunkSums + kTileRows) * 8;
  static constexpr int kChunkBarriers = kInvariant ? 4 : 0;
  static_assert(!kInvariant || 2 * kChunkWarpBytes <= kWarpBytes);
  static constexpr int kReduce = larger_of(kWarps * kWarpBytes, larger_of(kMergeBytes, kChunkMergeBytes));

  static constexpr int kFixed = kReduce + static_cast<int>(sizeof(Queries)) + kRows * 4 + kChunkBarriers * 8 + 16;
  static constexpr int kStageTotal = P::kStage + 2 * 8 + static_cast<int>(sizeof(StageSpan));
  // 228 KB an SM, 1 KB of it for the system per CTA; 227 KB at most a CTA.
  static constexpr int kAvailable = kCtasPerSm == 2 ? 115200 : 232448;
  static constexpr int kFit = (kAvailable - kFixed) / kStageTotal;
  static constexpr int kStages = (kFit > 24 ? 24 : kFit) / kGroups * kGroups;

  static constexpr int kSharedBytes = kFixed + kStages * kStageTotal;
};

template <class C>
struct SharedMemory {
  uint8_t* base;
  __device__ __forceinline__ uint8_t* stage(int s) const { return base + s * C::P::kStage; }
  __device__ __forceinline__ uint8_t* reduce() const { return base + C::kStages * C::P::kStage; }
  __device__ __forceinline__ typename C::Queries& queries() const {
    return *reinterpret_cast<typename C::Queries*>(reduce() + C::kReduce);
  }
  __device__ __forceinline__ float* lse() const { return reinterpret_cast<float*>(&queries() + 1); }
  __device__ __forceinline__ uint64_t* full() const { return reinterpret_cast<uint64_t*>(lse() + C::kRows); }
  __device__ __forceinline__ uint64_t* empty() const { return full() + C::kStages; }
  // Batch-invariant, of the even and the odd chunks: all warps have stored their states; all have reduced them.
  __device__ __forceinline__ uint64_t* chunk_barriers() const { return empty() + C::kStages; }
  __device__ __forceinline__ StageSpan* spans() const {
    return reinterpret_cast<StageSpan*>(chunk_barriers() + C::kChunkBarriers);
  }
  __device__ __forceinline__ volatile uint32_t* flag() const {
    return reinterpret_cast<volatile uint32_t*>(spans() + C::kStages);
  }
  // Of the segment at hand.
  __device__ __forceinline__ SegmentCtas* segment_ctas() const {
    return reinterpret_cast<SegmentCtas*>(spans() + C::kStages + 1);
  }
};

// The segment a CTA works on.
struct Segment {
  SequenceWork seq;
  uint32_t index;        // of the sequence
  uint32_t head;         // KV head
  uint32_t begin;        // first item
  uint32_t first_cta;    // that has items of it
  uint32_t first_chunk;  // batch-invariant: number of the segment's first chunk
  __device__ __forceinline__ uint32_t middle() const { return begin + seq.n_blocks; }
  __device__ __forceinline__ uint32_t end() const { return middle() + seq.n_pages; }
};

// Partial results in the workspace. A CTA has at most one segment that began before it and one that began in it at a
// time, each with a part over blocks (0) and a part over exact rows (1): four places. Batch-invariant: a place a chunk.
template <class C>
struct Partials {
  static constexpr uint64_t kBytes = uint64_t{C::kRows} * (8 + C::P::kDv * 4);
  uint8_t* base;
  __device__ __forceinline__ float2* sums(uint64_t place) const {  // [kRows]: largest, sum
    return reinterpret_cast<float2*>(base + place * kBytes);
  }
  __device__ __forceinline__ float* out(uint64_t place) const {  // [kRows][Dv]
    return reinterpret_cast<float*>(base + place * kBytes + C::kRows * sizeof(float2));
  }
  static __device__ __forceinline__ uint64_t place(uint32_t cta, uint32_t first_cta, uint32_t part) {
    return (uint64_t{cta} * 2 + (cta == first_cta)) * 2 + part;
  }
};

OSCAR_HD constexpr uint64_t counter_bytes(uint32_t n_segments) { return (uint64_t{n_segments} * 4 + 255) / 256 * 256; }

template <class C>
__device__ __forceinline__ Partials<C> partials_of(const AttendArgs& args) {
  return {static_cast<uint8_t*>(args.workspace) + counter_bytes(args.n_segments)};
}

}  // namespace oscar::cuda
