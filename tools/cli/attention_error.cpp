#include "attention_error.h"

#include <algorithm>
#include <cmath>

#include "fit.h"

namespace oscar::cli {

namespace {

bool chooses(const oscar_cache_config& config) {
  return config.storage == OSCAR_STORAGE_BLOCKS && config.n_refined > 0 && config.n_refined < 128;
}

std::vector<std::vector<float>> scores_of(const oscar_cache* cache, oscar_seq seq, const Dump& dump) {
  std::vector<std::vector<float>> scores(dump.n_kv_heads, std::vector<float>(dump.n_tokens));
  for (uint32_t h = 0; h < dump.n_kv_heads; ++h) {
    const oscar_tensor t = host_tensor(scores[h].data(), {dump.n_tokens});
    call(oscar_scores(cache, seq, 0, h, 0, dump.n_tokens, &t));
  }
  return scores;
}

}  // namespace

LayerRun run_layer(const Dump& dump, uint32_t layer, const Choice& given) {
  Choice choice = given;
  choice.max_tokens = dump.n_tokens;
  choice.n_sequences = 1;
  choice.max_step_tokens = kErrorStep;
  const Model model = dump.one_layer();
  Serving serving(model, choice);
  const oscar_cache_report report = serving.check(dump.n_tokens, kMostCapacity);
  if (!report.served) throw Failure(Exit::kNo, std::string("not served: ") + report.reason);
  serving.config.capacity_bytes = 2 * report.bytes_sequences + (uint64_t{16} << 20);
  oscar_cache* created = nullptr;
  call(oscar_cache_create(&serving.config, &created));
  const Cache cache(created);
  oscar_seq seq = 0;
  call(oscar_seq_open(created, &seq));
  LayerRun run;
  const uint64_t row = uint64_t{dump.n_q_heads} * dump.value_dim;
  run.out.resize(dump.n_tokens * row);
  for (uint32_t first = 0; first < dump.n_tokens; first += kErrorStep) {
    const uint32_t n = std::min(kErrorStep, dump.n_tokens - first);
    const oscar_step step = begin_step(created, seq, n);
    auto l = sized<oscar_layer_args>();
    l.k = dump.k(layer, first, n), l.v = dump.v(layer, first, n), l.q = dump.q(layer, first, n);
    l.out = host_tensor(run.out.data() + uint64_t{first} * row, {n, dump.n_q_heads, dump.value_dim});
    call(oscar_layer(created, step, &l, nullptr));
    call(oscar_step_end(created, step));
  }
  if (chooses(serving.config)) run.scores = scores_of(created, seq, dump);
  return run;
}

std::vector<double> errors_by_head(const Dump& dump, const LayerRun& run, const LayerRun& exact, uint32_t first) {
  const uint32_t group = dump.n_q_heads / dump.n_kv_heads;
  std::vector<double> wrong(dump.n_kv_heads), size(dump.n_kv_heads);
  for (uint64_t token = first; token < dump.n_tokens; ++token)
    for (uint32_t head = 0; head < dump.n_q_heads; ++head)
      for (uint32_t d = 0; d < dump.value_dim; ++d) {
        const uint64_t i = (token * dump.n_q_heads + head) * dump.value_dim + d;
        const double e = static_cast<double>(run.out[i]) - exact.out[i];
        wrong[head / group] += e * e;
        size[head / group] += static_cast<double>(exact.out[i]) * exact.out[i];
      }
  std::vector<double> errors(dump.n_kv_heads);
  for (uint32_t h = 0; h < dump.n_kv_heads; ++h) errors[h] = size[h] > 0 ? std::sqrt(wrong[h] / size[h]) : 0;
  return errors;
}

double together(const std::vector<double>& errors) {
  double sum = 0;
  for (const double e : errors) sum += e * e;
  return std::sqrt(sum / static_cast<double>(errors.size()));
}

}  // namespace oscar::cli
