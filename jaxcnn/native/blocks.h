// Blocks of pixels by vectors of channels, whose sums stay in registers.
#ifndef JAXCNN_BLOCKS_H_
#define JAXCNN_BLOCKS_H_

#include <vector>

#include "vectors.h"

namespace jaxcnn {

// A tap of the pixels of a run: where its first pixel's source is, and its weights.
template <typename T>
struct Tap {
  const T* source;
  const T* weights;
};

// to[p, v] = sum over taps and channels k of source[p, k] weights[k, v]; depthwise, where source
// channels are target channels, sum over taps of source[p, v] weights[v]. The pixels start at
// `offset` from the taps' sources.
template <typename T, bool kDepthwise, int L, int V, int P>
inline void gather_block(const Tap<T>* taps, int64_t ntaps, int64_t channels, int64_t source_step,
                         int64_t offset, const T* bias, T* to, int64_t to_step) {
  // A sum waits four cycles for itself: few sums are divided, so that there are eight at work.
  constexpr int U = kDepthwise || P * V >= 8 ? 1 : 8 / (P * V);
  Vec<T, L> sums[U][P][V] = {};
  for (int p = 0; bias && p < P; ++p)
    for (int v = 0; v < V; ++v) sums[0][p][v] = load<T, L>(bias + v * L);
  auto add = [&](const T* source, const T* weights, int u) {
    Vec<T, L> w[V];
    for (int v = 0; v < V; ++v) w[v] = load<T, L>(weights + v * L);
    for (int p = 0; p < P; ++p) {
      const T* x = source + p * source_step;
      for (int v = 0; v < V; ++v) {
        if constexpr (kDepthwise)
          sums[u][p][v] += load<T, L>(x + v * L) * w[v];
        else
          sums[u][p][v] += *x * w[v];
      }
    }
  };
  for (int64_t t = 0; t < ntaps; ++t) {
    const T* source = taps[t].source + offset;
    const T* weights = taps[t].weights;
    int64_t k = 0;
    for (; k + U <= channels; k += U, weights += U * V * L)
      for (int u = 0; u < U; ++u) add(source + k + u, weights + u * V * L, u);
    for (; k < channels; ++k, weights += V * L) add(source + k, weights, 0);
  }
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < V; ++v) {
      for (int u = 1; u < U; ++u) sums[0][p][v] += sums[u][p][v];
      store<T, L>(to + p * to_step + v * L, sums[0][p][v]);
    }
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
inline void kernel_block(const Pixels<T>& pixels, T* to, int64_t to_step) {
  const int64_t image_step = pixels.image_step, output_step = pixels.output_step;
  Vec<T, L> sums[P][V] = {};
  for (const Rows<T>& row : pixels.rows) {
    const T* x = row.images + pixels.image_channel;
    const T* g = row.outputs + pixels.output_channel;
    for (int64_t i = 0; i < pixels.count; ++i, x += image_step, g += output_step) {
      Vec<T, L> d[V];
      for (int v = 0; v < V; ++v) d[v] = load<T, L>(g + v * L);
      for (int p = 0; p < P; ++p)
        for (int v = 0; v < V; ++v) sums[p][v] += x[p] * d[v];
    }
  }
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < V; ++v) {
      T* at = to + p * to_step + v * L;
      store<T, L>(at, load<T, L>(at) + sums[p][v]);
    }
}

// to[j, v] += sum over rows and pixels of images[j, v] outputs[v], for J taps side by side
template <typename T, int L, int V, int J>
inline void depthwise_kernel_block(const Pixels<T>& pixels, int64_t tap_step, T* to,
                                   int64_t to_step) {
  const int64_t image_step = pixels.image_step, output_step = pixels.output_step;
  Vec<T, L> sums[J][V] = {};
  for (const Rows<T>& row : pixels.rows) {
    const T* x = row.images + pixels.image_channel;
    const T* g = row.outputs + pixels.output_channel;
    for (int64_t i = 0; i < pixels.count; ++i, x += image_step, g += output_step)
      for (int v = 0; v < V; ++v) {
        const Vec<T, L> d = load<T, L>(g + v * L);
        for (int j = 0; j < J; ++j) sums[j][v] += load<T, L>(x + j * tap_step + v * L) * d;
      }
  }
  for (int j = 0; j < J; ++j)
    for (int v = 0; v < V; ++v) {
      T* at = to + j * to_step + v * L;
      store<T, L>(at, load<T, L>(at) + sums[j][v]);
    }
}

}  // namespace jaxcnn

#endif
