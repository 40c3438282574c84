// Tables at fixed device addresses and the host's copy of them. Writing the host's copy notes which lines differ from
// what the device has; flush sends these alone: a decode step changes a few lines of tables that grow with the context.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory_resource>
#include <vector>

namespace oscar::cuda {

struct alignas(16) TableLine {
  uint64_t low, high;
  bool operator==(const TableLine&) const = default;
};

// Lines that n entries of so many bytes take.
constexpr uint64_t table_lines(uint64_t n, uint64_t bytes) {
  return (n * bytes + sizeof(TableLine) - 1) / sizeof(TableLine);
}

struct alignas(16) TableChange {
  uint32_t line;
  uint32_t reserved[3];
  TableLine value;
};
static_assert(sizeof(TableChange) == 32);

class TableMirror {
 public:
  static constexpr uint32_t kMaxChanges = 4096;  // of one copy; more go in several

  explicit TableMirror(std::pmr::memory_resource* memory) : lines_(memory), changes_(memory) {}
  void resize(uint64_t n_lines);
  void attach(TableLine* device) { device_ = device; }  // zeros

  // Notes the lines from `line` on that so many bytes take, zeros behind them. Sends notes where they become too many: staging has room for kMaxChanges.
  void write(uint64_t line, const void* data, uint64_t bytes, TableChange* staging, cudaStream_t stream);
  void flush(TableChange* staging, cudaStream_t stream);
  const TableLine* line(uint64_t index) const { return &lines_[index]; }

 private:
  TableLine* device_ = nullptr;
  std::pmr::vector<TableLine> lines_;
  std::pmr::vector<TableChange> changes_;
};

cudaError_t scatter_launch(TableLine* table, const TableChange* changes, uint32_t n, cudaStream_t stream);

}  // namespace oscar::cuda
