// What leaves the device: read-back, scores, the count of elements that were not finite. These wait for the stream.
#include <vector>

#include "backend/read_back.h"
#include "engine.h"

namespace oscar::cuda {

namespace {

class DeviceReader final : public UnitReader {
 public:
  DeviceReader(const uint8_t* arena, cudaStream_t stream) : arena_(arena), stream_(stream) {}
  const uint8_t* bytes(Unit unit, uint64_t offset, uint64_t n) override {
    if (unit == unit_ && offset == offset_ && n == bytes_.size()) return bytes_.data();
    bytes_.resize(n);
    check(cudaMemcpyAsync(bytes_.data(), arena_ + unit * kUnitAlignment + offset, n, cudaMemcpyDeviceToHost, stream_),
          "reading back");
    check(cudaStreamSynchronize(stream_), "reading back");
    unit_ = unit;
    offset_ = offset;
    return bytes_.data();
  }

 private:
  const uint8_t* arena_;
  cudaStream_t stream_;
  Unit unit_ = kNoUnit;
  uint64_t offset_ = 0;
  std::vector<uint8_t> bytes_;
};

}  // namespace

void CudaEngine::read(const SequenceView& s, uint32_t layer, uint32_t head, uint64_t first, uint64_t n,
                      const oscar::TensorView& k, const oscar::TensorView& v) const {
  const LayerPlan& l = plan_.layers[layer];
  const LayerClass& c = plan_.classes[l.layer_class];
  on_device([&] {
    DeviceReader reader(pool_.base(), stream_);
    read_back(s, {c, l.index_in_class * c.n_kv_heads + head, calibration_.head(l.kv_source, head)}, host_, first, n, k,
              v, reader);
  });
}

void CudaEngine::scores(const SequenceView& s, uint64_t length, uint32_t layer, uint32_t head, uint64_t first,
                        uint64_t n, const oscar::TensorView& out) const {
  const LayerPlan& l = plan_.layers[layer];
  const LayerClass& c = plan_.classes[l.layer_class];
  on_device([&] {
    DeviceReader reader(pool_.base(), stream_);
    read_scores(s, {c, l.index_in_class * c.n_kv_heads + head, calibration_.head(l.kv_source, head)}, plan_.n_recent,
                length, first, n, out, reader);
  });
}

uint64_t CudaEngine::n_non_finite() const {
  unsigned long long n = 0;
  on_device([&] {
    check(cudaMemcpyAsync(&n, n_non_finite_, sizeof n, cudaMemcpyDeviceToHost, stream_), "reading a counter");
    check(cudaStreamSynchronize(stream_), "reading a counter");
  });
  return n;
}

}  // namespace oscar::cuda
