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

#include "geometry.h"
#include "xla/ffi/api/ffi.h"

namespace jaxcnn {

using xla::ffi::ThreadPool;

// Run task(0), ..., task(count - 1), each once, on this thread and the pool's, and wait for all.
// This thread takes tasks until none is left, so that it never waits for one that has not begun:
// the pool's threads may all be waiting here themselves.
inline void parallel(ThreadPool& pool, int64_t count, const std::function<void(int64_t)>& task) {
  struct Shared {
    std::atomic<int64_t> next{0};
    int64_t done = 0;
    std::mutex mutex;
    std::condition_variable all;
  };
  auto shared = std::make_shared<Shared>();
  // A helper that begins after the last task was taken must not touch `task`, which is gone then.
  auto work = [shared, count, &task] {
    int64_t mine = 0;
    for (int64_t i; (i = shared->next.fetch_add(1)) < count; ++mine) task(i);
    if (mine == 0) return;
    std::lock_guard<std::mutex> lock(shared->mutex);
    shared->done += mine;
    if (shared->done == count) shared->all.notify_all();
  };
  const int64_t helpers = std::min(count, pool.num_threads()) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule(std::function<void()>(work));
  work();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->all.wait(lock, [&] { return shared->done == count; });
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
