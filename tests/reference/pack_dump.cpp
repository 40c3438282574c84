// pack_dump FILE: packs a few blocks and writes inputs and bytes for pack_reference.py, which packs them again.
// Per case, little endian: magic "PACK", u32 key_dim, value_dim, h, key_plane, value_plane, shaped, block bytes; keys and
// values as BF16 [128][dim]; order [128] u8; F and F_v as f32 [dim][dim]; where shaped: R as f32; the block.
#include <cstdio>

#include "transform/hadamard.h"
#include "unit/pack_case.h"

using namespace oscar;
using namespace oscar::test;
using Transforms = PackCase::Transforms;

namespace {

class File {
 public:
  explicit File(const char* path) : file_(std::fopen(path, "wb")) {}
  ~File() { close(); }
  void write(const void* bytes, size_t size) { good_ = good_ && file_ && std::fwrite(bytes, 1, size, file_) == size; }
  bool close() {
    if (file_) good_ = std::fclose(file_) == 0 && good_;
    file_ = nullptr;
    return good_;
  }

 private:
  std::FILE* file_;
  bool good_ = true;
};

void write_matrix(File& file, const LinearMap& map) {
  std::vector<float> matrix(size_t{map.dim} * map.dim);
  if (map.kind == MapKind::kDense)
    matrix.assign(map.matrix, map.matrix + matrix.size());
  else
    hadamard_matrix(map.dim, matrix.data());
  file.write(matrix.data(), matrix.size() * sizeof(float));
}

void write_case(File& file, const PackCase& c) {
  const uint32_t numbers[] = {c.shape.key_dim,      c.shape.value_dim, c.layout.h,    c.layout.key_plane,
                              c.layout.value_plane, c.shaped,          c.layout.bytes};
  file.write("PACK", 4);
  file.write(numbers, sizeof numbers);
  file.write(c.keys.data(), c.keys.size() * sizeof(uint16_t));
  file.write(c.values.data(), c.values.size() * sizeof(uint16_t));
  file.write(c.order, kBlockTokens);
  write_matrix(file, c.transform().key);
  write_matrix(file, c.transform().value);
  if (c.shaped) file.write(c.transform().metric_root, sizeof(float) * c.shape.key_dim * c.shape.key_dim);
  const std::vector<uint8_t> block = c.pack(runnable_isa_variants().back());
  file.write(block.data(), block.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: pack_dump FILE\n");
    return 2;
  }
  File file(argv[1]);
  std::mt19937_64 random(20240701);
  const BlockShape shapes[] = {{128, 128, 4, 2, 2}, {64, 64, 0, 0, 0},     {80, 80, 5, 1, 2},
                               {96, 64, 12, 2, 0},  {192, 128, 31, 0, 1},  {256, 256, 4, 2, 2},
                               {64, 96, 128, 1, 1}, {128, 192, 128, 2, 2}, {80, 256, 127, 2, 1}};
  for (const BlockShape& shape : shapes)
    for (const Transforms t : {Transforms::kDataFree, Transforms::kMatrices, Transforms::kShaped})
      write_case(file, PackCase(shape, t, random));
  // Tokens on an edge are rare: enough tokens that a tenth of a percent of them means something.
  for (int round = 0; round < 3; ++round)
    for (const BlockShape& shape : shapes) write_case(file, PackCase(shape, Transforms::kShaped, random));
  if (file.close()) return 0;
  std::fprintf(stderr, "pack_dump: cannot write %s\n", argv[1]);
  return 1;
}
