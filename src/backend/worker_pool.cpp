#include "backend/worker_pool.h"

#include <pthread.h>
#include <signal.h>

#include "format/error.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace oscar {

namespace {

// Layers follow one another within microseconds, and a thread that sleeps takes 50 us and more to wake: look around for
// about 100 us before sleeping.
constexpr int kSpins = 6000;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

template <typename T>
void wait_for_change(std::atomic<T>& x, T old) {
  for (int i = 0; i < kSpins; ++i) {
    if (x.load(std::memory_order_acquire) != old) return;
    pause();
  }
  x.wait(old, std::memory_order_acquire);
}

// Signals of the process go to the threads that the caller knows about.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

WorkerPool::WorkerPool(uint32_t n_threads, std::pmr::memory_resource* memory) : threads_(memory) {
  const SignalsBlocked blocked;  // new threads inherit it
  threads_.reserve(n_threads - 1);
  try {
    for (uint32_t worker = 1; worker < n_threads; ++worker) threads_.emplace_back([this, worker] { serve(worker); });
  } catch (const std::exception& e) {
    stop();
    throw Error(Status::kNoMemory, "thread %zu of %u could not be started: %s", threads_.size() + 2, n_threads,
                e.what());
  }
}

WorkerPool::~WorkerPool() { stop(); }

void WorkerPool::stop() {
  stop_.store(true, std::memory_order_relaxed);
  bell_.fetch_add(1, std::memory_order_release);
  bell_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::share(uint32_t n_tasks) {
  done_.store(0, std::memory_order_relaxed);
  tasks_.store(n_tasks, std::memory_order_release);
  bell_.fetch_add(1, std::memory_order_release);
  bell_.notify_all();
  work(0);
  for (uint32_t done = done_.load(std::memory_order_acquire); done < n_tasks;
       done = done_.load(std::memory_order_acquire))
    wait_for_change(done_, done);
}

// Takes tasks until none is left. A thread that comes late finds none, or those of the next call: taking one makes sure
// that `call_` is that of the task.
void WorkerPool::work(uint32_t worker) {
  uint64_t state = tasks_.load(std::memory_order_acquire);
  for (;;) {
    const uint32_t task = static_cast<uint32_t>(state >> 32), n_tasks = static_cast<uint32_t>(state);
    if (task >= n_tasks) return;
    if (!tasks_.compare_exchange_weak(state, state + (uint64_t{1} << 32), std::memory_order_acq_rel,
                                      std::memory_order_acquire))
      continue;
    call_(function_, task, worker);
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == n_tasks) done_.notify_one();
    state = tasks_.load(std::memory_order_acquire);
  }
}

void WorkerPool::serve(uint32_t worker) {
  for (;;) {
    const uint32_t rung = bell_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_relaxed)) return;
    work(worker);
    wait_for_change(bell_, rung);
  }
}

}  // namespace oscar
