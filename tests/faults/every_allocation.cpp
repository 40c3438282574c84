// The n-th request for memory fails, once and then for ever, for every n and in every function of the header: the status
// is NO_MEMORY, outputs are empty, nothing leaks, nothing has changed, and the same call then gives what it gives in a
// world without faults.
#include <doctest/doctest.h>

#include <fstream>
#include <set>

#include "faults/call.h"
#include "faults/failing_memory.h"
#include "support/scale.h"

using namespace test;

namespace {

std::vector<CallKind> all_calls() {
  std::vector<CallKind> all;
  for (const auto& some : {calibration_calls(), cache_calls(), step_calls()})
    all.insert(all.end(), some.begin(), some.end());
  return all;
}

struct Attempt {
  oscar_status status;
  MemoryUse use;
};

Attempt attempt(const Call& call, Failing failing, uint64_t nth) {
  watch_begin(failing, nth);
  const oscar_status status = call.make();
  return {status, watch_end()};
}

void check_failed(const CallKind& kind, const Call& call, const Attempt& a, const Bytes& before) {
  CHECK(oscar_status_name(a.status) == std::string("OSCAR_E_NO_MEMORY"));
  CHECK(std::string(oscar_last_error()) == kind.function + ": out of memory");
  CHECK(a.use.n_kept == 0);
  CHECK(call.outputs_are_empty());
  CHECK(call.look() == before);
}

// The requests of a call, each in turn. Where one may fail without harm (a buffer that is only nice to have) the call
// succeeds, and the world is made anew.
void fail_every_request(const CallKind& kind, Failing failing) {
  const Call whole = kind.prepare();
  const Attempt undisturbed = attempt(whole, Failing::kNever, 0);
  INFO(oscar_last_error());
  REQUIRE(undisturbed.status == OSCAR_OK);
  const Bytes wanted = whole.result();
  if (kind.takes_no_memory) CHECK(undisturbed.use.n_requests == 0);

  Call call = kind.prepare();
  for (uint64_t nth = 1;; ++nth) {
    INFO("request " << nth << " of " << undisturbed.use.n_requests);
    const Bytes before = call.look();
    const Attempt a = attempt(call, failing, nth);
    if (a.status == OSCAR_OK) {
      REQUIRE(call.result() == wanted);
      if (a.use.n_failed == 0) return;
      call = kind.prepare();
    } else {
      check_failed(kind, call, a, before);
    }
    REQUIRE(nth <= undisturbed.use.n_requests + 8);
  }
}

}  // namespace

TEST_CASE("every call survives every failing request for memory") {
  for (const CallKind& kind : all_calls())
    for (Failing failing : {Failing::kOnce, Failing::kForEver}) {
      INFO(kind.function << " (" << kind.name << "), " << (failing == Failing::kOnce ? "once" : "for ever"));
      fail_every_request(kind, failing);
    }
}

TEST_CASE("every function of the ABI has such a case") {
  std::set<std::string> tested;
  for (const CallKind& kind : all_calls()) tested.insert(kind.function);
  std::ifstream symbols(OSCAR_SYMBOLS);
  uint64_t n = 0;
  for (std::string kind, symbol; symbols >> kind >> symbol; ++n) {
    symbol.resize(symbol.find('@'));
    CHECK_MESSAGE(tested.erase(symbol) == 1, symbol << " has no case");
  }
  CHECK(n > 40);
  CHECK(tested.empty());
}
