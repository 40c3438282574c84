// Threads that share the tasks of one call. The caller is one of them; the others sleep between calls.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory_resource>
#include <thread>
#include <vector>

namespace oscar {

class WorkerPool {
 public:
  // Starts n_threads - 1 threads, or throws and leaves none behind.
  WorkerPool(uint32_t n_threads, std::pmr::memory_resource* memory);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  uint32_t n_threads() const { return static_cast<uint32_t>(threads_.size()) + 1; }

  // Calls f(task, worker) once for each task < n_tasks, with worker < n_threads(), and returns when all are done. Tasks
  // begin in ascending order. f does not throw.
  template <typename F>
  void run(uint32_t n_tasks, F&& f) {
    if (threads_.empty() || n_tasks < 2) {
      for (uint32_t task = 0; task < n_tasks; ++task) f(task, 0);
    } else {
      call_ = [](void* function, uint32_t task, uint32_t worker) { (*static_cast<F*>(function))(task, worker); };
      function_ = &f;
      share(n_tasks);
    }
  }

 private:
  void share(uint32_t n_tasks);
  void work(uint32_t worker);
  void serve(uint32_t worker);
  void stop();

  std::pmr::vector<std::thread> threads_;
  // The call at hand. Written before `tasks_`; read by whoever has taken a task of it, which keeps the call alive.
  void (*call_)(void*, uint32_t, uint32_t) = nullptr;
  void* function_ = nullptr;
  std::atomic<uint64_t> tasks_{0};  // next task in the upper half, number of tasks in the lower one
  std::atomic<uint32_t> done_{0};   // tasks of this call that are done
  std::atomic<uint32_t> bell_{0};   // rung when there are tasks
  std::atomic<bool> stop_{false};
};

}  // namespace oscar
