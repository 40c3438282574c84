#include "table_mirror.h"

#include <algorithm>
#include <cstring>

#include "device.h"

namespace oscar::cuda {

void TableMirror::resize(uint64_t n_lines) {
  lines_.resize(n_lines, TableLine{0, 0});
  changes_.reserve(kMaxChanges);
}

void TableMirror::write(uint64_t line, const void* data, uint64_t bytes, TableChange* staging, cudaStream_t stream) {
  for (uint64_t i = 0; i < table_lines(1, bytes); ++i) {
    TableLine value{};
    const uint64_t at = i * sizeof value;
    std::memcpy(&value, static_cast<const uint8_t*>(data) + at, std::min(bytes - at, uint64_t{sizeof value}));
    if (value == lines_[line + i]) continue;
    lines_[line + i] = value;
    if (changes_.size() == kMaxChanges) flush(staging, stream);
    changes_.push_back({static_cast<uint32_t>(line + i), {}, value});
  }
}

// From pageable memory: the copy has been taken when the call returns, without waiting for the stream.
void TableMirror::flush(TableChange* staging, cudaStream_t stream) {
  if (changes_.empty()) return;
  check(
      cudaMemcpyAsync(staging, changes_.data(), changes_.size() * sizeof(TableChange), cudaMemcpyHostToDevice, stream),
      "uploading tables");
  check(scatter_launch(device_, staging, static_cast<uint32_t>(changes_.size()), stream), "uploading tables");
  changes_.clear();
}

}  // namespace oscar::cuda
