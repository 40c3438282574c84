set(OSCAR_WARNINGS -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion)
if(OSCAR_WERROR)
  list(APPEND OSCAR_WARNINGS -Werror)
endif()
# Results must not depend on the compiler's choice to fuse a multiplication and an addition (docs/numerics.md).
set(OSCAR_NUMERIC_FLAGS -ffp-contract=off)
