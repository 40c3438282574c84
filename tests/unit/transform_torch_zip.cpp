#include "transform/torch_zip.h"

#include <doctest/doctest.h>

#include "format/error.h"
#include "torch_file.h"

using namespace oscar;
using namespace oscar::test;

namespace {

ZipImage small_zip(bool has_zip64 = true) {
  return zip_of({{"root/data.pkl", bytes_of("pickle")}, {"root/data/0", bytes_of("0123456789")}, {"root/data/1", {}}},
                has_zip64);
}

std::pair<Status, std::string> refusal(const Bytes& bytes) {
  try {
    TorchZip zip(bytes, "file");
  } catch (const Error& error) {
    return {error.status(), error.what()};
  }
  return {Status{}, "served"};
}

void refused(const ZipImage& zip, Status wanted, std::string_view says) {
  const auto [status, text] = refusal(zip.bytes);
  INFO(text);
  CHECK(status == wanted);
  CHECK(text.find(says) != std::string::npos);
}

void refused_as_corrupt(const ZipImage& zip, std::string_view says) { refused(zip, Status::kCorrupt, says); }
void refused_as_unsupported(const ZipImage& zip, std::string_view says) { refused(zip, Status::kUnsupported, says); }

std::string text_of(const TorchZip& zip, std::string_view path) {
  const auto found = zip.find(path);
  return found ? std::string(found->begin(), found->end()) : "none";
}

}  // namespace

TEST_CASE("entries of a torch zip are found by their path in its folder") {
  for (const bool has_zip64 : {true, false}) {
    const ZipImage image = small_zip(has_zip64);
    const TorchZip zip(image.bytes, "file");
    CHECK(text_of(zip, "data.pkl") == "pickle");
    CHECK(text_of(zip, "data/0") == "0123456789");
    CHECK(text_of(zip, "data/1").empty());
    CHECK(text_of(zip, "data/2") == "none");
    CHECK(text_of(zip, "root/data.pkl") == "none");
    CHECK(text_of(zip, "") == "none");
  }
}

TEST_CASE("sizes in front of the data are served where they are right") {
  const ZipImage zip = small_zip();
  const size_t at = zip.local[1];
  const ZipImage sized = zip.with(at + 14, zip_crc(bytes_of("0123456789"))).with(at + 18, 10u).with(at + 22, 10u);
  CHECK(refusal(sized.bytes).second == "served");
  refused_as_corrupt(sized.with(at + 18, 9u), "differs from the directory in CRC-32 or sizes");
  refused_as_corrupt(sized.with(at + 14, 9u), "differs from the directory in CRC-32 or sizes");
  refused_as_corrupt(zip.with(at + 22, 10u), "differs from the directory in CRC-32 or sizes");
}

TEST_CASE("every truncation of a zip, and every longer one, is refused") {
  const ZipImage zip = small_zip();
  for (size_t size = 0; size < zip.bytes.size(); ++size)
    CHECK(refusal(Bytes(zip.bytes.begin(), zip.bytes.begin() + static_cast<ptrdiff_t>(size))).first ==
          Status::kCorrupt);
  Bytes longer = zip.bytes;
  longer.push_back(0);
  CHECK(refusal(longer).first == Status::kCorrupt);
}

TEST_CASE("a zip with one bit changed is refused, or its entries are the same") {
  const ZipImage zip = small_zip();
  size_t n_served = 0;
  for (size_t at = 0; at < zip.bytes.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      const ZipImage changed = zip.with(at, static_cast<uint8_t>(zip.bytes[at] ^ 1 << bit));
      try {
        const TorchZip read(changed.bytes, "file");
        ++n_served;
        CHECK(text_of(read, "data.pkl") == "pickle");
        CHECK(text_of(read, "data/0") == "0123456789");
        CHECK(text_of(read, "data/1").empty());
      } catch (const Error& error) {
        CHECK((error.status() == Status::kCorrupt || error.status() == Status::kUnsupported));
      }
    }
  // Padding, dates, versions and the copies of the sizes behind the data bind nobody.
  CHECK(n_served < 8 * zip.bytes.size() / 2);
}

TEST_CASE("what torch does not write into a zip is refused by name") {
  const ZipImage zip = small_zip();
  const size_t entry = zip.central[1], local = zip.local[1];
  refused_as_unsupported(zip.with(entry + 10, uint16_t{8}), "compressed by method 8");
  refused_as_unsupported(zip.with(entry + 8, uint16_t{0x809}), "encryption");
  refused_as_unsupported(zip.with(entry + 20, 0xffffffffu), "zip64");
  refused_as_unsupported(zip.with(entry + 42, 0xffffffffu), "zip64");
  refused_as_unsupported(zip.with(local + 30 + 11, uint16_t{1}), "zip64");
  refused_as_unsupported(zip.with(zip.end + 8, 0xffffffffu), "zip64");
  refused_as_unsupported(zip.with(zip.end + 16, 0xffffffffu), "zip64");
  refused_as_corrupt(zip.with(local + 8, uint16_t{8}), "differs from the directory");
  refused_as_corrupt(zip.with(entry + 20, 9u), "9 bytes packed and 10 unpacked");
  refused_as_corrupt(zip.with(entry + 34, uint16_t{1}), "another volume");
  refused_as_corrupt(zip.with(zip.end + 4, uint16_t{1}), "several volumes");
  refused_as_corrupt(zip.with(zip.end + 8, uint16_t{2}), "several volumes");
  refused_as_corrupt(zip.with(zip.end + 8, 0x00020002u), "zip64 end record differs");
  refused_as_corrupt(zip.with(zip.end + 20, uint16_t{1}), "without a comment");
  refused_as_corrupt(zip.with(zip.zip64 + 32, uint64_t{4}), "zip64 end record differs");
  refused_as_corrupt(zip.with(zip.zip64 + 48, uint64_t{1} << 40), "zip64 end record differs");
  refused_as_corrupt(zip.with(zip.zip64 + 56 + 8, uint64_t{1} << 63), "locator");
  const ZipImage plain = small_zip(false);
  refused_as_corrupt(plain.with(plain.end + 8, 0x00020002u), "2 entries end here");
  refused_as_corrupt(plain.with(plain.end + 8, 0xfff0fff0u), "65520 entries");
  refused_as_corrupt(plain.with(plain.end + 8, 0u), "0 entries");
  refused_as_corrupt(plain.with(plain.end + 16, 0u), "does not end before");
}

TEST_CASE("sizes and places that leave the file or overlap are refused") {
  const ZipImage zip = small_zip();
  const size_t entry = zip.central[1];
  for (const uint32_t lie : {12u, 0x7fffffffu, 0xfffffffeu}) {
    const auto [status, text] = refusal(zip.with(entry + 20, lie).with(entry + 24, lie).bytes);
    INFO(text);
    CHECK(status == Status::kCorrupt);
    CHECK(refusal(zip.with(entry + 42, lie).bytes).first == Status::kCorrupt);
    CHECK(refusal(zip.with(zip.local[1] + 26, lie).bytes).first == Status::kCorrupt);
    CHECK(refusal(zip.with(entry + 28, static_cast<uint16_t>(lie)).bytes).first == Status::kCorrupt);
    CHECK(refusal(zip.with(entry + 30, static_cast<uint16_t>(lie)).bytes).first == Status::kCorrupt);
  }
  // Both entries one header, with one name: the same place twice.
  const ZipImage twins = zip_of(
      {{"r/data.pkl", bytes_of("p")}, {"r/data/0", bytes_of("a")}, {"r/data/0", bytes_of("a")}});
  refused_as_corrupt(twins, "two entries \"data/0\"");
  refused_as_corrupt(twins.with(twins.central[2] + 42, static_cast<uint32_t>(twins.local[1])), "overlap");
}

TEST_CASE("names that are not in one plain folder are refused") {
  const Bytes p = bytes_of("p");
  for (const char* name : {"../data.pkl", "/r/data.pkl", "r/../data.pkl", "r//data.pkl", "r/./data.pkl", "r/data.pkl/",
                           "r\\data.pkl", "r/data.pkl\n", "", "r/\x01"})
    refused_as_corrupt(zip_of({{name, p}}), "the entry's name is");
  refused_as_corrupt(zip_of({{std::string("r/data.pkl\0x", 12), p}}), "the entry's name is \"r/data.pkl?x\"");
  refused_as_corrupt(zip_of({{"data.pkl", p}}), "is not in the folder");
  refused_as_corrupt(zip_of({{"r/data.pkl", p}, {"s/data/0", p}}), "\"s/data/0\" is not in the folder \"r/\"");
  refused_as_corrupt(zip_of({{"r/s/data.pkl", p}}), "there is no entry \"r/data.pkl\"");
}

TEST_CASE("other files are refused") {
  refused_as_corrupt({bytes_of(std::string(100, 'x')), {}, {}, {}}, "there is no end record");
  refused_as_unsupported({bytes_of("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."), {}, {}, {}},
                         "before 1.6");
}
