// One layer of a step: what may be called when, and when its chunk is packed.
#include <cmath>

#include "cache/cache.h"
#include "format/error.h"

namespace oscar {

void Cache::check_append(const Step& step, uint32_t layer) const {
  if (!plan_.layers[layer].owns)
    throw Error(Status::kInvalid, "layer %u attends to the keys of layer %u and takes none", layer,
                plan_.layers[layer].kv_source);
  if (step.progress[layer] >= LayerProgress::kVoted)
    throw Error(Status::kState, "layer %u has been attended to, or packed, in this step already", layer);
}

void Cache::check_attend(const Step& step, uint32_t layer) const {
  const LayerPlan& l = plan_.layers[layer];
  if (step.progress[l.kv_source] == LayerProgress::kWaiting && step.stores())
    throw Error(Status::kState, "layer %u has not been given its keys and values in this step", l.kv_source);
  const uint32_t area = plan_.layers[l.kv_source].scratch;
  for (const StepEntry& e : step.entries) {
    if (e.slot == kPaddingSlot || !step.parts[e.classes + l.layer_class].needs_scratch()) continue;
    if (step.scratch_layer[area] != l.kv_source)
      throw Error(Status::kState,
                  "the new tokens of layer %u are packed already: attend to a layer before the next append",
                  l.kv_source);
  }
}

void Cache::pack_chunk(Step& step, uint32_t layer) {
  engine_->pack_chunk(step.view(), layer);
  step.progress[layer] = LayerProgress::kPacked;
}

// Before a scratch area takes another layer, or the step ends. A step that has nothing of the layer's class in the
// scratch leaves nothing to finish.
void Cache::finish_area(Step& step, uint32_t area) {
  const uint32_t layer = step.scratch_layer[area];
  if (layer == kNoLayer || step.progress[layer] == LayerProgress::kPacked) return;
  for (const StepEntry& e : step.entries)
    if (e.slot != kPaddingSlot && step.parts[e.classes + plan_.layers[layer].layer_class].needs_scratch())
      return pack_chunk(step, layer);
}

void Cache::append(uint64_t id, uint32_t layer, const TensorView& k, const TensorView& v, void* stream) {
  Step& step = steps_[step_slot(id)];
  check_append(step, layer);
  engine_->use_stream(stream);
  const uint32_t area = plan_.layers[layer].scratch;
  if (step.scratch_layer[area] != layer) finish_area(step, area);
  step.scratch_layer[area] = layer;
  engine_->append(step.view(), layer, k, v);
  step.progress[layer] = LayerProgress::kAppended;
}

void Cache::attend(uint64_t id, const AttendRequest& request, void* stream) {
  Step& step = steps_[step_slot(id)];
  check_attend(step, request.layer);
  engine_->use_stream(stream);
  AttendRequest r = request;
  if (r.scale == 0.0f) r.scale = 1.0f / std::sqrt(static_cast<float>(class_of(r.layer).key_dim));
  const uint32_t source = plan_.layers[r.layer].kv_source;
  LayerProgress& progress = step.progress[source];
  const bool votes = progress == LayerProgress::kAppended && source == r.layer && class_of(r.layer).votes;
  if (collector_ && (progress == LayerProgress::kAppended || source != r.layer)) collect_queries(step, r);
  engine_->attend(step.view(), r, votes);
  if (progress == LayerProgress::kAppended && source == r.layer) progress = LayerProgress::kVoted;
  const bool is_last = plan_.layers[source].last_consumer == r.layer;
  // Where a consumer runs before the layer itself has voted, packing waits until the scratch is needed.
  if (is_last && !step.blocks.empty() && progress == LayerProgress::kVoted) pack_chunk(step, source);
}

}  // namespace oscar
