// Damaged and hostile files of rotations.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "import_case.h"

using namespace oscar;
using namespace oscar::test;

TEST_CASE("every truncation of a file is refused") {
  const ZipImage file = file_of({0});
  for (size_t size = 0; size < file.bytes.size(); ++size) {
    const Bytes cut(file.bytes.begin(), file.bytes.begin() + static_cast<ptrdiff_t>(size));
    const auto [status, text] = refusal([&] { import_oscar({std::span<const uint8_t>(cut), {}}, {&kLayer, 1}, {}); });
    REQUIRE(status == Status::kCorrupt);
    REQUIRE(text.find("key file: ") == 0);
  }
}

TEST_CASE("a file with one byte changed is refused, or gives the same calibration") {
  const ZipImage file = file_of({0});
  const uint64_t wanted = import_keys(file, {kLayer}).fingerprint();
  size_t n_served = 0;
  for (size_t at = 0; at < file.bytes.size(); ++at)
    for (const int change : {0xff, 1 << at % 8}) {
      const ZipImage changed = file.with(at, static_cast<uint8_t>(file.bytes[at] ^ change));
      uint64_t got = wanted;
      const auto [status, text] = refusal([&] { got = import_keys(changed, {kLayer}).fingerprint(); });
      n_served += text == "served";
      REQUIRE(got == wanted);
      REQUIRE((text == "served" || status == Status::kCorrupt || status == Status::kUnsupported));
    }
  CHECK(n_served < file.bytes.size() / 10);
}

TEST_CASE("a pickle with any byte changed, under a right checksum, yields a status") {
  const std::string pickle = pickle_of({{0, square_note(0, kDim)}, {3, square_note(1, kDim)}});
  const std::vector<Bytes> storages = {storage(0), storage(1)};
  size_t n_served = 0, n_refused = 0;
  for (size_t at = 0; at < pickle.size(); ++at)
    for (int change = 1; change < 256; change = change * 2 + 1) {
      std::string changed = pickle;
      changed[at] = static_cast<char>(changed[at] ^ change);
      const auto [status, text] = refusal([&] {
        import_keys(torch_file(changed, storages), {{1, kDim, kDim}, {1, kDim, kDim}});
      });
      ++(text == "served" ? n_served : n_refused);
      REQUIRE((text == "served" || status == Status::kCorrupt || status == Status::kUnsupported ||
               status == Status::kInvalid));
    }
  CHECK(n_served > 0);  // e.g. another device, or a key that is not read
  CHECK(n_refused > 4 * n_served);
}

TEST_CASE("random changes of pickles and of whole files yield a status, 10,000 of them") {
  std::mt19937_64 random(702);
  const std::string pickle = pickle_of({{0, square_note(0, kDim)}, {1, square_note(0, kDim)}});
  const ZipImage whole = torch_file(pickle, {storage(0)});
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  // Cuts, copies and overwrites pieces, with bytes that pickles and zips give a meaning to.
  const auto mutate = [&](auto bytes) {
    static constexpr char kTelling[] = "}](utesaRQq\0rhjXKMJGcN\x85\x86\x87)\xff\x7f\x01.\x80\x02\n";
    for (size_t n = 1 + below(4); n > 0 && bytes.size() > 8; --n) {
      const size_t at = below(bytes.size()), size = below(std::min<size_t>(bytes.size() - at, 12));
      const auto from = bytes.begin() + static_cast<ptrdiff_t>(at), to = from + static_cast<ptrdiff_t>(size);
      switch (below(4)) {
        case 0: bytes[at] = kTelling[below(sizeof kTelling)]; break;
        case 1: bytes[at] = static_cast<char>(random()); break;
        case 2: bytes.erase(from, to); break;
        default: {
          const auto piece = decltype(bytes)(from, to);
          bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(below(bytes.size())), piece.begin(), piece.end());
        }
      }
    }
    return bytes;
  };
  size_t n_served = 0;
  for (int i = 0; i < 10000; ++i) {
    ZipImage file;
    if (i % 4 != 0) {
      file = torch_file(mutate(pickle), {storage(0)});
    } else {  // the ends of the file, where the structures are
      Bytes head(whole.bytes.begin(), whole.bytes.begin() + static_cast<ptrdiff_t>(whole.data[2]));
      Bytes tail(whole.bytes.begin() + static_cast<ptrdiff_t>(whole.local[3]), whole.bytes.end());
      (i % 8 == 0 ? head : tail) = mutate(i % 8 == 0 ? head : tail);
      file.bytes = head;
      file.bytes.insert(file.bytes.end(), whole.bytes.begin() + static_cast<ptrdiff_t>(whole.data[2]),
                        whole.bytes.begin() + static_cast<ptrdiff_t>(whole.local[3]));
      file.bytes.insert(file.bytes.end(), tail.begin(), tail.end());
    }
    const auto [status, text] = refusal([&] { import_keys(file, {{1, kDim, kDim}, {1, kDim, kDim}}); });
    if (text == "served") ++n_served;
    REQUIRE((text == "served" || status == Status::kCorrupt || status == Status::kUnsupported ||
             status == Status::kInvalid));
  }
  CHECK(n_served < 5000);
}
