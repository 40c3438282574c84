#include "gguf.h"

#include <bit>
#include <cstring>

#include "failure.h"
#include "text.h"

static_assert(std::endian::native == std::endian::little);

namespace oscar::cli {

namespace {

constexpr uint64_t kMostKeys = 65536, kMostKeyBytes = 65535, kMostListKept = 65536;
constexpr int kMostNesting = 4;

enum Type : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

// Bytes of a number; 0 for what is none.
uint64_t size_of(uint32_t type) {
  switch (type) {
    case kU8:
    case kI8:
    case kBool: return 1;
    case kU16:
    case kI16: return 2;
    case kU32:
    case kI32:
    case kF32: return 4;
    case kU64:
    case kI64:
    case kF64: return 8;
    default: return 0;
  }
}

class Cursor {
 public:
  Cursor(std::span<const uint8_t> bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  [[noreturn]] void refuse(const std::string& problem) const {
    bad_input(text("%s: GGUF header, byte %zu: %s", name_.c_str(), at_, problem.c_str()));
  }
  const uint8_t* take(uint64_t n) {
    if (n > bytes_.size() - at_)
      refuse(text("%llu bytes wanted, the file has %zu more", static_cast<unsigned long long>(n), bytes_.size() - at_));
    const uint8_t* here = bytes_.data() + at_;
    at_ += static_cast<size_t>(n);
    return here;
  }
  template <class T>
  T read() {
    T value;
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }
  std::string string(uint64_t most) {
    const auto size = read<uint64_t>();
    if (size > most)
      refuse(text("a text of %llu bytes, wanted at most %llu", static_cast<unsigned long long>(size),
                  static_cast<unsigned long long>(most)));
    const auto* from = reinterpret_cast<const char*>(take(size));
    return {from, from + size};
  }
  uint64_t n_left() const { return bytes_.size() - at_; }

 private:
  std::span<const uint8_t> bytes_;
  const std::string& name_;
  size_t at_ = 0;
};

GgufValue read_number(Cursor& cursor, uint32_t type) {
  switch (type) {
    case kU8: return uint64_t{cursor.read<uint8_t>()};
    case kI8: return int64_t{cursor.read<int8_t>()};
    case kU16: return uint64_t{cursor.read<uint16_t>()};
    case kI16: return int64_t{cursor.read<int16_t>()};
    case kU32: return uint64_t{cursor.read<uint32_t>()};
    case kI32: return int64_t{cursor.read<int32_t>()};
    case kU64: return cursor.read<uint64_t>();
    case kI64: return cursor.read<int64_t>();
    case kF32: return double{cursor.read<float>()};
    case kF64: return cursor.read<double>();
    case kBool: return cursor.read<uint8_t>() != 0;
    default: cursor.refuse(text("a value of the unknown type %u", type));
  }
}

int64_t as_whole(const GgufValue& value, const Cursor& cursor) {
  if (const auto* u = std::get_if<uint64_t>(&value); u && *u <= INT64_MAX) return static_cast<int64_t>(*u);
  if (const auto* i = std::get_if<int64_t>(&value)) return *i;
  if (const auto* b = std::get_if<bool>(&value)) return *b ? 1 : 0;
  cursor.refuse("a number that is not whole, or too large, in a list");
}

GgufValue read_list(Cursor& cursor, int nesting) {
  if (nesting > kMostNesting) cursor.refuse(text("lists nested deeper than %d", kMostNesting));
  const auto type = cursor.read<uint32_t>();
  const auto n = cursor.read<uint64_t>();
  // A list's element takes a byte at least: a larger count is damage, and must not be counted through.
  if (n > cursor.n_left())
    cursor.refuse(text("a list of %llu elements, the file has %llu bytes more", static_cast<unsigned long long>(n),
                       static_cast<unsigned long long>(cursor.n_left())));
  if (type == kString) {
    for (uint64_t i = 0; i < n; ++i) cursor.take(cursor.read<uint64_t>());
    return {};
  }
  if (type == kArray) {
    for (uint64_t i = 0; i < n; ++i) read_list(cursor, nesting + 1);
    return {};
  }
  const uint64_t size = size_of(type);
  if (size == 0) cursor.refuse(text("a list of the unknown type %u", type));
  if (n > kMostListKept || type == kF32 || type == kF64) {
    cursor.take(n * size);  // n is at most the file's size: no overflow
    return {};
  }
  GgufList list;
  for (uint64_t i = 0; i < n; ++i) list.push_back(as_whole(read_number(cursor, type), cursor));
  return list;
}

GgufValue read_value(Cursor& cursor) {
  const auto type = cursor.read<uint32_t>();
  if (type == kArray) return read_list(cursor, 1);
  // A template of a chat may be long; a text takes no more than the file has.
  if (type == kString) return cursor.string(cursor.n_left());
  return read_number(cursor, type);
}

}  // namespace

Gguf::Gguf(std::span<const uint8_t> bytes, const std::string& name) : name_(printable(name)) {
  Cursor cursor(bytes, name_);
  if (std::memcmp(cursor.take(4), "GGUF", 4) != 0) cursor.refuse("it does not begin with GGUF");
  const auto version = cursor.read<uint32_t>();
  if (version != 2 && version != 3) cursor.refuse(text("version %u, read are 2 and 3 in little endian", version));
  cursor.read<uint64_t>();  // tensors
  const auto n_keys = cursor.read<uint64_t>();
  if (n_keys > kMostKeys)
    cursor.refuse(text("%llu keys, wanted at most %llu", static_cast<unsigned long long>(n_keys),
                       static_cast<unsigned long long>(kMostKeys)));
  for (uint64_t i = 0; i < n_keys; ++i) {
    std::string key = cursor.string(kMostKeyBytes);
    GgufValue value = read_value(cursor);
    const auto [at, is_new] = values_.emplace(std::move(key), std::move(value));
    if (!is_new) cursor.refuse(text("the key %s is there twice", printable(at->first).c_str()));
  }
}

void Gguf::refuse(const std::string& key, const std::string& problem) const {
  bad_input(text("%s: %s %s", name_.c_str(), printable(key).c_str(), problem.c_str()));
}

const GgufValue* Gguf::find(const std::string& key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

std::string Gguf::word(const std::string& key) const {
  const GgufValue* value = find(key);
  if (!value) return {};
  const auto* word = std::get_if<std::string>(value);
  if (!word) refuse(key, "is no text");
  return *word;
}

std::optional<double> Gguf::real(const std::string& key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  const auto* real = std::get_if<double>(value);
  if (!real) refuse(key, "is no floating-point number");
  return *real;
}

std::optional<uint64_t> Gguf::number(const std::string& key, uint64_t least, uint64_t most) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  uint64_t number = 0;
  if (const auto* u = std::get_if<uint64_t>(value)) {
    number = *u;
  } else if (const auto* i = std::get_if<int64_t>(value); i && *i >= 0) {
    number = static_cast<uint64_t>(*i);
  } else {
    refuse(key, "is no whole number from 0 on");
  }
  if (number < least || number > most)
    refuse(key, text("is %llu, wanted %llu to %llu", static_cast<unsigned long long>(number),
                     static_cast<unsigned long long>(least), static_cast<unsigned long long>(most)));
  return number;
}

uint64_t Gguf::needed(const std::string& key, uint64_t least, uint64_t most) const {
  const auto value = number(key, least, most);
  if (!value) refuse(key, "is missing");
  return *value;
}

std::optional<std::vector<uint64_t>> Gguf::per_layer(const std::string& key, size_t n_layers, uint64_t most) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  const auto* list = std::get_if<GgufList>(value);
  if (!list) return std::vector<uint64_t>(n_layers, *number(key, 0, most));
  if (list->size() != n_layers) refuse(key, text("has %zu entries, the model %zu layers", list->size(), n_layers));
  std::vector<uint64_t> numbers;
  for (const int64_t n : *list) {
    if (n < 0 || static_cast<uint64_t>(n) > most)
      refuse(key, text("has an entry %lld, wanted 0 to %llu", static_cast<long long>(n),
                       static_cast<unsigned long long>(most)));
    numbers.push_back(static_cast<uint64_t>(n));
  }
  return numbers;
}

}  // namespace oscar::cli
