// Sums over pixels, channel by channel.
#ifndef JAXCNN_SUMS_H_
#define JAXCNN_SUMS_H_

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "buffer.h"
#include "chunks.h"
#include "parallel.h"
#include "vectors.h"

namespace jaxcnn {

// What is summed, of numbers a and x and a channel's centre m: x; (x - m)^2; a and a (x - m).
enum class Term { kNumbers, kSquares, kProducts };

// Pixels side by side and their channels; which images count, of so many pixels each, or null: all.
template <typename T>
struct Summed {
  const T* a;
  const T* x;
  const T* centre;
  int64_t pixels, channels;
  const bool* counts = nullptr;
  int64_t each = 0;
};

// first[v] += ..., second[v] += ... over `count` pixels from `at`
template <typename T, Term kTerm, int L, int V>
JAXCNN_BLOCK void sum_block(const Summed<T>& of, int64_t at, int64_t count, int64_t channel,
                            double* first, double* second) {
  Vec<T, L> sums[2][V], m[V];
  unrolled<V>([&](auto v) {
    sums[0][v] = sums[1][v] = Vec<T, L>();
    m[v] = kTerm == Term::kNumbers ? Vec<T, L>() : load<T, L>(of.centre + channel + v * L);
  });
  const int64_t start = at * of.channels + channel;
  const T* x = of.x + start;
  const T* a = kTerm == Term::kProducts ? of.a + start : nullptr;
  for (int64_t p = 0; p < count; ++p, x += of.channels) {
    unrolled<V>([&](auto v) {
      const Vec<T, L> from = load<T, L>(x + v * L) - m[v];
      if constexpr (kTerm == Term::kNumbers) sums[0][v] += from;
      if constexpr (kTerm == Term::kSquares) sums[0][v] += from * from;
      if constexpr (kTerm == Term::kProducts) {
        const Vec<T, L> by = load<T, L>(a + v * L);
        sums[0][v] += by;
        sums[1][v] += by * from;
      }
    });
    if (kTerm == Term::kProducts) a += of.channels;
  }
  unrolled<V>([&](auto v) {
    T numbers[2][L];
    store<T, L>(numbers[0], sums[0][v]);
    store<T, L>(numbers[1], sums[1][v]);
    for (int i = 0; i < L; ++i) first[channel + v * L + i] += numbers[0][i];
    for (int i = 0; kTerm == Term::kProducts && i < L; ++i)
      second[channel + v * L + i] += numbers[1][i];
  });
}

// The sums of all channels, of products also the second ones, divided by a number. Of few
// pixels they are added up in T, and these in double: many numbers that are large against their
// differences lose none.
template <Term kTerm, typename T>
class Sum {
 public:
  Sum(const ThreadPool& pool, const Summed<T>& of, double divisor, T* first, T* second = nullptr)
      : of_(of), divisor_(divisor), to_{first, second}, parts_(chunks<T>(of.channels)) {
    // In the first cache, but so many that what is done for their sums is little.
    few_ = std::max<int64_t>(32, (1 << 12) / std::max<int64_t>(of.channels, 1));
    const int64_t most = std::max<int64_t>((of.pixels + few_ - 1) / few_, 1);
    tasks_ = std::clamp<int64_t>(4 * pool.num_threads(), 1, most);
    sums_.reserve(tasks_ * 2 * of.channels);
  }

  // Sum shares of the pixels.
  Stage shares() {
    return {tasks_, [this](int64_t task) {
              double* first = sums_.data() + task * 2 * of_.channels;
              std::fill_n(first, 2 * of_.channels, 0.0);
              const int64_t last = of_.pixels * (task + 1) / tasks_;
              for (int64_t at = of_.pixels * task / tasks_, end; at < last; at = end) {
                end = alike(at, std::min(at + few_, last));
                if (of_.counts && !of_.counts[at / of_.each]) continue;
                for (const Chunk& part : parts_)
                  dispatch<T>(part, [&]<int L, int V>() {
                    sum_block<T, kTerm, L, V>(of_, at, end - at, part.offset, first,
                                              first + of_.channels);
                  });
              }
            }};
  }

  // Then add the shares up, and do what follows from the sums.
  Stage total(std::function<void()> after = [] {}) {
    return {1, [this, after = std::move(after)](int64_t) {
              for (int which = 0; which < (kTerm == Term::kProducts ? 2 : 1); ++which)
                for (int64_t c = 0; c < of_.channels; ++c) {
                  double sum = 0;
                  for (int64_t task = 0; task < tasks_; ++task)
                    sum += sums_[(task * 2 + which) * of_.channels + c];
                  to_[which][c] = sum / divisor_;
                }
              after();
            }};
  }

 private:
  // Up to where the pixels count as that at `at` does.
  int64_t alike(int64_t at, int64_t end) const {
    if (!of_.counts) return end;
    int64_t image = at / of_.each;
    const bool counts = of_.counts[image];
    while (image * of_.each < end && of_.counts[image] == counts) ++image;
    return std::min(image * of_.each, end);
  }

  const Summed<T> of_;
  const double divisor_;
  T* const to_[2];
  const std::vector<Chunk> parts_;
  int64_t few_, tasks_;  // pixels; shares
  Buffer<double> sums_;
};

}  // namespace jaxcnn

#endif
