// .safetensors: eight bytes with the size of a JSON object, the object, and the data that it describes.
// https://github.com/huggingface/safetensors#format
#include <array>
#include <cstring>
#include <string_view>

#include "failure.h"
#include "json_fields.h"
#include "tensor_file.h"
#include "text.h"

namespace oscar::cli {

namespace {

struct Type {
  std::string_view name;
  uint8_t code, bits;
};
constexpr std::array kTypes{Type{"F32", OSCAR_DTYPE_FLOAT, 32}, Type{"F16", OSCAR_DTYPE_FLOAT, 16},
                            Type{"BF16", OSCAR_DTYPE_BFLOAT, 16}};

TensorEntry read_entry(const Json& json, std::span<const uint8_t> data, const std::string& where) {
  const JsonFields fields(json, where);
  TensorEntry entry;
  const std::string dtype = fields.word("dtype");
  for (const Type& type : kTypes)
    if (type.name == dtype) entry.dtype_code = type.code, entry.dtype_bits = type.bits;
  if (entry.dtype_bits == 0)
    fields.refuse("dtype", text("is \"%s\", wanted F32, F16 or BF16", printable(dtype).c_str()));
  const Json* shape = fields.array("shape");
  const Json* offsets = fields.array("data_offsets");
  if (!shape || shape->size() > 8) fields.refuse("shape", "is missing, or longer than 8");
  if (!offsets || offsets->size() != 2) fields.refuse("data_offsets", "are not two numbers");
  for (const Json& extent : *shape) {
    if (!extent.is_number_unsigned()) fields.refuse("shape", "has an entry that is no whole number");
    entry.shape.push_back(extent.get<uint64_t>());
  }
  for (const Json& offset : *offsets)
    if (!offset.is_number_unsigned()) fields.refuse("data_offsets", "are not two whole numbers");
  const auto begin = (*offsets)[0].get<uint64_t>(), end = (*offsets)[1].get<uint64_t>();
  if (begin > end || end > data.size())
    fields.refuse("data_offsets",
                  text("are %llu and %llu, the data has %zu bytes", static_cast<unsigned long long>(begin),
                       static_cast<unsigned long long>(end), data.size()));
  set_data(entry, data.subspan(begin, end - begin), where);
  return entry;
}

}  // namespace

TensorEntries read_safetensors(std::span<const uint8_t> bytes, const std::string& name) {
  const std::string file = printable(name);
  uint64_t size = 0;
  if (bytes.size() < sizeof size) bad_input(file + ": neither .safetensors nor .npz");
  std::memcpy(&size, bytes.data(), sizeof size);
  if (size > bytes.size() - sizeof size || size == 0 || bytes[sizeof size] != '{')
    bad_input(file + ": neither .safetensors nor .npz");
  const Json header = parse_json(bytes.subspan(sizeof size, size), name + ": header");
  if (!header.is_object()) bad_input(file + ": the header is no JSON object");
  const std::span<const uint8_t> data = bytes.subspan(sizeof size + size);
  TensorEntries entries;
  for (const auto& [key, value] : header.items())
    if (key != "__metadata__") entries[key] = read_entry(value, data, file + ": " + printable(key));
  return entries;
}

}  // namespace oscar::cli
