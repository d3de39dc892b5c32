// Outputs of images, and the images' gradient of the outputs', without groups.
#ifndef JAXCNN_DENSE_H_
#define JAXCNN_DENSE_H_

#include <algorithm>
#include <utility>
#include <vector>

#include "blocks.h"
#include "buffer.h"
#include "chunks.h"
#include "kinds.h"
#include "parallel.h"
#include "tiles.h"

namespace jaxcnn {

// Pixels of a block: their sums, V vectors each, fill most of the registers.
template <int V>
inline constexpr int kBlockPixels = V == 1 ? 8 : 6;

// Copy a kernel's weights of a phase into the order in which a block reads them.
template <typename T>
void pack(const Array<const T>& kernel, const Phase& rows, const Phase& columns, bool backward,
          const Panel<T>& panel, T* to) {
  const int64_t width = panel.chunk.channels(), channels = backward ? kernel.c : kernel.w;
  const int64_t offset = panel.chunk.offset * (backward ? kernel.c : 1);
  constexpr int64_t kLine = sizeof(Line) / sizeof(T);
  for (int64_t i : rows.taps)
    for (int64_t j : columns.taps) {
      const T* from = kernel.at(i, j, 0) + offset;
      // Backward a line of the cache of each target channel at a time.
      for (int64_t k = 0; backward && k < channels; k += kLine)
        for (int64_t v = 0; v < panel.kept; ++v)
          for (int64_t r = k; r < std::min(k + kLine, channels); ++r)
            to[r * width + v] = from[v * kernel.c + r];
      for (int64_t k = 0; !backward && k < channels; ++k)
        std::copy_n(from + k * kernel.c, panel.kept, to + k * width);
      to += channels * width;
    }
}

template <typename T, int L, int V>
void sweep_dense(const typename Targets<T>::List& pixels, const std::vector<Segment>& taken,
                 const Panel<T>& panel) {
  constexpr int P = kBlockPixels<V>;
  for (int64_t p = 0; p < pixels.count; p += P)
    gather_block<T, L, V, P>(&pixels.from[p], &pixels.to[p], taken.data(), taken.size(), 0, panel);
}

template <typename T>
void convolve_phase(ThreadPool& pool, const Array<const T>& source, const Array<const T>& kernel,
                    const T* bias, const Array<T>& target, const Phase& rows, const Phase& columns,
                    bool backward) {
  const std::vector<Chunk> cut = chunks<T>(target.c, true);
  const int64_t numbers = rows.taps.size() * columns.taps.size() * source.c;
  const int64_t width = cut.back().offset + cut.back().channels();
  // Of one panel the kernel itself has that order.
  const bool in_order = !backward && cut.size() == 1 && width == target.c;
  const Buffer<T> packed(in_order ? 0 : numbers * width);
  const T* const weights = in_order ? kernel.data : packed.data();
  std::vector<Panel<T>> panels;
  for (const Chunk& chunk : cut)
    panels.push_back({chunk, chunk.kept(target.c), weights + numbers * chunk.offset,
                      bias ? bias + chunk.offset : nullptr});
  auto prepare = [&](int64_t i) {
    pack(kernel, rows, columns, backward, panels[i], packed.data() + numbers * cut[i].offset);
  };

  // Weights that do not fit in the second cache together: a task has one panel of them.
  const bool apart = numbers * width * static_cast<int64_t>(sizeof(T)) > kSecondCache / 2;
  const int64_t shares = apart ? panels.size() : 1, all = source.n * rows.count;
  const int64_t tasks = 4 * std::max<int64_t>(pool.num_threads(), 1);
  const int64_t slices = std::clamp<int64_t>((tasks + shares - 1) / shares, 1, all);
  const Kinds kinds(rows, columns, source.h, source.w, Tile<T>(source, rows, columns).row_step(),
                    source.c);
  const int64_t block = cut[0].vectors == 1 ? kBlockPixels<1> : kBlockPixels<2>;
  auto compute = [&](int64_t task) {
    const int64_t slice = task % slices, share = task / slices;
    const int64_t panel_end = apart ? share + 1 : panels.size(), end = all * (slice + 1) / slices;
    Tile<T> tile(source, rows, columns);
    const int64_t size = std::max<int64_t>(1, kSecondCache / 8 / tile.row_bytes());
    Targets<T> targets(kinds);
    for (int64_t first = all * slice / slices; first < end; first += size) {
      const int64_t last = std::min(end, first + size);
      tile.take(first, last);
      targets.find(tile, target, rows, columns, source.c, first, last, block);
      for (int64_t i = share; i < panel_end; ++i)
        dispatch<T, true>(panels[i].chunk, [&]<int L, int V>() {
          for (size_t kind = 0; kind < kinds.all.size(); ++kind)
            sweep_dense<T, L, V>(targets.of(kind), kinds.all[kind].taken, panels[i]);
        });
    }
  };
  const int64_t packs = in_order ? 0 : panels.size();
  parallel(pool, {{packs, prepare}, {shares * slices, compute}});
}

template <typename T>
void convolve_dense(ThreadPool& pool, const Array<const T>& source, const Array<const T>& kernel,
                    const T* bias, const Array<T>& target, const Axis axes[2], bool backward) {
  if (source.n == 0) return;
  for (const Phase& rows : phases(axes[0], backward))
    for (const Phase& columns : phases(axes[1], backward))
      convolve_phase(pool, source, kernel, bias, target, rows, columns, backward);
}

}  // namespace jaxcnn

#endif
