// Tasks on XLA's thread pool.
#ifndef JAXCNN_PARALLEL_H_
#define JAXCNN_PARALLEL_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "geometry.h"
#include "xla/ffi/api/ffi.h"

namespace jaxcnn {

using xla::ffi::ThreadPool;

using Task = std::function<void(int64_t)>;

// Tasks 0, ..., count - 1, in any order. A thread that takes some calls `begin` once, for what it
// needs for them.
struct Stage {
  int64_t count;
  std::function<Task()> begin;

  template <typename Begin>
  Stage(int64_t count, Begin begin) : count(count) {
    if constexpr (std::is_invocable_v<Begin, int64_t>)
      this->begin = [task = Task(std::move(begin))] { return task; };
    else
      this->begin = std::move(begin);
  }
};

// What the threads of a call share. Each begins with a part of its own of every stage's tasks,
// which are side by side and the same in one call as in the next: what it wrote it mostly reads
// again, out of its own caches.
class Shared {
 public:
  Shared(const std::vector<Stage>& stages, int64_t threads) : stages_(stages), threads_(threads) {
    for (const Stage& stage : stages) {
      ends_.push_back(all() + stage.count);
      for (int64_t thread = 0; thread < threads; ++thread)
        next_.emplace_back(stage.count * thread / threads);
    }
  }

  // Run tasks as one of the threads until none is left. One that begins after the last task was
  // taken touches no stage: they may be gone then.
  void work(int64_t thread) {
    int64_t mine = 0;
    for (size_t stage = 0; stage < ends_.size(); ++stage) {
      const int64_t before = stage > 0 ? ends_[stage - 1] : 0, count = ends_[stage] - before;
      if (stage > 0) {
        add(std::exchange(mine, 0));
        wait(before);
      }
      Task task;
      for (int64_t turn = 0; turn < threads_; ++turn) {
        const int64_t part = (thread + turn) % threads_, end = count * (part + 1) / threads_;
        std::atomic<int64_t>& next = next_[stage * threads_ + part];
        for (int64_t i; (i = next.fetch_add(1)) < end; ++mine) {
          if (!task) task = stages_[stage].begin();
          task(i);
        }
      }
    }
    add(mine);
  }

  // Wait until so many tasks are done. Other threads end what they began, and mostly sooner than a
  // sleeping thread is woken.
  void wait(int64_t tasks) {
    for (int turns = 0; turns < 256; ++turns) {
      if (done_ >= tasks) return;
      std::this_thread::yield();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return done_ >= tasks; });
  }

  int64_t all() const { return ends_.empty() ? 0 : ends_.back(); }

 private:
  void add(int64_t tasks) {
    if (tasks == 0) return;
    std::lock_guard<std::mutex> lock(mutex_);
    done_ += tasks;
    changed_.notify_all();
  }

  const std::vector<Stage>& stages_;
  const int64_t threads_;
  std::vector<int64_t> ends_;              // of each stage's tasks, counted over all stages
  std::deque<std::atomic<int64_t>> next_;  // task of each part of each stage
  std::atomic<int64_t> done_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
};

// Run the tasks of each stage, when those of the stages before are done, on this thread and the
// pool's, and wait for all. This thread takes tasks until none is left, so that it never waits for
// one that has not begun: the pool's threads may all be waiting here themselves. Stages that follow
// one another are one call, because waking a thread takes as long as a small stage.
inline void parallel(ThreadPool& pool, const std::vector<Stage>& stages) {
  int64_t most = 1;
  for (const Stage& stage : stages) most = std::max(most, stage.count);
  const int64_t threads = std::clamp<int64_t>(pool.num_threads(), 1, most);
  const auto shared = std::make_shared<Shared>(stages, threads);
  for (int64_t thread = 1; thread < threads; ++thread)
    pool.Schedule([shared, thread] { shared->work(thread); });
  shared->work(0);
  shared->wait(shared->all());
}

inline void parallel(ThreadPool& pool, int64_t count, std::function<void(int64_t)> task) {
  parallel(pool, {{count, std::move(task)}});
}

// Into how many tasks the rows of all images' targets fall: so many that a task's stay in the
// second cache with what they are computed of, and that no thread waits long for another's at the
// end.
template <typename T>
int64_t tasks_of_rows(const ThreadPool& pool, const Array<const T>& source,
                      const Array<T>& target) {
  const int64_t all = target.n * target.h, threads = std::max<int64_t>(pool.num_threads(), 1);
  const int64_t bytes = (source.w * source.c + target.w * target.c) * sizeof(T);
  const int64_t fit = std::max<int64_t>((1 << 17) / std::max<int64_t>(bytes, 1), 1);
  const int64_t rounds = std::max<int64_t>((all + fit * threads - 1) / (fit * threads), 4);
  return std::min(all, rounds * threads);
}

}  // namespace jaxcnn

#endif
