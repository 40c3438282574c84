/* The header alone must compile in every C and C++ version that it promises, and twice as well as once. */
/* clang-format would drop the second one. */
/* clang-format off */
#include <oscar/oscar.h>
#include <oscar/oscar.h>
/* clang-format on */

typedef char the_stream_is_a_pointer[sizeof(oscar_stream) == sizeof(void *) ? 1 : -1];
typedef char a_status_has_32_bits[sizeof(oscar_status) == 4 && OSCAR_E_INVALID < 0 ? 1 : -1];
