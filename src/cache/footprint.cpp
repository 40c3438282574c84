#include "cache/footprint.h"

#include "backend/device_engine.h"
#include "backend/host_engine.h"
#include "cache/cache.h"

namespace oscar {

namespace {

uint64_t engine_bytes(const CachePlan& plan, const Backend& backend, const Calibration& calibration) {
  if (plan.config.device == Device::kCpu) return HostEngine::footprint(plan, backend);
  return cuda_engine_bytes(plan, calibration, backend, plan.config.device_id);
}

}  // namespace

uint64_t fixed_bytes(const CachePlan& plan, const Backend& backend, const Calibration& calibration) {
  const EngineSizes sizes(plan);
  const uint64_t n_classes = plan.classes.size(), n_sequences = uint64_t{plan.max_sequences} + 1;
  uint64_t per_sequence = n_classes * sizeof(ClassState);
  for (const LayerClass& c : plan.classes)
    per_sequence += sizes.max_pages * sizeof(Unit) + (c.exact ? 0 : sizes.max_blocks * sizeof(BlockEntry));
  const uint64_t per_step = plan.max_step_tokens * sizeof(StepEntry) +
                            sizes.max_entries * n_classes * sizeof(StepPart) + sizes.max_step_blocks * sizeof(Unit) +
                            plan.layers.size() * sizeof(LayerProgress) + plan.n_scratch * sizeof(uint32_t);
  const uint64_t jobs = n_classes * 3 * sizeof(uint64_t) + sizes.max_aged_blocks * sizeof(PackJob) +
                        sizes.max_entries * n_classes * (2 * sizeof(CountJob) + sizeof(SideJob)) +
                        plan.layers.size() * sizeof(LayerWatch);
  return sizeof(Cache) + n_sequences * sizeof(Sequence) + plan.max_sequences * per_sequence +
         plan.max_open_steps * (sizeof(Step) + per_step) + jobs + engine_bytes(plan, backend, calibration) +
         calibration.bytes() + (plan.collecting ? SelfCalibrator::bytes(*plan.config.self_calibration) : 0) +
         Pool::bookkeeping_bytes(plan.pool_units(), plan.main_kind(), plan.config.capacity_bytes);
}

uint64_t frozen_fixed_bytes(const CachePlan& plan, const Backend& backend, const Calibration& calibration) {
  if (!plan.collecting) return fixed_bytes(plan, backend, calibration);
  return fixed_bytes(plan.frozen(), backend, calibration) - calibration.bytes() +
         Calibration::most_bytes(calibration.layers());
}

}  // namespace oscar
