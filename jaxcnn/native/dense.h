// Outputs of images, and the images' gradient of the outputs', without groups.
#ifndef JAXCNN_DENSE_H_
#define JAXCNN_DENSE_H_

#include <algorithm>
#include <utility>
#include <vector>

#include "blocks.h"
#include "buffer.h"
#include "chunks.h"
#include "parallel.h"
#include "tiles.h"

namespace jaxcnn {

// Pixels of a block: their sums, V vectors each, fill most of the registers.
template <int V>
inline constexpr int kBlockPixels = V == 1 ? 8 : 6;

// Copy a kernel's weights of a phase into the order in which a block reads them.
template <typename T>
void pack(const Array<const T>& kernel, const Phase& rows, const Phase& columns, bool backward,
          const Panel<T>& panel) {
  const int64_t width = panel.chunk.channels(), channels = backward ? kernel.c : kernel.w;
  const int64_t offset = panel.chunk.offset * (backward ? kernel.c : 1);
  constexpr int64_t kLine = sizeof(Line) / sizeof(T);
  T* to = panel.weights;
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

// The pixels of a tile's targets, and of each row of them the kernel's rows inside the source.
template <typename T>
struct Targets {
  std::vector<const T*> from;
  std::vector<T*> to;
  std::vector<std::pair<int64_t, int64_t>> inside;
  int64_t count = 0, columns = 0;

  void find(const Tile<T>& tile, const Array<T>& target, const Phase& rows, const Phase& across,
            const Array<const T>& source, int64_t first, int64_t last) {
    from.clear();
    to.clear();
    inside.clear();
    for (int64_t at = first; at < last; ++at) {
      const int64_t row = at % rows.count;
      const T* x = tile.start(at - first);
      T* y = target.at(at / rows.count, rows.first + row * rows.step, across.first);
      inside.push_back(rows.inside(row, source.h));
      for (int64_t i = 0; i < across.count; ++i) {
        from.push_back(x + i * across.source_step * source.c);
        to.push_back(y + i * across.step * target.c);
      }
    }
    columns = across.count;
    count = from.size();
    // Blocks are whole: the last of them computes the last pixel again.
    from.resize(count + 7, from.back());
    to.resize(count + 7, to.back());
  }

  // The kernel's rows that any of the pixels [first, last) has inside the source.
  std::pair<int64_t, int64_t> rows_inside(int64_t first, int64_t last) const {
    std::pair<int64_t, int64_t> found = inside[first / columns];
    for (int64_t row = first / columns; row * columns < std::min(last, count); ++row)
      found = {std::min(found.first, inside[row].first),
               std::max(found.second, inside[row].second)};
    return found;
  }
};

template <typename T, int L, int V>
void sweep_dense(const Targets<T>& targets, const std::vector<Segment>& taken, int64_t across,
                 const Panel<T>& panel) {
  constexpr int P = kBlockPixels<V>;
  for (int64_t p = 0; p < targets.count; p += P) {
    const auto [low, high] = targets.rows_inside(p, p + P);
    gather_block<T, L, V, P>(&targets.from[p], &targets.to[p], taken.data() + low * across,
                             (high - low) * across, 0, panel);
  }
}

template <typename T>
void convolve_phase(ThreadPool& pool, const Array<const T>& source, const Array<const T>& kernel,
                    const T* bias, const Array<T>& target, const Phase& rows, const Phase& columns,
                    bool backward) {
  const std::vector<Chunk> cut = chunks<T>(target.c, true);
  const int64_t numbers = rows.taps.size() * columns.taps.size() * source.c;
  const int64_t width = cut.back().offset + cut.back().channels();
  const Buffer<T> packed(numbers * width);
  std::vector<Panel<T>> panels;
  for (const Chunk& chunk : cut)
    panels.push_back({chunk, chunk.kept(target.c), packed.data() + numbers * chunk.offset,
                      bias ? bias + chunk.offset : nullptr});
  auto prepare = [&](int64_t i) { pack(kernel, rows, columns, backward, panels[i]); };

  // Weights that do not fit in the second cache together: a task has one panel of them.
  const bool apart = numbers * width * static_cast<int64_t>(sizeof(T)) > kSecondCache / 2;
  const int64_t shares = apart ? panels.size() : 1, all = source.n * rows.count;
  const int64_t tasks = 4 * std::max<int64_t>(pool.num_threads(), 1);
  const int64_t slices = std::clamp<int64_t>((tasks + shares - 1) / shares, 1, all);
  auto compute = [&](int64_t task) {
    const int64_t slice = task % slices, share = task / slices;
    const int64_t panel_end = apart ? share + 1 : panels.size(), end = all * (slice + 1) / slices;
    Tile<T> tile(source, rows, columns);
    const std::vector<Segment> taken = segments(rows, columns, tile.row_step(), source.c);
    const int64_t across = rows.taps.empty() ? 0 : taken.size() / rows.taps.size();
    const int64_t size = std::max<int64_t>(1, kSecondCache / 8 / tile.row_bytes());
    Targets<T> targets;
    for (int64_t first = all * slice / slices; first < end; first += size) {
      const int64_t last = std::min(end, first + size);
      tile.take(first, last);
      targets.find(tile, target, rows, columns, source, first, last);
      for (int64_t i = share; i < panel_end; ++i)
        dispatch<T, true>(panels[i].chunk, [&]<int L, int V>() {
          sweep_dense<T, L, V>(targets, taken, across, panels[i]);
        });
    }
  };
  parallel(pool, {{static_cast<int64_t>(panels.size()), prepare}, {shares * slices, compute}});
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
