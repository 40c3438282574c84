// Every argument of every function, as the header has them, made wrong in every way (tests/border/mutator.h): what must be
// refused is refused with a text that names the function, a refused call leaves outputs empty and the world as it was, and
// the right call then works. What is merely strange is survived.
#include <doctest/doctest.h>

#include <functional>

#include "border/mutator.h"
#include "border/scene.h"

using namespace test;

namespace {

template <class Frame>
void check_refused(const Frame& frame, const Mutator& mutator, const Scene& scene, const Bytes& before) {
  CHECK(mutator.expected() != Expected::kServed);
  CHECK(std::string(oscar_last_error()).starts_with(std::string(Frame::function) + ": "));
  if (!mutator.hides_output()) CHECK(frame.outputs_are_empty());
  CHECK(scene.look() == before);
}

template <class Frame>
void check_served(const Frame& frame, const Mutator& mutator) {
  CHECK(mutator.expected() != Expected::kRefused);
  for (int i = 0; mutator.tail_to_be_zero() && i < 8; ++i) CHECK(mutator.tail_to_be_zero()[i] == 0);
  frame.destroy_made();
}

// A call that was served may have changed the scene, unless it promises not to: the next one gets a new one.
template <class Frame>
uint64_t try_every_argument() {
  auto scene = std::make_unique<Scene>();
  for (uint64_t target = 0;; ++target) {
    Frame frame;
    good(*scene, frame);
    OutputPoison poison;
    frame.visit(poison);
    const Bytes before = scene->look();
    Mutator mutator(Frame::function, target);
    frame.visit(mutator);
    const bool is_last = !mutator.has_applied();
    INFO(std::string(is_last ? std::string(Frame::function) + ": after all that" : mutator.what()));
    const oscar_status status = frame.call();
    INFO("status " << oscar_status_name(status) << ", " << oscar_last_error());
    CHECK(oscar_status_name(status) != std::string("OSCAR_E_UNKNOWN"));
    CHECK(status != OSCAR_E_INTERNAL);
    if (is_last) {
      CHECK(status == OSCAR_OK);
      if (status == OSCAR_OK) frame.destroy_made();
      return target;
    }
    if (status != OSCAR_OK) {
      check_refused(frame, mutator, *scene, before);
    } else {
      check_served(frame, mutator);
      if constexpr (Frame::is_const)
        CHECK(scene->look() == before);
      else
        scene = std::make_unique<Scene>();
    }
  }
}

}  // namespace

#define OSCAR_BORDER_CASE(function)                                                                                    \
  TEST_CASE("every argument of " #function) { CHECK(try_every_argument<Frame_##function>() > 0); }
OSCAR_FRAMES(OSCAR_BORDER_CASE)
