// What `oscar report` makes of one JSON document.
#pragma once
#include <limits>

#include "html.h"
#include "json_fields.h"

namespace oscar::cli {

// A whole number of a document; a Json::exception where it is none, or too large for the type.
template <class T>
T whole(const Json& value) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > std::numeric_limits<T>::max())
    throw Json::type_error::create(302, "it is no whole number", &value);
  return value.get<T>();
}

// By what the document says it is. Throws Failure (input), which names the file, where nothing is drawn for it, or it is not
// laid out as it should be.
Section section_of(const Json& document, const std::string& file);

// Of bench/quality/run.py --json.
Section quality_section(const Json& document);
// Of oscar plan.
Section memory_section(const Json& document);
// Of oscar bench, and of bench/cpu.py decode.
Section bench_section(const Json& document);
Section cpu_section(const Json& document);
// Of oscar evaluate, calibrate, map and inspect.
Section evaluate_section(const Json& document);
Section calibrate_section(const Json& document);
Section map_section(const Json& document);
Section inspect_section(const Json& document);

}  // namespace oscar::cli
