// The reference attention: what every backend is compared to.
#pragma once
#include "attention/work.h"

namespace oscar {

// Attention exactly as work.h describes it, in double precision, one query row after the other. Allocates.
void attend_oracle(const AttendWork& work);

}  // namespace oscar
