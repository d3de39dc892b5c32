// Tasks on XLA's thread pool.
#ifndef JAXCNN_PARALLEL_H_
#define JAXCNN_PARALLEL_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "geometry.h"
#include "xla/ffi/api/ffi.h"

namespace jaxcnn {

using xla::ffi::ThreadPool;

// Tasks 0, ..., count - 1, in any order.
struct Stage {
  int64_t count;
  std::function<void(int64_t)> task;
};

// Run the tasks of each stage, when those of the stages before are done, on this thread and the
// pool's, and wait for all. This thread takes tasks until none is left, so that it never waits for
// one that has not begun: the pool's threads may all be waiting here themselves. Stages that follow
// one another are one call, because waking a thread takes as long as a small stage.
inline void parallel(ThreadPool& pool, const std::vector<Stage>& stages) {
  struct Shared {
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable changed;

    void add(int64_t tasks) {
      if (tasks == 0) return;
      std::lock_guard<std::mutex> lock(mutex);
      done += tasks;
      changed.notify_all();
    }

    // Other threads end what they began, and mostly sooner than a sleeping thread is woken.
    void wait(int64_t tasks) {
      for (int turns = 0; turns < 256; ++turns) {
        if (done >= tasks) return;
        std::this_thread::yield();
      }
      std::unique_lock<std::mutex> lock(mutex);
      changed.wait(lock, [&] { return done >= tasks; });
    }
  };
  auto shared = std::make_shared<Shared>();
  int64_t all = 0, most = 0;
  for (const Stage& stage : stages) all += stage.count, most = std::max(most, stage.count);
  // A helper that begins after the last task was taken must not touch `stages`, which is gone then.
  auto work = [shared, all, &stages] {
    int64_t mine = 0, first = 0, at = 0;  // first: of the stage `at`, counted over all stages
    for (int64_t i; (i = shared->next.fetch_add(1)) < all; ++mine) {
      while (i >= first + stages[at].count) {
        shared->add(std::exchange(mine, 0));
        first += stages[at++].count;
        shared->wait(first);
      }
      stages[at].task(i - first);
    }
    shared->add(mine);
  };
  const int64_t helpers = std::min(most, pool.num_threads()) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule(std::function<void()>(work));
  work();
  shared->wait(all);
}

inline void parallel(ThreadPool& pool, int64_t count, std::function<void(int64_t)> task) {
  parallel(pool, {{count, std::move(task)}});
}

// Rows of all images' targets that a task takes: few enough to stay in the second cache with what
// they are computed of, and not so many that a thread waits for another's at the end.
template <typename T>
int64_t rows_of_task(const ThreadPool& pool, const Array<const T>& source, const Array<T>& target) {
  const int64_t bytes = (source.w * source.c + target.w * target.c) * sizeof(T);
  const int64_t fit = (1 << 18) / std::max<int64_t>(bytes, 1);
  const int64_t share = target.n * target.h / (4 * std::max<int64_t>(pool.num_threads(), 1));
  return std::max<int64_t>(1, std::min(fit, share));
}

}  // namespace jaxcnn

#endif
