// Read-back, scores and whole units. Beside other readers: no shared workspace.
#include <cstring>

#include "backend/host_engine.h"
#include "backend/read_back.h"

namespace oscar {

namespace {

class ArenaReader final : public UnitReader {
 public:
  explicit ArenaReader(const uint8_t* arena) : arena_(arena) {}
  const uint8_t* bytes(Unit unit, uint64_t offset, uint64_t) override {
    return arena_ + unit * kUnitAlignment + offset;
  }

 private:
  const uint8_t* arena_;
};

}  // namespace

void HostEngine::read(const SequenceView& s, uint32_t layer, uint32_t head, uint64_t first, uint64_t n,
                      const TensorView& k, const TensorView& v) const {
  const LayerPlan& l = plan_.layers[layer];
  const uint32_t index = head_index(class_of(layer), l, head);
  ArenaReader reader(arena_.data);
  read_back(s, {class_of(layer), index, *transforms_[l.layer_class][index]}, backend_, first, n, k, v, reader);
}

void HostEngine::scores(const SequenceView& s, uint64_t length, uint32_t layer, uint32_t head, uint64_t first,
                        uint64_t n, const TensorView& out) const {
  const LayerPlan& l = plan_.layers[layer];
  const uint32_t index = head_index(class_of(layer), l, head);
  ArenaReader reader(arena_.data);
  read_scores(s, {class_of(layer), index, *transforms_[l.layer_class][index]}, plan_.n_recent, length, first, n, out,
              reader);
}

void HostEngine::read_unit(Unit unit, uint64_t n, uint8_t* to) const {
  std::memcpy(to, arena_.data + unit * kUnitAlignment, n);
}

void HostEngine::write_unit(Unit unit, uint64_t n, const uint8_t* from) { std::memcpy(data(unit), from, n); }

}  // namespace oscar
