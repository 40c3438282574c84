#include "backend/worker_pool.h"

#include <doctest/doctest.h>

#include <memory_resource>
#include <numeric>
#include <vector>

namespace oscar {
namespace {

TEST_CASE("every task is done once, by a worker of the pool, before run returns") {
  for (uint32_t n_threads : {1u, 2u, 3u, 8u}) {
    WorkerPool pool(n_threads, std::pmr::new_delete_resource());
    CHECK(pool.n_threads() == n_threads);
    uint64_t n_wrong = 0;
    for (uint32_t round = 0; round < 3000; ++round) {
      const uint32_t n_tasks = round % 37;
      std::vector<uint32_t> done(n_tasks, 0), by(n_tasks, 0);
      pool.run(n_tasks, [&](uint32_t task, uint32_t worker) {
        ++done[task];
        by[task] = worker;
      });
      for (uint32_t task = 0; task < n_tasks; ++task) n_wrong += done[task] != 1 || by[task] >= n_threads;
    }
    CHECK(n_wrong == 0);
  }
}

TEST_CASE("a worker has one task at a time") {
  WorkerPool pool(4, std::pmr::new_delete_resource());
  std::vector<uint64_t> by_worker(4, 0);  // no atomics: the thread sanitizer would tell
  for (int round = 0; round < 500; ++round) pool.run(16, [&](uint32_t, uint32_t worker) { ++by_worker[worker]; });
  CHECK(std::accumulate(by_worker.begin(), by_worker.end(), uint64_t{0}) == 8000);
}

TEST_CASE("threads that sleep wake for the next call, and end with the pool") {
  for (int round = 0; round < 20; ++round) {
    WorkerPool pool(3, std::pmr::new_delete_resource());
    std::this_thread::sleep_for(std::chrono::milliseconds(round % 3));
    std::vector<int> done(8, 0);
    pool.run(8, [&](uint32_t task, uint32_t) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      done[task] = 1;
    });
    CHECK(std::accumulate(done.begin(), done.end(), 0) == 8);
  }
}

}  // namespace
}  // namespace oscar
