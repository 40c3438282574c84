// Read-back and scores of a sequence, for any engine that can show bytes of its arena.
#pragma once
#include "backend/backend.h"
#include "backend/engine.h"

namespace oscar {

// Bytes of a unit, readable until the next call.
class UnitReader {
 public:
  virtual ~UnitReader() = default;
  virtual const uint8_t* bytes(Unit unit, uint64_t offset, uint64_t n) = 0;
};

// One KV head of a layer.
struct HeadView {
  const LayerClass& c;
  uint32_t head_index;  // in the class
  const HeadTransform& transform;
};

// Engine::read and Engine::scores.
void read_back(const SequenceView& s, const HeadView& head, const Backend& backend, uint64_t first, uint64_t n,
               const TensorView& k, const TensorView& v, UnitReader& reader);
void read_scores(const SequenceView& s, const HeadView& head, uint32_t n_recent, uint64_t length, uint64_t first,
                 uint64_t n, const TensorView& out, UnitReader& reader);

}  // namespace oscar
