#include "plan.h"

#include "failure.h"
#include "fit.h"
#include "rivals.h"
#include "text.h"

namespace oscar::cli {

namespace {

double bits(uint64_t bytes, uint64_t elements) {
  return elements > 0 ? 8.0 * static_cast<double>(bytes) / static_cast<double>(elements) : 0.0;
}

uint64_t times(uint64_t bytes, uint32_t n_sequences) {
  uint64_t product = 0;
  if (__builtin_mul_overflow(bytes, uint64_t{n_sequences}, &product))
    bad_usage("--batch: these are more than 2^64 bytes");
  return product;
}

// Asks with the largest capacity there is: whether this cache is served does not hang on it.
oscar_cache_report served_report(const Model& model, Choice choice, uint64_t context, uint32_t n_sequences) {
  choice.max_tokens = context;
  choice.n_sequences = n_sequences;
  return Serving(model, choice).check(context, kMostCapacity);
}

PlanRow profile_row(const Plan& plan, Choice choice, const std::string& profile) {
  choice.profile = profile;
  PlanRow row;
  row.format = "liboscar " + profile;
  if (row.reason = obstacle(plan.model); !row.reason.empty()) {
    row.served = false;
    return row;
  }
  const oscar_cache_report report = served_report(plan.model, choice, plan.context, plan.n_sequences);
  row.served = report.served != 0;
  row.reason = report.reason;
  if (!row.served) return row;
  row.bytes = times(report.bytes_sequences, plan.n_sequences);
  row.bits_per_element = bits(report.bytes_sequences, kept_elements(plan.model, plan.context));
  row.bytes_fixed = report.bytes_fixed;
  for (const LayerGroup& group : plan.groups) {
    const bool stores = !group.shares && group.layer.attention != Attention::kNone;
    row.group_bytes.push_back(stores ? served_report(model_of(group), choice, plan.context, 1).bytes_sequences : 0);
  }
  const Need all = need(plan.model, choice, plan.context, plan.n_sequences);
  row.capacity_bytes = all.capacity_bytes;
  if (all.capacity_bytes > 0) row.bytes_fixed = all.bytes_fixed;
  if (plan.memory_bytes == 0) return row;
  row.longest_sequence = longest_sequence(plan.model, choice, plan.memory_bytes);
  row.largest_batch = largest_batch(plan.model, choice, plan.context, plan.memory_bytes);
  return row;
}

PlanRow rival_row(const Plan& plan, const Rival& rival) {
  PlanRow row;
  row.format = rival.name;
  const uint64_t one = rival_bytes(rival, plan.model, plan.context);
  row.bytes = times(one, plan.n_sequences);
  row.bits_per_element = bits(one, kept_elements(plan.model, plan.context));
  for (const LayerGroup& group : plan.groups)
    row.group_bytes.push_back(group.shares ? 0 : rival_bytes(rival, model_of(group), plan.context));
  if (plan.memory_bytes == 0) return row;
  row.longest_sequence = rival_longest(rival, plan.model, plan.memory_bytes, kMostFitTokens);
  row.largest_batch = rival_batch(rival, plan.model, plan.context, plan.memory_bytes);
  return row;
}

// Latent rows, multiplied out into the keys and values of all heads, are something the library serves, at a price.
std::string latent_remark(const Plan& plan, const Choice& choice) {
  Model expanded = plan.model;
  for (ModelLayer& layer : expanded.layers) {
    if (layer.attention != Attention::kLatent) return {};
    layer.attention = Attention::kFull;
    layer.latent_dim = layer.latent_rope_dim = 0;
  }
  const oscar_cache_report report = served_report(expanded, choice, plan.context, 1);
  if (!report.served) return {};
  const uint64_t rows = rival_bytes(kRivals[0], plan.model, plan.context);
  return text(
      "Multiplied out into %s keys and values, the layers are served: %s in %s, %.1f times the latent rows in BF16.",
      describe_heads({expanded.layers[0], false, {}}).c_str(), bytes_text(report.bytes_sequences).c_str(),
      choice.profile.c_str(), static_cast<double>(report.bytes_sequences) / static_cast<double>(rows));
}

}  // namespace

Plan make_plan(const Model& model, const Choice& choice, const std::vector<std::string>& profiles, uint64_t context,
               uint32_t n_sequences, uint64_t memory_bytes) {
  Plan plan;
  plan.model = model;
  plan.groups = group_layers(model);
  plan.context = context;
  plan.n_sequences = n_sequences;
  plan.memory_bytes = memory_bytes;
  for (const std::string& profile : profiles) {
    plan.rows.push_back(profile_row(plan, choice, profile));
    plan.all_served = plan.all_served && plan.rows.back().served;
  }
  for (const Rival& rival : kRivals) plan.rows.push_back(rival_row(plan, rival));
  Choice first = choice;
  first.profile = profiles.front();
  plan.remark = latent_remark(plan, first);
  return plan;
}

}  // namespace oscar::cli
