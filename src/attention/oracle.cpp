#include "attention/oracle.h"

#include <cmath>
#include <limits>
#include <vector>

#include "format/bf16.h"
#include "quant/decode_block.h"
#include "transform/hadamard.h"

namespace oscar {
namespace {

using Vector = std::vector<double>;

// A cached token. Packed ones are in the basis of their transforms, exact ones in the model's.
struct Token {
  uint64_t position;
  bool packed;
  Vector key, value;
};

double matrix_entry(const LinearMap& map, uint32_t row, uint32_t column) {
  switch (map.kind) {
    case MapKind::kIdentity: return row == column ? 1.0 : 0.0;
    case MapKind::kHadamard:
      return (map.transposed ? hadamard_sign(map.dim, column, row) : hadamard_sign(map.dim, row, column)) /
             std::sqrt(static_cast<double>(map.dim));
    case MapKind::kDense: return static_cast<double>(map.matrix[uint64_t{row} * map.dim + column]);
  }
  return 0.0;
}

// The matrix of a map, row-major: y = x M.
Vector explicit_matrix(const LinearMap& map, uint32_t dim) {
  Vector matrix(uint64_t{dim} * dim);
  for (uint32_t i = 0; i < dim; ++i)
    for (uint32_t j = 0; j < dim; ++j) matrix[uint64_t{i} * dim + j] = matrix_entry(map, i, j);
  return matrix;
}

Vector times(const Vector& x, const Vector& matrix) {
  Vector y(x.size(), 0.0);
  for (size_t i = 0; i < x.size(); ++i)
    for (size_t j = 0; j < x.size(); ++j) y[j] += x[i] * matrix[i * x.size() + j];
  return y;
}

double dot(const Vector& a, const Vector& b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

std::vector<Token> cached_tokens(const AttendWork& work) {
  std::vector<Token> tokens;
  for (uint32_t b = 0; b < work.n_blocks; ++b) {
    const BlockSpan& span = work.blocks[b];
    const BlockReader reader(*work.layout, span.bytes);
    for (uint32_t slot = 0; slot < kBlockTokens; ++slot) {
      const uint32_t offset = reader.token_offset(slot);
      if (offset < span.first || offset >= span.last) continue;
      Token token{span.start + offset, true, Vector(work.key_dim), Vector(work.value_dim)};
      for (uint32_t d = 0; d < work.key_dim; ++d) token.key[d] = reader.key(slot, d);
      for (uint32_t d = 0; d < work.value_dim; ++d) token.value[d] = reader.value(slot, d);
      tokens.push_back(token);
    }
  }
  for (uint32_t s = 0; s < work.n_rows; ++s) {
    const RowSpan& span = work.rows[s];
    for (uint32_t i = 0; i < span.n; ++i) {
      Token token{span.position + i, false, Vector(work.key_dim), Vector(work.value_dim)};
      const uint16_t* key = span.key + uint64_t{i} * span.key_stride;
      const uint16_t* value = span.value + uint64_t{i} * span.value_stride;
      for (uint32_t d = 0; d < work.key_dim; ++d) token.key[d] = static_cast<double>(bf16_to_f32(key[d]));
      for (uint32_t d = 0; d < work.value_dim; ++d) token.value[d] = static_cast<double>(bf16_to_f32(value[d]));
      tokens.push_back(token);
    }
  }
  return tokens;
}

// A query that is not finite spoils its row, whatever its signs and the softcap: its infinities count as NaN.
Vector query_row(const AttendWork& work, uint32_t r) {
  Vector q(work.q + r * work.key_dim, work.q + (r + 1) * work.key_dim);
  for (double& x : q)
    if (!std::isfinite(x)) x = std::numeric_limits<double>::quiet_NaN();
  return q;
}

bool sees(const AttendWork& work, uint32_t new_token, uint64_t position) {
  const uint64_t own = work.first_position + new_token;
  if (position == own) return true;
  if (position > own) return false;
  if (work.window > 0 && own - position >= work.window) return false;
  if (work.mask && position >= work.first_position)
    return work.mask[new_token * work.mask_stride + (position - work.first_position)] != 0;
  return true;
}

// One query row: fills mass[token] with its softmax weights, sink included in the denominator. Returns the lse.
double softmax_row(const AttendWork& work, const std::vector<Token>& tokens, uint64_t row, const Vector& q,
                   const Vector& mapped, Vector& mass) {
  const uint32_t new_token = static_cast<uint32_t>(row / work.group);
  const double infinity = std::numeric_limits<double>::infinity();
  const double sink = work.sink_logits ? static_cast<double>(work.sink_logits[row % work.group]) : -infinity;
  const double cap = static_cast<double>(work.softcap), scale = static_cast<double>(work.scale);
  Vector logit(tokens.size(), -infinity);
  double largest = sink;
  for (size_t t = 0; t < tokens.size(); ++t) {
    if (!sees(work, new_token, tokens[t].position)) continue;
    logit[t] = scale * dot(tokens[t].packed ? mapped : q, tokens[t].key);
    if (cap > 0.0) logit[t] = cap * std::tanh(logit[t] / cap);
    largest = std::fmax(largest, logit[t]);
  }
  double denominator = std::exp(sink - largest);
  for (size_t t = 0; t < tokens.size(); ++t) {
    mass[t] = sees(work, new_token, tokens[t].position) ? std::exp(logit[t] - largest) : 0.0;
    denominator += mass[t];
  }
  for (double& m : mass) m /= denominator;
  return largest + std::log(denominator);
}

void write_output(const AttendWork& work, const std::vector<Token>& tokens, uint32_t r, const Vector& mass,
                  const Vector& value_inverse) {
  const uint64_t row = work.first_row + r;
  Vector exact(work.value_dim, 0.0), packed(work.value_dim, 0.0);
  for (size_t t = 0; t < tokens.size(); ++t) {
    if (!sees(work, static_cast<uint32_t>(row / work.group), tokens[t].position)) continue;
    Vector& sum = tokens[t].packed ? packed : exact;
    for (uint32_t d = 0; d < work.value_dim; ++d) sum[d] += mass[t] * tokens[t].value[d];
  }
  if (work.n_blocks > 0) packed = times(packed, value_inverse);
  for (uint32_t d = 0; d < work.value_dim; ++d)
    work.out[r * work.value_dim + d] = static_cast<float>(exact[d] + packed[d]);
}

// Only rows whose result is finite vote.
void add_votes(const AttendWork& work, const std::vector<Token>& tokens, uint32_t r, const Vector& mass) {
  const uint32_t new_token = static_cast<uint32_t>((work.first_row + r) / work.group);
  const uint32_t first_voter = work.n_new - work.n_voters;
  if (new_token < first_voter || !std::isfinite(work.lse[r])) return;
  float* line = work.votes + (new_token - first_voter) * work.vote_stride;
  for (size_t t = 0; t < tokens.size(); ++t) {
    const uint64_t position = tokens[t].position;
    if (tokens[t].packed || position < work.vote_first || position >= work.first_position + new_token) continue;
    line[position - work.vote_first] += static_cast<float>(mass[t]);
  }
}

}  // namespace

void attend_oracle(const AttendWork& work) {
  const std::vector<Token> tokens = cached_tokens(work);
  Vector query_map, value_inverse;  // without blocks nobody needs them
  if (work.n_blocks > 0) {
    query_map = explicit_matrix(work.transform->query, work.key_dim);
    value_inverse = explicit_matrix(work.transform->value_inverse, work.value_dim);
  }
  Vector mass(tokens.size());
  for (uint32_t r = 0; r < work.n_tile_rows; ++r) {
    const Vector q = query_row(work, r);
    const Vector mapped = work.n_blocks > 0 ? times(q, query_map) : q;
    work.lse[r] = static_cast<float>(softmax_row(work, tokens, work.first_row + r, q, mapped, mass));
    write_output(work, tokens, r, mass, value_inverse);
    add_votes(work, tokens, r, mass);
  }
}

}  // namespace oscar
