// Outputs of images, and the images' gradient of the outputs': each target pixel gathers what the
// kernel's taps take from source pixels.
#ifndef JAXCNN_CONVOLUTION_H_
#define JAXCNN_CONVOLUTION_H_

#include <algorithm>
#include <vector>

#include "blocks.h"
#include "buffer.h"
#include "chunks.h"
#include "dense.h"
#include "geometry.h"
#include "narrow_blocks.h"
#include "parallel.h"

namespace jaxcnn {

// A chunk of a group's target channels.
template <typename T>
struct Part {
  Chunk chunk;
  int64_t group, source, target;  // first channels
  T* weights;  // [tap][source channel][target channel], or as narrow blocks have them
  int64_t tap_step;
};

// A run of pixels, block by block.
template <typename T, bool kDepthwise, int L, int V>
void sweep(const std::vector<Tap<T>>& taps, int64_t channels, int64_t source_step, const T* bias,
           T* to, int64_t to_step, int64_t count) {
  int64_t p = 0;
  auto pixels = [&]<int P>() {
    for (; p + P <= count; p += P) {
      if constexpr (!kDepthwise && kNarrow<T, L>)
        if (channels % 2 == 0) {
          narrow_gather_block<T, L, P>(taps.data(), taps.size(), channels, source_step,
                                       p * source_step, bias, to + p * to_step, to_step);
          continue;
        }
      gather_block<T, kDepthwise, L, V, P>(taps.data(), taps.size(), channels, source_step,
                                           p * source_step, bias, to + p * to_step, to_step);
    }
  };
  pixels.template operator()<kPixels<V>>();
  pixels.template operator()<6>();
  pixels.template operator()<4>();
  pixels.template operator()<2>();
  pixels.template operator()<1>();
}

// Fetch what the target rows [first, last) of all images take. Group by group it would be read in
// small pieces, for each of which the memory lets wait.
template <typename T>
void fetch_rows(const Array<const T>& source, const Array<T>& target,
                const std::vector<std::vector<Source>>& row_taps, int64_t first, int64_t last) {
  const T* done = nullptr;
  for (int64_t at = first; at < last; ++at)
    for (Source tap : row_taps[at % target.h]) {
      const T* row = source.at(at / target.h, tap.second, 0);
      if (row >= done) fetch(row, row + source.w * source.c);
      done = std::max(done, row + source.w * source.c);
    }
}

template <typename T, bool kDepthwise>
void gather(ThreadPool& pool, const Array<const T>& source, const Array<T>& target,
            const std::vector<Part<T>>& parts, int64_t channels, const T* bias, const Axis axes[2],
            bool backward) {
  const std::vector<Run> column_runs = runs(axes[1], backward);
  std::vector<std::vector<Source>> row_taps(target.h);
  for (const Run& run : runs(axes[0], backward))
    for (int64_t i = 0; i < run.count; ++i)
      for (Source tap : run.taps)
        row_taps[run.start + i * run.step].emplace_back(tap.first,
                                                        tap.second + i * run.source_step);
  // A task's rows are few enough to stay in the second cache from part to part.
  const int64_t all = target.n * target.h;
  const int64_t bytes = (source.w * source.c + target.w * target.c) * sizeof(T);
  const int64_t fit = (1 << 18) / std::max<int64_t>(bytes, 1);
  const int64_t share = all / (4 * std::max<int64_t>(pool.num_threads(), 1));
  const int64_t size = std::max<int64_t>(1, std::min(fit, share));
  // Parts of a row one after the other, or rows of a part: its weights stay in the first cache.
  const int64_t rows_a_pass = kDepthwise ? 1 : size;
  parallel(pool, (all + size - 1) / size, [&](int64_t task) {
    std::vector<Tap<T>> taps;
    for (int64_t first = task * size; first < std::min(all, (task + 1) * size);
         first += rows_a_pass) {
      const int64_t last = std::min({all, (task + 1) * size, first + rows_a_pass});
      if (!kDepthwise) fetch_rows(source, target, row_taps, first, last);
      for (const Part<T>& part : parts)
        for (int64_t at = first; at < last; ++at) {
          const int64_t image = at / target.h, row = at % target.h;
          for (const Run& run : column_runs) {
            taps.clear();
            for (Source y : row_taps[row])
              for (Source x : run.taps)
                taps.push_back({source.at(image, y.second, x.second) + part.source,
                                part.weights + (y.first * axes[1].taps + x.first) * part.tap_step});
            dispatch<T>(part.chunk, [&]<int L, int V>() {
              sweep<T, kDepthwise, L, V>(
                  taps, channels, run.source_step * source.c, bias ? bias + part.target : nullptr,
                  target.at(image, row, run.start) + part.target, run.step * target.c, run.count);
            });
          }
        }
    }
  });
}

// Copy a kernel into the order in which the blocks read it.
template <typename T>
void pack(ThreadPool& pool, const Array<const T>& kernel, const std::vector<Part<T>>& parts,
          int64_t outputs, bool backward) {
  const int64_t taps = kernel.n * kernel.h, inputs = kernel.w;
  const int64_t share = (parts.size() + 15) / 16;
  parallel(pool, (parts.size() + share - 1) / share, [&](int64_t task) {
    const int64_t end = std::min<int64_t>(parts.size(), (task + 1) * share);
    for (int64_t i = task * share; i < end; ++i) {
      const Part<T>& part = parts[i];
      const int64_t first = part.chunk.offset, width = part.chunk.channels();
      // Steps between the kernel's source channels and between its target channels.
      const int64_t source = backward ? 1 : kernel.c, target = backward ? kernel.c : 1;
      const int64_t channels = backward ? outputs : inputs;
      const int64_t side = beside<T>(part.chunk, channels);
      T* to = part.weights;
      for (int64_t tap = 0; tap < taps; ++tap) {
        const T* from = kernel.data + tap * inputs * kernel.c + part.group * outputs;
        for (int64_t k = 0; k < channels; k += side) {
          if (side == 1 && target == 1) {
            to = std::copy_n(from + k * source + first, width, to);
            continue;
          }
          for (int64_t c = first; c < first + width; ++c)
            for (int64_t r = 0; r < side; ++r) *to++ = from[(k + r) * source + c * target];
        }
      }
    }
  });
}

// The kernel's array is (kh, kw, channels a group, features), the bias one number a target channel
// or null.
template <typename T>
void convolve(ThreadPool& pool, const Array<const T>& source, const Array<const T>& kernel,
              const T* bias, const Array<T>& target, const Axis axes[2], int64_t groups,
              bool backward) {
  if (groups == 1) return convolve_dense(pool, source, kernel, bias, target, axes, backward);
  const int64_t inputs = kernel.w, outputs = kernel.c / groups;
  std::vector<Part<T>> parts;
  if (inputs == 1 && outputs == 1) {
    for (const Chunk& chunk : chunks<T>(kernel.c))
      parts.push_back({chunk, 0, chunk.offset, chunk.offset,
                       const_cast<T*>(kernel.data) + chunk.offset, kernel.c});
    gather<T, true>(pool, source, target, parts, 1, bias, axes, backward);
    return;
  }
  const int64_t from = backward ? outputs : inputs, to = backward ? inputs : outputs;
  const int64_t taps = kernel.n * kernel.h;
  const Buffer<T> packed(taps * inputs * kernel.c);
  T* next = packed.data();
  for (int64_t group = 0; group < groups; ++group)
    for (const Chunk& chunk : chunks<T>(to)) {
      const int64_t tap_step = from * chunk.channels();
      parts.push_back({chunk, group, group * from, group * to + chunk.offset, next, tap_step});
      next += taps * tap_step;
    }
  pack(pool, kernel, parts, outputs, backward);
  gather<T, false>(pool, source, target, parts, from, bias, axes, backward);
}

}  // namespace jaxcnn

#endif
