// Blocks of pixels by vectors of channels, whose sums stay in registers.
#ifndef JAXCNN_BLOCKS_H_
#define JAXCNN_BLOCKS_H_

#include <vector>

#include "chunks.h"
#include "vectors.h"

namespace jaxcnn {

// Numbers side by side that pixels take, `offset` from their own start; `at` in the order of
// weights.
struct Segment {
  int64_t offset, at, length;
};

// Weights of a chunk of target channels, of which `kept` are there, and their bias or null.
template <typename T>
struct Panel {
  Chunk chunk;
  int64_t kept;
  const T* weights;  // [number of the segments][channel of the chunk]
  const T* bias;
};

// to[p][v] = bias[v] + sum over the segments' numbers k of from[p][k] weights[k, v]; all pixels'
// numbers are `shift` further on.
template <typename T, int L, int V, int P>
JAXCNN_BLOCK void gather_block(const T* const* from, T* const* to, const Segment* segments,
                               int64_t count, int64_t shift, const Panel<T>& panel) {
  // A sum waits four cycles for itself: few sums are divided, so that there are eight at work.
  constexpr int U = P * V >= 6 ? 1 : 8 / (P * V);
  Vec<T, L> sums[U][P][V];
  unrolled<V>([&](auto v) {
    const Vec<T, L> b = panel.bias ? load_some<T, L>(panel.bias + v * L, panel.kept) : Vec<T, L>();
    unrolled<P>(
        [&](auto p) { unrolled<U>([&](auto u) { sums[u][p][v] = u == 0 ? b : Vec<T, L>(); }); });
  });
  for (const Segment* segment = segments; segment < segments + count; ++segment) {
    const T* x[P];
    unrolled<P>([&](auto p) { x[p] = from[p] + segment->offset + shift; });
    const T* weights = panel.weights + segment->at * V * L;
    auto add = [&](int64_t k, auto u) {
      Vec<T, L> w[V];
      unrolled<V>([&](auto v) {
        // Several vectors a number are more than the first cache holds.
        if constexpr (V > 1) __builtin_prefetch(weights + (kAhead * V + v) * L, 0, 3);
        w[v] = load<T, L>(weights + v * L);
      });
      weights += V * L;
      unrolled<P>([&](auto p) { unrolled<V>([&](auto v) { sums[u][p][v] += x[p][k] * w[v]; }); });
    };
    int64_t k = 0;
    for (; k + U <= segment->length; k += U) unrolled<U>([&](auto u) { add(k + u, u); });
    for (; U > 1 && k < segment->length; ++k) add(k, kFirst);
  }
  unrolled<P>([&](auto p) {
    T* y = to[p] + panel.chunk.offset;
    unrolled<V>([&](auto v) {
      unrolled<U - 1>([&](auto u) { sums[0][p][v] += sums[u + 1][p][v]; });
      store_some<T, L>(y + v * L, sums[0][p][v], panel.kept);
    });
  });
}

// Two rows of pixels, image by output.
template <typename T>
struct Rows {
  const T* images;
  const T* outputs;
};

// Pixels of rows, and where their first channels are.
template <typename T>
struct Pixels {
  const std::vector<Rows<T>>& rows;
  int64_t count, image_step, output_step;
  int64_t image_channel, output_channel;
};

// to[c, v] += sum over rows and pixels of images[c] outputs[v]
template <typename T, int L, int V, int P>
JAXCNN_BLOCK void kernel_block(const Pixels<T>& pixels, T* to, int64_t to_step) {
  const int64_t image_step = pixels.image_step, output_step = pixels.output_step;
  Vec<T, L> sums[P][V];
  unrolled<P>([&](auto p) { unrolled<V>([&](auto v) { sums[p][v] = Vec<T, L>(); }); });
  for (const Rows<T>& row : pixels.rows) {
    const T* x = row.images + pixels.image_channel;
    const T* g = row.outputs + pixels.output_channel;
    for (int64_t i = 0; i < pixels.count; ++i, x += image_step, g += output_step) {
      Vec<T, L> d[V];
      unrolled<V>([&](auto v) { d[v] = load<T, L>(g + v * L); });
      unrolled<P>([&](auto p) { unrolled<V>([&](auto v) { sums[p][v] += x[p] * d[v]; }); });
    }
  }
  unrolled<P>([&](auto p) {
    unrolled<V>([&](auto v) { add_to<T, L>(to + v * L, sums[p][v]); });
    to += to_step;
  });
}

// to[j, v] += sum over rows and pixels of images[j, v] outputs[v], for J taps side by side
template <typename T, int L, int V, int J>
JAXCNN_BLOCK void depthwise_kernel_block(const Pixels<T>& pixels, int64_t tap_step, T* to,
                                         int64_t to_step) {
  const int64_t image_step = pixels.image_step, output_step = pixels.output_step;
  Vec<T, L> sums[J][V];
  unrolled<J>([&](auto j) { unrolled<V>([&](auto v) { sums[j][v] = Vec<T, L>(); }); });
  for (const Rows<T>& row : pixels.rows) {
    const T* x = row.images + pixels.image_channel;
    const T* g = row.outputs + pixels.output_channel;
    for (int64_t i = 0; i < pixels.count; ++i, x += image_step, g += output_step)
      unrolled<V>([&](auto v) {
        const Vec<T, L> d = load<T, L>(g + v * L);
        unrolled<J>([&](auto j) { sums[j][v] += load<T, L>(x + j * tap_step + v * L) * d; });
      });
  }
  unrolled<J>([&](auto j) {
    unrolled<V>([&](auto v) { add_to<T, L>(to + v * L, sums[j][v]); });
    to += to_step;
  });
}

}  // namespace jaxcnn

#endif
