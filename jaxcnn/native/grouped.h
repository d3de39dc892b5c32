// Outputs of images, and the images' gradient of the outputs', of a kernel for each group of
// channels.
#ifndef JAXCNN_GROUPED_H_
#define JAXCNN_GROUPED_H_

#include <algorithm>
#include <vector>

#include "blocks.h"
#include "buffer.h"
#include "chunks.h"
#include "geometry.h"
#include "narrow_blocks.h"
#include "parallel.h"

namespace jaxcnn {

// A group's weights for a chunk of its target channels.
template <typename T>
struct Part {
  Panel<T> panel;
  T* weights;             // the panel's
  int64_t group, source;  // the group's first source channel
};

// Target pixels that take the same taps.
template <typename T>
struct Alike {
  const Run& rows;
  const Run& columns;
  int64_t channels;  // of a group's source
  std::vector<Segment> taken;
  std::vector<const T*> from;
  std::vector<T*> to;

  Alike(const Run& rows, const Run& columns, const Array<const T>& source, int64_t across,
        int64_t channels)
      : rows(rows), columns(columns), channels(channels) {
    for (Source y : rows.taps)
      for (Source x : columns.taps) {
        const int64_t below = y.second - rows.taps[0].second;
        const int64_t right = x.second - columns.taps[0].second;
        const int64_t tap = y.first * across + x.first;
        taken.push_back({(below * source.w + right) * source.c, tap * channels, channels});
      }
  }

  // Find those of the rows [first, last), counted over all images.
  void find(const Array<const T>& source, const Array<T>& target, int64_t first, int64_t last) {
    from.clear();
    to.clear();
    for (int64_t at = first; at < last; ++at) {
      const int64_t image = at / target.h, row = at % target.h, ahead = row - rows.start;
      if (ahead < 0 || ahead % rows.step != 0 || ahead / rows.step >= rows.count) continue;
      const int64_t y =
          taken.empty() ? 0 : rows.taps[0].second + ahead / rows.step * rows.source_step;
      for (int64_t i = 0; i < columns.count; ++i) {
        const int64_t x = taken.empty() ? 0 : columns.taps[0].second + i * columns.source_step;
        from.push_back(source.at(image, y, x));
        to.push_back(target.at(image, row, columns.start + i * columns.step));
      }
    }
  }
};

// Pixels block by block.
template <typename T, int L, int V>
void sweep_group(const Alike<T>& pixels, const Part<T>& part) {
  const int64_t count = pixels.from.size(), taps = pixels.taken.size();
  int64_t p = 0;
  auto blocks = [&]<int P>() {
    for (; p + P <= count; p += P) {
      const T* const* from = &pixels.from[p];
      T* const* to = &pixels.to[p];
      if constexpr (kNarrow<T, L>)
        if (beside<T>(part.panel.chunk, pixels.channels) == 2) {
          narrow_gather_block<T, L, P>(from, to, pixels.taken.data(), taps, part.source,
                                       part.panel);
          continue;
        }
      gather_block<T, L, V, P>(from, to, pixels.taken.data(), taps, part.source, part.panel);
    }
  };
  blocks.template operator()<kPixels<V>>();
  blocks.template operator()<6>();
  blocks.template operator()<4>();
  blocks.template operator()<2>();
  blocks.template operator()<1>();
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

// Copy a kernel into the order in which the blocks read it; `parts` must stay.
template <typename T>
Stage packing(const Array<const T>& kernel, const std::vector<Part<T>>& parts, int64_t groups,
              bool backward) {
  const int64_t taps = kernel.n * kernel.h, inputs = kernel.w, outputs = kernel.c / groups;
  // Steps between the kernel's source channels and between its target channels.
  const int64_t source = backward ? 1 : kernel.c, target = backward ? kernel.c : 1;
  const int64_t channels = backward ? outputs : inputs;
  const int64_t share = (parts.size() + 15) / 16;
  const int64_t tasks = (parts.size() + share - 1) / share;
  return {tasks, [=, &parts](int64_t task) {
            const int64_t end = std::min<int64_t>(parts.size(), (task + 1) * share);
            for (int64_t i = task * share; i < end; ++i) {
              const Part<T>& part = parts[i];
              const Chunk& chunk = part.panel.chunk;
              const int64_t first = chunk.offset - part.group * (backward ? inputs : outputs);
              const int64_t side = beside<T>(chunk, channels);
              T* to = part.weights;
              for (int64_t tap = 0; tap < taps; ++tap) {
                const T* from = kernel.data + tap * inputs * kernel.c + part.group * outputs;
                for (int64_t k = 0; k < channels; k += side) {
                  if (side == 1 && target == 1) {
                    to = std::copy_n(from + k * source + first, chunk.channels(), to);
                    continue;
                  }
                  for (int64_t c = first; c < first + chunk.channels(); ++c)
                    for (int64_t r = 0; r < side; ++r) *to++ = from[(k + r) * source + c * target];
                }
              }
            }
          }};
}

template <typename T>
void convolve_grouped(ThreadPool& pool, const Array<const T>& source, const Array<const T>& kernel,
                      const T* bias, const Array<T>& target, const Axis axes[2], int64_t groups,
                      bool backward) {
  const int64_t from = source.c / groups, to = target.c / groups;
  const Buffer<T> packed(kernel.n * kernel.h * kernel.w * kernel.c);
  std::vector<Part<T>> parts;
  T* weights = packed.data();
  for (int64_t group = 0; group < groups; ++group)
    for (Chunk chunk : chunks<T>(to)) {
      chunk.offset += group * to;
      const T* b = bias ? bias + chunk.offset : nullptr;
      parts.push_back({{chunk, chunk.channels(), weights, b}, weights, group, group * from});
      weights += kernel.n * kernel.h * from * chunk.channels();
    }

  const std::vector<Run> row_runs = runs(axes[0], backward), column_runs = runs(axes[1], backward);
  const std::vector<std::vector<Source>> row_taps = taps_by_target(axes[0], backward);
  std::vector<Alike<T>> alike;
  for (const Run& rows : row_runs)
    for (const Run& columns : column_runs)
      alike.emplace_back(rows, columns, source, axes[1].taps, from);
  const int64_t all = target.n * target.h, size = rows_of_task(pool, source, target);
  auto compute = [&](int64_t task) {
    const int64_t first = task * size, last = std::min(all, first + size);
    fetch_rows(source, target, row_taps, first, last);
    fetch<1>(target.at(0, first, 0), target.at(0, last, 0));
    std::vector<Alike<T>> pixels = alike;
    for (Alike<T>& some : pixels) some.find(source, target, first, last);
    for (const Part<T>& part : parts)
      dispatch<T>(part.panel.chunk, [&]<int L, int V>() {
        for (const Alike<T>& some : pixels) sweep_group<T, L, V>(some, part);
      });
  };
  const int64_t tasks = (all + size - 1) / size;
  parallel(pool, {packing(kernel, parts, groups, backward), {tasks, compute}});
}

}  // namespace jaxcnn

#endif
