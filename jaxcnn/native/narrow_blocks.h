// Blocks for few channels: pairs of source channels beside each target channel fill a vector, which
// one multiplication then serves.
#ifndef JAXCNN_NARROW_BLOCKS_H_
#define JAXCNN_NARROW_BLOCKS_H_

#include <utility>

#include "blocks.h"
#include "chunks.h"

namespace jaxcnn {

// Whether L target channels are half a vector, and two numbers what a machine copies all over one.
template <typename T, int L>
inline constexpr bool kNarrow = 2 * L == kLanes<T> && 2 * sizeof(T) == sizeof(uint64_t);

// How many source channels stand beside each target channel of a chunk.
template <typename T>
inline int64_t beside(const Chunk& chunk, int64_t channels) {
  const bool narrow = 2 * chunk.lanes == kLanes<T> && 2 * sizeof(T) == sizeof(uint64_t);
  return narrow && channels % 2 == 0 ? 2 : 1;
}

// Two numbers, again and again.
template <typename T>
inline Vec<T, kLanes<T>> repeat(const T* from) {
  uint64_t pair;
  std::memcpy(&pair, from, sizeof(pair));
  const auto pairs = Vec<uint64_t, kVectorBytes / sizeof(pair)>{} + pair;
  Vec<T, kLanes<T>> result;
  std::memcpy(&result, &pairs, sizeof(result));
  return result;
}

// Each of half a vector's numbers twice.
template <typename T>
inline Vec<T, kLanes<T>> twice(const T* from) {
  const auto some = load<T, kLanes<T> / 2>(from);
  return [&]<int... I>(std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(some, some, (I / 2)...);
  }(std::make_integer_sequence<int, kLanes<T>>());
}

// Every other number: the first, third, ... or, with kFirst = 1, the second, fourth, ...
template <typename T, int kFirst>
inline Vec<T, kLanes<T> / 2> other(Vec<T, kLanes<T>> numbers) {
  return [&]<int... I>(std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(numbers, numbers, (kFirst + 2 * I)...);
  }(std::make_integer_sequence<int, kLanes<T> / 2>());
}

// As gather_block, of an even number of channels, with weights[k / 2][v][k % 2].
template <typename T, int L, int P>
JAXCNN_BLOCK void narrow_gather_block(const T* const* from, T* const* to, const Segment* segments,
                                      int64_t count, int64_t shift, const Panel<T>& panel) {
  constexpr int W = kLanes<T>, U = P >= 6 ? 1 : 8 / P;
  Vec<T, W> sums[U][P];
  unrolled<U>([&](auto u) { unrolled<P>([&](auto p) { sums[u][p] = Vec<T, W>(); }); });
  for (const Segment* segment = segments; segment < segments + count; ++segment) {
    const T* x[P];
    unrolled<P>([&](auto p) { x[p] = from[p] + segment->offset + shift; });
    const T* weights = panel.weights + segment->at * L;
    auto add = [&](int64_t k, auto u) {
      const Vec<T, W> w = load<T, W>(weights);
      weights += W;
      unrolled<P>([&](auto p) { sums[u][p] += repeat(x[p] + k) * w; });
    };
    int64_t k = 0;
    for (; k + 2 * U <= segment->length; k += 2 * U)
      unrolled<U>([&](auto u) { add(k + 2 * u, u); });
    for (; U > 1 && k < segment->length; k += 2) add(k, kFirst);
  }
  unrolled<P>([&](auto p) {
    unrolled<U - 1>([&](auto u) { sums[0][p] += sums[u + 1][p]; });
    const auto sum = other<T, 0>(sums[0][p]) + other<T, 1>(sums[0][p]);
    store<T, L>(to[p] + panel.chunk.offset, panel.bias ? sum + load<T, L>(panel.bias) : sum);
  });
}

// As kernel_block, of an even number P of channels.
template <typename T, int L, int P>
JAXCNN_BLOCK void narrow_kernel_block(const Pixels<T>& pixels, T* to, int64_t to_step) {
  const int64_t image_step = pixels.image_step, output_step = pixels.output_step;
  constexpr int W = kLanes<T>, kPairs = P / 2, U = kPairs >= 8 ? 1 : 8 / kPairs;
  Vec<T, W> sums[U][kPairs];
  unrolled<U>([&](auto u) { unrolled<kPairs>([&](auto p) { sums[u][p] = Vec<T, W>(); }); });
  auto add = [&](const T* x, const T* g, auto u) {
    const Vec<T, W> d = twice(g);
    unrolled<kPairs>([&](auto p) { sums[u][p] += repeat(x + 2 * p) * d; });
  };
  for (const Rows<T>& row : pixels.rows) {
    const T* x = row.images + pixels.image_channel;
    const T* g = row.outputs + pixels.output_channel;
    int64_t i = 0;
    for (; i + U <= pixels.count; i += U, x += U * image_step, g += U * output_step)
      unrolled<U>([&](auto u) { add(x + u * image_step, g + u * output_step, u); });
    for (; U > 1 && i < pixels.count; ++i, x += image_step, g += output_step) add(x, g, kFirst);
  }
  unrolled<kPairs>([&](auto p) {
    unrolled<U - 1>([&](auto u) { sums[0][p] += sums[u + 1][p]; });
    add_to<T, L>(to, other<T, 0>(sums[0][p]));
    add_to<T, L>(to + to_step, other<T, 1>(sums[0][p]));
    to += 2 * to_step;
  });
}

}  // namespace jaxcnn

#endif
