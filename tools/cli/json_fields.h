// Fields of a JSON object with the types and ranges that they must have; a message names the file and the field.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>

namespace oscar::cli {

using Json = nlohmann::json;

// Parses a whole document of at most 4 MiB and 64 levels. Throws Failure (input); `otherwise` is what else it is not.
Json parse_json(std::span<const uint8_t> bytes, const std::string& name, const char* otherwise = "no JSON");

class JsonFields {
 public:
  // `object` is borrowed. Throws Failure where it is no object.
  JsonFields(const Json& object, std::string name);

  const std::string& name() const { return name_; }
  bool has(const char* field) const { return find(field) != nullptr; }  // present, and not null
  bool is_null(const char* field) const;                                // written out as null
  const Json* find(const char* field) const;

  // The first of these names that is there. Throws Failure where it is no whole number from `least` to `most`.
  std::optional<uint64_t> number(std::initializer_list<const char*> names, uint64_t least, uint64_t most) const;
  uint64_t needed(std::initializer_list<const char*> names, uint64_t least, uint64_t most) const;
  std::optional<double> real(const char* field) const;
  std::optional<bool> flag(const char* field) const;
  std::string word(const char* field) const;  // empty where absent
  // Throws Failure where it is no array.
  const Json* array(const char* field) const;

  [[noreturn]] void refuse(const char* field, const std::string& problem) const;

 private:
  const Json& object_;
  std::string name_;
};

}  // namespace oscar::cli
