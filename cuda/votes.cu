// Launches of votes.cuh.
#include "votes.cuh"

#include "launch.cuh"

namespace oscar::cuda {

namespace {

// Above this many tokens of a part, keys in registers pay twice as much (two MMA tiles a warp); below, more warps do.
constexpr uint32_t kManyVoteTokens = 1024;

template <int kDim, int kTiles>
cudaError_t launch_votes(VoteLaunch l, uint32_t n_tokens, bool dependent, cudaStream_t stream) {
  const VoteArgs& a = l.args;
  const uint64_t n_ctas = (n_tokens + kVoteWarps * 8 * kTiles - 1) / (kVoteWarps * 8 * kTiles);
  if (n_ctas * a.n_parts > INT32_MAX || a.c.n_kv_heads > UINT16_MAX) return cudaErrorInvalidValue;
  l.n_warps = static_cast<uint32_t>(n_ctas) * kVoteWarps;
  const dim3 grid(static_cast<uint32_t>(n_ctas) * a.n_parts, a.c.n_kv_heads);
  const auto run = [&](auto* kernel) { return launch(kernel, grid, kVoteThreads, dependent, stream, l); };
  const int64_t bytes = a.q.dtype == Dtype::kF32 ? 4 : 2;
  const bool whole = reinterpret_cast<uintptr_t>(a.q.data) % 16 == 0 && a.q.row_stride * bytes % 16 == 0 &&
                     a.q.head_stride * bytes % 16 == 0;
  if (!whole) return run(votes_kernel<kDim, kTiles, QueryLoad::kScalar>);
  switch (a.q.dtype) {
    case Dtype::kF32: return run(votes_kernel<kDim, kTiles, QueryLoad::kF32>);
    case Dtype::kF16: return run(votes_kernel<kDim, kTiles, QueryLoad::kF16>);
    default: return run(votes_kernel<kDim, kTiles, QueryLoad::kBF16>);
  }
}

template <int kDim>
cudaError_t launch_votes(const VoteLaunch& l, uint32_t n_tokens, bool dependent, cudaStream_t stream) {
  return n_tokens > kManyVoteTokens ? launch_votes<kDim, 2>(l, n_tokens, dependent, stream)
                                    : launch_votes<kDim, 1>(l, n_tokens, dependent, stream);
}

// The grid must serve whatever parts a replay finds. Only the shape is known here: n_rows new tokens, at least one of
// each part. A part with more tokens than this (several long sequences in a step) takes its warps several rounds.
uint32_t token_estimate(const VoteArgs& a) {
  const uint32_t most_new = a.n_rows - a.n_parts + 1, n_recent = a.c.n_recent;
  return most_new > kBlockTokens ? n_recent + kBlockTokens + most_new : n_recent + most_new;
}

}  // namespace

cudaError_t votes_launch(const VoteArgs& args, bool dependent, cudaStream_t stream) {
  if (args.n_parts == 0 || args.group == 0 || args.group > 32) return cudaErrorInvalidValue;
  const VoteLaunch l{args, 0, kVoteRows / args.group, (65535 + args.group) / args.group};
  const uint32_t n_tokens = token_estimate(args);
  switch (args.c.key_dim) {
    case 64: return launch_votes<64>(l, n_tokens, dependent, stream);
    case 80: return launch_votes<80>(l, n_tokens, dependent, stream);
    case 96: return launch_votes<96>(l, n_tokens, dependent, stream);
    case 128: return launch_votes<128>(l, n_tokens, dependent, stream);
    case 192: return launch_votes<192>(l, n_tokens, dependent, stream);
    case 256: return launch_votes<256>(l, n_tokens, dependent, stream);
    default: return cudaErrorInvalidValue;
  }
}

cudaError_t count_launch(const ClassView& c, const CountWork* jobs, uint32_t n_jobs, cudaStream_t stream) {
  if (uint64_t{n_jobs} * c.n_heads > INT32_MAX) return cudaErrorInvalidValue;
  return launch(count_kernel, dim3(n_jobs * c.n_heads), kUpkeepThreads, false, stream, c, jobs);
}

cudaError_t side_launch(const ClassView& c, const SideWork* jobs, uint32_t n_jobs, cudaStream_t stream) {
  if (uint64_t{n_jobs} * c.n_heads > INT32_MAX) return cudaErrorInvalidValue;
  return launch(side_kernel, dim3(n_jobs * c.n_heads), kUpkeepThreads, false, stream, c, jobs);
}

}  // namespace oscar::cuda
