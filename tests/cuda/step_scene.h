// A random step of one layer: a class, sequences with their pages and votes, tensors; for the host engine (whose
// attention is VoteReference) and for the kernels of cuda/append.h, over the same arena bytes.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "append.h"
#include "backend/host_engine.h"
#include "device_buffer.h"
#include "random_work.h"

namespace oscar::testing {

// Attention over the exact rows alone, in double, for rows that vote: their log-sum-exp and votes. `flat`: queries are
// 0 and the log-sum-exp is k log 2, k by position, so that votes are exact and only the order of additions matters.
class VoteReference final : public Backend {
 public:
  bool flat = false;

  const char* name() const override { return "votes"; }
  size_t scratch_bytes(uint32_t, uint32_t) const override { return 64; }
  void attend_splits(const AttendWork&, float*, void*) const override {}
  void pack(const PackWork&, void*) const override { std::abort(); }
  void unpack(const BlockLayout&, const HeadTransform&, uint32_t, uint32_t, const uint8_t*, uint32_t, uint32_t, float*,
              float*, void*) const override {
    std::abort();
  }

  void attend(const AttendWork& w, void*) const override {
    std::fill_n(w.out, uint64_t{w.n_tile_rows} * w.value_dim, 0.0f);
    std::fill_n(w.lse, w.n_tile_rows, 0.0f);
    for (uint32_t r = 0; r < w.n_tile_rows; ++r) attend_row(w, r);
  }

 private:
  static bool sees(const AttendWork& w, uint32_t i, uint64_t token) {
    const uint64_t own = w.first_position + i;
    if (token == own) return true;
    if (token > own || (w.window > 0 && own - token >= w.window)) return false;
    return !w.mask || token < w.first_position || w.mask[i * w.mask_stride + (token - w.first_position)] != 0;
  }

  void attend_row(const AttendWork& w, uint32_t r) const {
    const uint32_t i = static_cast<uint32_t>((w.first_row + r) / w.group);
    if (i < w.n_new - w.n_voters) return;
    const uint64_t own = w.first_position + i;
    const float* q = w.q + r * w.key_dim;
    std::vector<std::pair<uint64_t, double>> logits;
    double sum = 0.0;
    for (uint32_t s = 0; s < w.n_rows; ++s)
      for (uint32_t t = 0; t < w.rows[s].n; ++t) {
        const uint64_t token = w.rows[s].position + t;
        if (!sees(w, i, token)) continue;
        const uint16_t* key = w.rows[s].key + uint64_t{t} * w.rows[s].key_stride;
        double dot = 0.0;
        if (!flat)
          for (uint32_t d = 0; d < w.key_dim; ++d)
            dot += (std::isfinite(q[d]) ? static_cast<double>(q[d]) : NAN) * static_cast<double>(bf16_to_f32(key[d]));
        dot *= static_cast<double>(w.scale);
        const double cap = static_cast<double>(w.softcap);
        if (cap > 0.0) dot = cap * std::tanh(dot / cap);
        logits.push_back({token, dot});
        sum += std::exp(dot);
      }
    const int halvings = static_cast<int>((own * 2654435761u >> 7) % 25);
    // Blocks, which this scene has none of, would have their share of the mass.
    w.lse[r] = flat ? static_cast<float>(halvings * std::log(2.0))
                    : static_cast<float>(std::log(sum) + static_cast<double>(own % 7) * 0.2);
    if (!std::isfinite(w.lse[r])) return;
    float* line = w.votes + (i - (w.n_new - w.n_voters)) * w.vote_stride;
    for (const auto& [token, logit] : logits)
      if (token >= w.vote_first && token < own)
        line[token - w.vote_first] += flat ? std::ldexp(1.0f, -halvings)
                                           : static_cast<float>(std::exp(logit - static_cast<double>(w.lse[r])));
  }
};

// A tensor of the caller, with strides of its own.
struct SceneTensor {
  std::vector<uint8_t> bytes;
  Dtype dtype = Dtype::kF32;
  int64_t row_stride = 0, head_stride = 0;
  uint64_t start = 0;  // bytes

  static uint64_t size_of(Dtype dtype) { return dtype == Dtype::kF32 ? 4 : 2; }
  void shape(uint64_t rows, uint32_t heads, uint32_t dim, Random& random) {
    dtype = static_cast<Dtype>(random.below(3));
    const uint32_t odd = random.chance(0.5) ? 1 : 8;  // elements: pieces on 16 bytes, or not
    head_stride = dim + odd * random.below(3);
    row_stride = head_stride * heads + odd * random.below(4);
    start = random.chance(0.5) ? 0 : odd * size_of(dtype);
    bytes.assign(start + (rows + 1) * row_stride * size_of(dtype), 0xff);
  }
  void put(uint64_t row, uint32_t head, uint32_t d, float x) {
    uint8_t* at = bytes.data() + start + (row * row_stride + head * head_stride + d) * size_of(dtype);
    const uint16_t half = dtype == Dtype::kF16 ? f32_to_f16(x) : f32_to_bf16(x);
    dtype == Dtype::kF32 ? std::memcpy(at, &x, 4) : std::memcpy(at, &half, 2);
  }
  TensorView host() { return {bytes.data() + start, dtype, row_stride, head_stride}; }
  cuda::TensorView device(uint8_t* copy) const {
    return {copy + start, row_stride, head_stride, static_cast<cuda::Dtype>(dtype)};
  }
};

struct StepScene {
  static constexpr uint32_t kLayers = 3, kLayer = 1;

  struct Shape {
    uint32_t n_entries = 0, n_long = 0;  // at most 600 new tokens
    bool flat = false, spoiled = false;
  };

  EnginePlan plan;
  EngineSizes sizes;
  std::vector<StepEntry> entries;
  std::vector<StepPart> parts;
  std::vector<std::vector<Unit>> pages;  // by entry
  std::vector<uint8_t> arena;
  std::vector<cuda::PartWork> works;
  std::vector<Unit> page_table;
  SceneTensor k, v, q;
  std::vector<float> lse;
  std::vector<uint8_t> mask;
  uint32_t n_rows = 0, max_new = 1, group = 1;
  bool has_mask = false;
  float scale = 1.0f, softcap = 0.0f;
  VoteReference reference;
  std::unique_ptr<Calibration> calibration;

  const LayerClass& c() const { return plan.classes[0]; }
  uint32_t n_q_heads() const { return plan.layers[kLayer].n_q_heads; }
  int64_t lse_stride() const { return n_q_heads() + 3; }
  StepView view() { return {0, n_rows, entries, parts, {}}; }

  StepScene(const Shape& shape, Random& random) {
    reference.flat = shape.flat;
    make_plan(random);
    for (uint32_t i = 0; i < shape.n_entries; ++i) make_entry(i < shape.n_long, random);
    plan.max_step_tokens = std::max(n_rows, 130u);
    plan.max_tokens = 1 << 16;
    plan.max_sequences = shape.n_entries;
    plan.max_open_steps = 1;
    sizes = EngineSizes(plan);
    make_arena(random);
    make_tables();
    make_tensors(shape, random);
  }

  // Its arena is not filled.
  std::unique_ptr<HostEngine> host() {
    const std::vector<LayerGeometry> geometry(kLayers, {c().n_kv_heads, c().key_dim, c().value_dim});
    calibration = std::make_unique<Calibration>(Calibration::data_free(geometry));
    return std::make_unique<HostEngine>(plan, *calibration, reference, arena.size(), std::pmr::new_delete_resource());
  }
  AttendRequest request(std::vector<uint8_t>& out) {
    AttendRequest r{};
    r.layer = kLayer;
    r.q = q.host();
    out.assign(uint64_t{n_rows} * n_q_heads() * c().value_dim * 4, 0);
    r.out = {out.data(), Dtype::kF32, int64_t{n_q_heads()} * c().value_dim, c().value_dim};
    r.lse = {lse.data(), Dtype::kF32, lse_stride(), 1};
    if (has_mask) r.mask = {mask.data(), Dtype::kU8, max_new, 1};
    r.scale = scale;
    r.softcap = softcap;
    return r;
  }
  cuda::ClassView class_view(uint8_t* pool, const uint32_t* table) const {
    const VoteLayout& votes = c().vote_layout;
    return {pool,
            table,
            c().n_kv_heads,
            static_cast<uint32_t>(c().heads()),
            c().key_dim,
            c().value_dim,
            c().n_sink,
            plan.n_recent,
            plan.max_rollback,
            c().votes,
            votes.n_scores,
            votes.n_lines,
            votes.n_line,
            c().head_page_bytes,
            votes.bytes()};
  }

 private:
  static uint64_t units(uint64_t bytes) { return (bytes + kUnitAlignment - 1) / kUnitAlignment; }

  void make_plan(Random& random) {
    LayerClass l;
    l.n_kv_heads = random.between(1, 3);
    l.key_dim = random.pick({64, 80, 96, 128, 192, 256});
    l.value_dim = random.chance(0.5) ? l.key_dim : random.pick({64, 80, 96, 128, 192, 256});
    plan.n_recent = random.between(16, 300);
    plan.max_rollback = random.between(1, std::min(plan.n_recent, 32u));
    l.exact = random.chance(0.1);
    if (random.chance(0.3)) l.window = l.exact ? random.between(1, 500) : plan.n_recent + 257 + random.below(200);
    l.n_layers = kLayers;
    l.n_sink = l.window > 0 || l.exact ? 0 : random.below(40);
    l.shape = {l.key_dim, l.value_dim, 4, 2, 2};
    l.layout = block_layout(l.shape);
    l.votes = !l.exact;
    if (l.votes) l.vote_layout = VoteLayout(plan.n_recent, plan.max_rollback);
    l.head_page_bytes = uint64_t{kPageTokens} * (l.key_dim + l.value_dim) * 2;
    l.unit_bytes[static_cast<int>(UnitKind::kPage)] = units(l.heads() * l.head_page_bytes) * kUnitAlignment;
    l.unit_bytes[static_cast<int>(UnitKind::kScores)] = units(l.heads() * l.vote_layout.bytes()) * kUnitAlignment;
    group = random.pick({1, 2, 3, 4, 4, 5, 7, 8, 12, 16, 32});
    for (uint32_t i = 0; i < kLayers; ++i) {
      LayerPlan layer;
      layer.n_q_heads = l.n_kv_heads * group;
      layer.kv_source = layer.last_consumer = layer.index_in_class = i;
      plan.layers.push_back(layer);
    }
    plan.classes.push_back(l);
  }

  // Cache::aged_blocks and keep_from (cache/plan.cpp).
  uint64_t aged_blocks(uint64_t packed_end, uint64_t n_tokens) const {
    if (c().exact || n_tokens < packed_end + plan.n_recent) return 0;
    return (n_tokens - plan.n_recent - packed_end) / kBlockTokens;
  }
  uint64_t keep_from(uint64_t n_tokens) const {
    const uint64_t behind = uint64_t{c().window} + plan.max_rollback;
    return c().window > 0 && n_tokens > behind ? n_tokens - behind : 0;
  }

  void make_entry(bool is_long, Random& random) {
    StepEntry e{};
    const uint32_t kind = random.below(4);
    e.n_new = is_long     ? random.between(kBlockTokens + 1, 600)
              : kind == 0 ? random.between(1, kBlockTokens)
              : kind == 1 ? random.between(1, 2 * plan.max_rollback)
                          : random.between(1, 2);
    e.n_draft = random.chance(0.5) ? 0 : random.below(std::min(plan.max_rollback, e.n_new + 1));
    e.slot = random.chance(0.1) ? kPaddingSlot : static_cast<uint32_t>(entries.size());
    e.row = n_rows;
    e.classes = static_cast<uint32_t>(parts.size());
    n_rows += e.n_new;
    max_new = std::max(max_new, e.n_new);
    pages.emplace_back();
    if (e.slot != kPaddingSlot) {
      e.base = random.chance(0.2) ? random.below(50) : random.below(1500);
      parts.push_back(make_part(e, random));
    }
    entries.push_back(e);
  }

  StepPart make_part(const StepEntry& e, Random& random) {  // Cache::plan_entry
    StepPart p;
    const uint64_t old = plan.n_recent + random.below(kBlockTokens), sure_end = e.base + e.n_sure();
    uint64_t packed_end = e.base > old + c().n_sink ? e.base - old : c().n_sink;
    if (c().exact) packed_end = 0;
    p.sequence.packed_end = p.sequence.exact_from = p.packed_end = packed_end;
    p.sequence.kept_from = keep_from(e.base);
    p.sequence.side = random.below(2);
    p.persist_from = e.base;
    if (!e.is_long()) return p;
    const uint64_t kept = keep_from(sure_end), n_packed = aged_blocks(packed_end, sure_end);
    const uint64_t n_gone = kept > packed_end ? std::min((kept - packed_end) / kBlockTokens, n_packed) : 0;
    p.first_start = packed_end + n_gone * kBlockTokens;
    p.n_blocks = static_cast<uint32_t>(n_packed - n_gone);
    p.packed_end += n_packed * kBlockTokens;
    p.persist_from = std::max(e.base, c().exact ? kept : p.packed_end);
    p.uses_scratch = p.ages = p.persist_from > e.base;
    return p;
  }

  bool holds(const StepEntry& e, const StepPart& p, uint64_t token) const {
    if (token < c().n_sink) return token < e.end();
    if (token >= e.base) return token < e.end() && token >= p.persist_from;
    return token >= std::max(p.sequence.packed_end, p.sequence.kept_from);
  }

  void make_arena(Random& random) {
    uint64_t unit = 1, offset = 0;
    const auto take = [&](UnitKind kind) {
      const uint64_t at = unit;
      unit += units(c().unit_bytes[static_cast<int>(kind)]) + random.below(2);
      return static_cast<Unit>(at);
    };
    for (size_t i = 0; i < entries.size(); ++i) {
      const StepEntry& e = entries[i];
      if (e.slot == kPaddingSlot) continue;
      StepPart& p = parts[e.classes];
      for (uint64_t token = 0; token < e.end(); token += kPageTokens) {
        bool needed = false;
        for (uint64_t t = token; t < token + kPageTokens; ++t) needed = needed || holds(e, p, t);
        pages[i].push_back(needed ? take(UnitKind::kPage) : kNoUnit);
      }
      p.sequence.pages = pages[i];
      p.sequence.scores = c().votes ? take(UnitKind::kScores) : kNoUnit;
      if (!e.is_long()) continue;
      p.vote_offset = offset;
      if (c().votes) offset += e.end() - std::min(e.end(), p.sequence.packed_end);
    }
    arena.resize(unit * kUnitAlignment);
    uint16_t* words = reinterpret_cast<uint16_t*>(arena.data());  // small numbers of either sign, in BF16
    for (size_t i = 0; i < arena.size() / 2; ++i) words[i] = f32_to_bf16(static_cast<float>(random.uniform() * 4 - 2));
    for (const StepPart& p : parts) fill_votes(p, random);
  }

  void fill_votes(const StepPart& p, Random& random) {
    if (!c().votes) return;
    for (uint32_t h = 0; h < c().heads(); ++h) {
      const VoteLayout& l = c().vote_layout;
      const VoteArea area{arena.data() + p.sequence.scores * kUnitAlignment + h * l.bytes(), l};
      for (uint32_t i = 0; i < 2 * l.n_scores; ++i)
        area.score(0, 0), reinterpret_cast<float*>(area.base)[i] = static_cast<float>(random.uniform() * 3);
      for (uint32_t i = 0; i < l.n_lines * l.n_line; ++i)
        area.line(0)[i] = f32_to_f16(static_cast<float>(std::ldexp(random.uniform(), -random.between(0, 20))));
    }
  }

  void make_tables() {
    for (size_t i = 0; i < entries.size(); ++i) {
      const StepEntry& e = entries[i];
      cuda::PartWork w{};
      w.row = e.row;
      w.n_new = e.n_new;
      w.n_draft = e.n_draft;
      w.base = cuda::kPaddingBase;
      if (e.slot != kPaddingSlot) {
        const StepPart& p = parts[e.classes];
        w.base = static_cast<uint32_t>(e.base);
        w.uses_scratch = p.uses_scratch;
        w.page_begin = static_cast<uint32_t>(page_table.size());
        w.persist_from = static_cast<uint32_t>(p.persist_from);
        w.packed_end = static_cast<uint32_t>(p.sequence.packed_end);
        w.next_packed_end = static_cast<uint32_t>(p.packed_end);
        w.first_start = static_cast<uint32_t>(p.first_start);
        w.n_chunk_blocks = p.n_blocks;
        w.scores = p.sequence.scores;
        w.side = p.sequence.side;
        w.vote_offset = static_cast<uint32_t>(p.vote_offset);
        page_table.insert(page_table.end(), pages[i].begin(), pages[i].end());
      }
      works.push_back(w);
    }
  }

  void make_tensors(const Shape& shape, Random& random) {
    if (random.chance(0.3)) softcap = static_cast<float>(2 + 40 * random.uniform());
    // Values take anything. Of keys and queries only what FP32 and two BF16 terms can multiply: no overflow, and no
    // infinite key that a softcap would make finite again.
    const float values[] = {NAN, -NAN, 1e-41f, -0.0f, 6e-8f, INFINITY, -INFINITY, 3.4e38f};
    const auto fill = [&](SceneTensor& t, uint32_t heads, uint32_t dim, float size, double odd, uint32_t n_odd) {
      t.shape(n_rows, heads, dim, random);
      for (uint32_t r = 0; r < n_rows; ++r)
        for (uint32_t h = 0; h < heads; ++h)
          for (uint32_t d = 0; d < dim; ++d)
            t.put(r, h, d,
                  random.chance(odd) ? values[random.below(n_odd)]
                                     : size * static_cast<float>(random.uniform() * 4 - 2));
    };
    fill(k, c().n_kv_heads, c().key_dim, 1.0f, shape.spoiled ? 1e-4 : 0.0, softcap > 0.0f ? 5 : 7);
    fill(v, c().n_kv_heads, c().value_dim, 1.0f, shape.spoiled ? 0.05 : 0.0, 8);
    fill(q, n_q_heads(), c().key_dim, shape.flat ? 0.0f : 2.0f, shape.spoiled ? 1e-4 : 0.0, 7);
    lse.assign(n_rows * lse_stride(), 0.0f);
    scale = static_cast<float>((0.3 + 0.9 * random.uniform()) / std::sqrt(c().key_dim));
    has_mask = !shape.flat && random.chance(0.4);
    mask.resize(uint64_t{n_rows} * max_new);
    for (uint8_t& m : mask) m = random.chance(0.6) ? static_cast<uint8_t>(random.between(1, 255)) : 0;
  }
};

}  // namespace oscar::testing
