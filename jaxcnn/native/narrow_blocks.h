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
inline void narrow_gather_block(const Tap<T>* taps, int64_t ntaps, int64_t channels,
                                int64_t source_step, int64_t offset, const T* bias, T* to,
                                int64_t to_step) {
  constexpr int W = kLanes<T>, U = P >= 8 ? 1 : 8 / P;
  Vec<T, W> sums[U][P] = {};
  auto add = [&](const T* source, const T* weights, int u) {
    const Vec<T, W> w = load<T, W>(weights);
    for (int p = 0; p < P; ++p) sums[u][p] += repeat(source + p * source_step) * w;
  };
  for (int64_t t = 0; t < ntaps; ++t) {
    const T* source = taps[t].source + offset;
    const T* weights = taps[t].weights;
    int64_t k = 0;
    for (; k + 2 * U <= channels; k += 2 * U, weights += U * W)
      for (int u = 0; u < U; ++u) add(source + k + 2 * u, weights + u * W, u);
    for (; k < channels; k += 2, weights += W) add(source + k, weights, 0);
  }
  for (int p = 0; p < P; ++p) {
    for (int u = 1; u < U; ++u) sums[0][p] += sums[u][p];
    const auto sum = other<T, 0>(sums[0][p]) + other<T, 1>(sums[0][p]);
    store<T, L>(to + p * to_step, bias ? sum + load<T, L>(bias) : sum);
  }
}

// As kernel_block, of an even number P of channels.
template <typename T, int L, int P>
inline void narrow_kernel_block(const Pixels<T>& pixels, T* to, int64_t to_step) {
  const int64_t image_step = pixels.image_step, output_step = pixels.output_step;
  constexpr int W = kLanes<T>, kPairs = P / 2, U = kPairs >= 8 ? 1 : 8 / kPairs;
  Vec<T, W> sums[U][kPairs] = {};
  auto add = [&](const T* x, const T* g, int u) {
    const Vec<T, W> d = twice(g);
    for (int p = 0; p < kPairs; ++p) sums[u][p] += repeat(x + 2 * p) * d;
  };
  for (const Rows<T>& row : pixels.rows) {
    const T* x = row.images + pixels.image_channel;
    const T* g = row.outputs + pixels.output_channel;
    int64_t i = 0;
    for (; i + U <= pixels.count; i += U, x += U * image_step, g += U * output_step)
      for (int u = 0; u < U; ++u) add(x + u * image_step, g + u * output_step, u);
    for (; i < pixels.count; ++i, x += image_step, g += output_step) add(x, g, 0);
  }
  auto put = [&](T* at, Vec<T, L> sum) { store<T, L>(at, load<T, L>(at) + sum); };
  for (int p = 0; p < kPairs; ++p) {
    for (int u = 1; u < U; ++u) sums[0][p] += sums[u][p];
    put(to + 2 * p * to_step, other<T, 0>(sums[0][p]));
    put(to + (2 * p + 1) * to_step, other<T, 1>(sums[0][p]));
  }
}

}  // namespace jaxcnn

#endif
