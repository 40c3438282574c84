// The border's one template: runs a call, turns exceptions into a status and a text.
#pragma once
#include <exception>
#include <new>

#include "format/error.h"
#include "oscar/oscar.h"

namespace oscar::border {

static_assert(
    static_cast<int>(Status::kInvalid) == OSCAR_E_INVALID && static_cast<int>(Status::kNoMemory) == OSCAR_E_NO_MEMORY &&
    static_cast<int>(Status::kNoSpace) == OSCAR_E_NO_SPACE &&
    static_cast<int>(Status::kNotFound) == OSCAR_E_NOT_FOUND && static_cast<int>(Status::kState) == OSCAR_E_STATE &&
    static_cast<int>(Status::kUnsupported) == OSCAR_E_UNSUPPORTED &&
    static_cast<int>(Status::kCorrupt) == OSCAR_E_CORRUPT && static_cast<int>(Status::kBackend) == OSCAR_E_BACKEND &&
    static_cast<int>(Status::kInternal) == OSCAR_E_INTERNAL && static_cast<int>(Status::kDevice) == OSCAR_E_DEVICE);

// Remembers "function: text" for oscar_last_error of this thread.
void set_last_error(const char* function, const char* text) noexcept;

template <class Call>
oscar_status guarded(const char* function, Call&& call) noexcept {
  try {
    call();
    return OSCAR_OK;
  } catch (const Error& e) {
    set_last_error(function, e.what());
    return static_cast<oscar_status>(e.status());
  } catch (const std::bad_alloc&) {
    set_last_error(function, "out of memory");
    return OSCAR_E_NO_MEMORY;
  } catch (const std::exception& e) {
    set_last_error(function, e.what());
    return OSCAR_E_INTERNAL;
  } catch (...) {
    set_last_error(function, "unknown exception");
    return OSCAR_E_INTERNAL;
  }
}

}  // namespace oscar::border
