#include "json_fields.h"

#include "failure.h"
#include "text.h"

namespace oscar::cli {

namespace {
constexpr size_t kMostBytes = 4u << 20;
constexpr int kMostDepth = 64;
}  // namespace

Json parse_json(std::span<const uint8_t> bytes, const std::string& name, const char* otherwise) {
  const std::string file = printable(name);
  if (bytes.size() > kMostBytes)
    bad_input(text("%s: %zu bytes, a description in JSON has at most %zu", file.c_str(), bytes.size(), kMostBytes));
  const auto watch_depth = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > kMostDepth) bad_input(text("%s: JSON nested deeper than %d levels", file.c_str(), kMostDepth));
    return true;
  };
  try {
    return Json::parse(bytes.begin(), bytes.end(), watch_depth);
  } catch (const Json::parse_error& error) {
    bad_input(text("%s: %s (JSON fails at byte %zu)", file.c_str(), otherwise, error.byte));
  } catch (const Json::out_of_range&) {
    bad_input(text("%s: a number in its JSON is too large", file.c_str()));
  }
}

JsonFields::JsonFields(const Json& object, std::string name) : object_(object), name_(printable(name)) {
  if (!object.is_object())
    bad_input(text("%s: is JSON of type %s, wanted an object", name_.c_str(), object.type_name()));
}

bool JsonFields::is_null(const char* field) const {
  const auto found = object_.find(field);
  return found != object_.end() && found->is_null();
}

const Json* JsonFields::find(const char* field) const {
  const auto found = object_.find(field);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void JsonFields::refuse(const char* field, const std::string& problem) const {
  bad_input(text("%s: %s %s", name_.c_str(), field, problem.c_str()));
}

std::optional<uint64_t> JsonFields::number(std::initializer_list<const char*> names, uint64_t least,
                                           uint64_t most) const {
  for (const char* field : names) {
    const Json* value = find(field);
    if (!value) continue;
    if (!value->is_number_integer()) refuse(field, text("is of type %s, wanted a whole number", value->type_name()));
    const bool negative = !value->is_number_unsigned() && value->get<int64_t>() < 0;
    if (negative)
      refuse(field, text("is %lld, wanted %llu to %llu", static_cast<long long>(value->get<int64_t>()),
                         static_cast<unsigned long long>(least), static_cast<unsigned long long>(most)));
    const auto number = value->get<uint64_t>();
    if (number < least || number > most)
      refuse(field, text("is %llu, wanted %llu to %llu", static_cast<unsigned long long>(number),
                         static_cast<unsigned long long>(least), static_cast<unsigned long long>(most)));
    return number;
  }
  return std::nullopt;
}

uint64_t JsonFields::needed(std::initializer_list<const char*> names, uint64_t least, uint64_t most) const {
  const auto value = number(names, least, most);
  if (!value) refuse(*names.begin(), "is missing");
  return *value;
}

std::optional<double> JsonFields::real(const char* field) const {
  const Json* value = find(field);
  if (!value) return std::nullopt;
  if (!value->is_number()) refuse(field, text("is of type %s, wanted a number", value->type_name()));
  return value->get<double>();
}

std::optional<bool> JsonFields::flag(const char* field) const {
  const Json* value = find(field);
  if (!value) return std::nullopt;
  if (!value->is_boolean()) refuse(field, text("is of type %s, wanted true or false", value->type_name()));
  return value->get<bool>();
}

std::string JsonFields::word(const char* field) const {
  const Json* value = find(field);
  if (!value) return {};
  if (!value->is_string()) refuse(field, text("is of type %s, wanted a text", value->type_name()));
  return value->get<std::string>();
}

const Json* JsonFields::array(const char* field) const {
  const Json* value = find(field);
  if (value && !value->is_array()) refuse(field, text("is of type %s, wanted a list", value->type_name()));
  return value;
}

}  // namespace oscar::cli
