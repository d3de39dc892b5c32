// Sums over pixels, channel by channel.
#ifndef JAXCNN_SUMS_H_
#define JAXCNN_SUMS_H_

#include <algorithm>
#include <vector>

#include "chunks.h"
#include "parallel.h"
#include "vectors.h"

namespace jaxcnn {

// What is summed, of numbers a and x and a channel's centre m: x; (x - m)^2; a and a (x - m).
enum class Term { kNumbers, kSquares, kProducts };

// Pixels side by side and their channels.
template <typename T>
struct Summed {
  const T* a;
  const T* x;
  const T* centre;
  int64_t pixels, channels;
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

// The sums of all channels and then, of products, the second ones. Of few pixels they are added up
// in T, and these in double: many numbers that are large against their differences lose none.
template <Term kTerm, typename T>
std::vector<double> sum(ThreadPool& pool, const Summed<T>& of) {
  constexpr int64_t kNumbers = 1 << 12;  // of few pixels, in the first cache
  const int64_t few = std::max<int64_t>(1, kNumbers / std::max<int64_t>(of.channels, 1));
  const int64_t most = (of.pixels + few - 1) / few;
  const int64_t tasks = std::clamp<int64_t>(4 * pool.num_threads(), 1, std::max<int64_t>(most, 1));
  std::vector<double> sums(tasks * 2 * of.channels);
  const std::vector<Chunk> parts = chunks<T>(of.channels);
  parallel(pool, tasks, [&](int64_t task) {
    double* first = sums.data() + task * 2 * of.channels;
    const int64_t end = of.pixels * (task + 1) / tasks;
    for (int64_t at = of.pixels * task / tasks; at < end; at += few)
      for (const Chunk& part : parts)
        dispatch<T>(part, [&]<int L, int V>() {
          sum_block<T, kTerm, L, V>(of, at, std::min(few, end - at), part.offset, first,
                                    first + of.channels);
        });
  });
  for (int64_t task = 1; task < tasks; ++task)
    for (int64_t i = 0; i < 2 * of.channels; ++i) sums[i] += sums[task * 2 * of.channels + i];
  sums.resize(2 * of.channels);
  return sums;
}

}  // namespace jaxcnn

#endif
