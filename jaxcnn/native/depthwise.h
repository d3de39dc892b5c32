// Outputs of images, and the images' gradient of the outputs', of a kernel for each channel.
#ifndef JAXCNN_DEPTHWISE_H_
#define JAXCNN_DEPTHWISE_H_

#include <algorithm>
#include <vector>

#include "chunks.h"
#include "geometry.h"
#include "parallel.h"
#include "vectors.h"

namespace jaxcnn {

// A tap of the pixels of a run: where its first pixel's source is, and its weights.
template <typename T>
struct Tap {
  const T* source;
  const T* weights;
};

// to[p, v] = bias[v] + sum over taps of source[p, v] weights[v], the pixels at `offset` from the
// taps' sources and `channel` the first of the channels.
template <typename T, int L, int V, int P>
JAXCNN_BLOCK void depthwise_block(const std::vector<Tap<T>>& taps, int64_t offset,
                                  int64_t source_step, int64_t channel, const T* bias, T* to,
                                  int64_t to_step) {
  Vec<T, L> sums[P][V];
  unrolled<V>([&](auto v) {
    const Vec<T, L> b = bias ? load<T, L>(bias + channel + v * L) : Vec<T, L>();
    unrolled<P>([&](auto p) { sums[p][v] = b; });
  });
  for (const Tap<T>& tap : taps) {
    const T* x = tap.source + offset + channel;
    Vec<T, L> w[V];
    unrolled<V>([&](auto v) { w[v] = load<T, L>(tap.weights + channel + v * L); });
    unrolled<P>([&](auto p) {
      unrolled<V>([&](auto v) { sums[p][v] += load<T, L>(x + v * L) * w[v]; });
      x += source_step;
    });
  }
  to += channel;
  unrolled<P>([&](auto p) {
    unrolled<V>([&](auto v) { store<T, L>(to + v * L, sums[p][v]); });
    to += to_step;
  });
}

// A run of pixels, all channels of some of them after the other: what is read and written moves
// through the memory in its order. Little is computed for each number, so the lines of the cache
// that are going to be written are asked for in time.
template <typename T>
void depthwise_sweep(const std::vector<Tap<T>>& taps, const std::vector<Chunk>& parts,
                     int64_t channels, int64_t source_step, const T* bias, T* to, int64_t to_step,
                     int64_t count) {
  constexpr int64_t kLine = 64 / sizeof(T), kEarly = 16 * kLine;
  const int64_t early = (kEarly + to_step - 1) / to_step * to_step;
  int64_t p = 0;
  auto pixels = [&]<int P>() {
    for (; p + P <= count; p += P, to += P * to_step) {
      for (int i = 0; i < P; ++i)
        for (int64_t c = 0; c < channels; c += kLine)
          __builtin_prefetch(to + i * to_step + early + c, 1, 3);
      for (const Chunk& part : parts)
        dispatch<T>(part, [&]<int L, int V>() {
          depthwise_block<T, L, V, P>(taps, p * source_step, source_step, part.offset, bias, to,
                                      to_step);
        });
    }
  };
  pixels.template operator()<4>();
  pixels.template operator()<2>();
  pixels.template operator()<1>();
}

// The kernel's array is (kh, kw, 1, channels).
template <typename T>
void convolve_depthwise(ThreadPool& pool, const Array<const T>& source,
                        const Array<const T>& kernel, const T* bias, const Array<T>& target,
                        const Axis axes[2], bool backward) {
  const std::vector<Chunk> parts = chunks<T>(kernel.c);
  const std::vector<Run> column_runs = runs(axes[1], backward);
  const std::vector<std::vector<Source>> row_taps = taps_by_target(axes[0], backward);
  const int64_t all = target.n * target.h, tasks = tasks_of_rows(pool, source, target);
  parallel(pool, tasks, [&](int64_t task) {
    std::vector<Tap<T>> taps;
    for (int64_t at = all * task / tasks; at < all * (task + 1) / tasks; ++at) {
      const int64_t image = at / target.h, row = at % target.h;
      for (const Run& run : column_runs) {
        taps.clear();
        for (Source y : row_taps[row])
          for (Source x : run.taps)
            taps.push_back({source.at(image, y.second, x.second), kernel.at(y.first, x.first, 0)});
        depthwise_sweep(taps, parts, kernel.c, run.source_step * source.c, bias,
                        target.at(image, row, run.start), run.step * target.c, run.count);
      }
    }
  });
}

}  // namespace jaxcnn

#endif
