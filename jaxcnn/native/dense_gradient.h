// A kernel's gradient, without groups.
#ifndef JAXCNN_DENSE_GRADIENT_H_
#define JAXCNN_DENSE_GRADIENT_H_

#include <algorithm>
#include <vector>

#include "buffer.h"
#include "chunks.h"
#include "kinds.h"
#include "parallel.h"
#include "tiles.h"

namespace jaxcnn {

// With V vectors of outputs, the sums of so many numbers fill most of the registers.
template <typename T, int L, int V>
inline constexpr int kBlockNumbers = V == kMostVectors || L < kLanes<T> ? 6 : 12;

// Numbers side by side that all targets take: `offset` from a target's start, `at` in the kernel.
struct Numbers {
  int64_t offset, at;
  int count;
};

// Call f for the numbers [begin, end) of the segments, counted through, in blocks of at most so
// many.
template <typename F>
void in_blocks(const std::vector<Segment>& segments, int64_t begin, int64_t end, int most, F&& f) {
  for (const Segment& segment : segments) {
    const int64_t stop = std::min(end, segment.at + segment.length);
    for (int64_t at = std::max(begin, segment.at); at < stop;) {
      int count = std::min<int64_t>(stop - at, most);
      if (count > 6 && count < most) count = count < 8 ? 6 : 8;
      f(Numbers{segment.offset + at - segment.at, at, count});
      at += count;
    }
  }
}

// Call f<B>() for a block's count B.
template <int kMost, typename F>
void with_count(int count, F&& f) {
  switch (count) {
    case 1:
      return f.template operator()<1>();
    case 2:
      return f.template operator()<2>();
    case 3:
      return f.template operator()<3>();
    case 4:
      return f.template operator()<4>();
    case 5:
      return f.template operator()<5>();
    case 6:
      return f.template operator()<6>();
  }
  if constexpr (kMost > 6) {
    if (count == 8) return f.template operator()<8>();
    f.template operator()<kMost>();
  }
}

// Taps of an axis that the same outputs have inside of the images, perhaps all of them.
struct Together {
  Taps taps;
  std::pair<int64_t, int64_t> outputs;
  bool all;
};

// An axis's taps, those apart that not all outputs have; or all together.
inline std::vector<Together> together(const Axis& axis, bool apart) {
  std::vector<Together> found;
  for (int64_t tap = 0; tap < axis.taps; ++tap) {
    const std::pair<int64_t, int64_t> every = {0, axis.outputs};
    const std::pair<int64_t, int64_t> outputs = apart ? axis.inside(tap) : every;
    if (found.empty() || found.back().outputs != outputs)
      found.push_back({{tap, tap}, outputs, outputs == every});
    ++found.back().taps.second;
  }
  return found;
}

// Numbers that pixels take, and these pixels, `to` being their places in a tile.
template <typename T>
struct Taken {
  const Together& rows;
  const Together& columns;
  std::vector<Segment> segments;
  PixelList<T, int64_t> pixels;

  // Find them among the rows [first, last) of outputs, counted over all images.
  void find(const Tile<T>& tile, const Array<const T>& outputs, int64_t step, int64_t first,
            int64_t last) {
    const auto [begin, end] = columns.outputs;
    pixels.clear((last - first) * std::max<int64_t>(end - begin, 0));
    for (int64_t at = first; at < last && begin < end; ++at) {
      const int64_t row = at % outputs.h;
      if (row >= rows.outputs.first && row < rows.outputs.second)
        pixels.add(tile.start(at - first) + begin * step, step, (at - first) * outputs.w + begin, 1,
                   end - begin);
    }
  }
};

// to[b, v] += sum over pixels of from[pixel][b] outputs[pixel, v], the first `kept` of v
template <typename T, int L, int V, int B>
JAXCNN_BLOCK void gradient_block(const Taken<T>& taken, int64_t offset, const T* outputs, T* to,
                                 int64_t to_step, int64_t kept) {
  // A sum waits four cycles for itself: few sums are divided, so that there are eight at work.
  constexpr int U = B * V >= 8 ? 1 : 8 / (B * V);
  Vec<T, L> sums[U][B][V];
  unrolled<U>([&](auto u) {
    unrolled<B>([&](auto b) { unrolled<V>([&](auto v) { sums[u][b][v] = Vec<T, L>(); }); });
  });
  const T* const* from = taken.pixels.from.data();
  // All pixels are in the outputs' order.
  const int64_t* places = taken.rows.all && taken.columns.all ? nullptr : taken.pixels.to.data();
  const int64_t pixels = taken.pixels.count;
  auto add = [&](int64_t p, auto u) {
    const T* x = from[p] + offset;
    const T* g = outputs + (places ? places[p] : p) * V * L;
    Vec<T, L> d[V];
    unrolled<V>([&](auto v) {
      __builtin_prefetch(g + (kAhead * V + v) * L, 0, 3);
      d[v] = load<T, L>(g + v * L);
    });
    unrolled<B>([&](auto b) { unrolled<V>([&](auto v) { sums[u][b][v] += x[b] * d[v]; }); });
  };
  int64_t p = 0;
  for (; p + U <= pixels; p += U) unrolled<U>([&](auto u) { add(p + u, u); });
  for (; U > 1 && p < pixels; ++p) add(p, kFirst);
  unrolled<B>([&](auto b) {
    unrolled<V>([&](auto v) {
      unrolled<U - 1>([&](auto u) { sums[0][b][v] += sums[u + 1][b][v]; });
      T* at = to + v * L;
      store_some<T, L>(at, load_some<T, L>(at, kept) + sums[0][b][v], kept);
    });
    to += to_step;
  });
}

// A chunk of the outputs' channels side by side, pixel by pixel.
template <typename T>
class Columns {
 public:
  const T* take(const T* outputs, int64_t channels, int64_t pixels, const Chunk& chunk) {
    const int64_t width = chunk.channels(), kept = chunk.kept(channels);
    if (width == channels) return outputs;
    T* to = copy_.reserve(pixels * width);
    for (int64_t p = 0; p < pixels; ++p)
      std::copy_n(outputs + p * channels + chunk.offset, kept, to + p * width);
    return to;
  }

 private:
  Buffer<T> copy_;
};

// Add to `to` slices of so many numbers each; `partial` must stay.
template <typename T>
Stage adding(const Buffer<T>& partial, int64_t slices, T* to, int64_t numbers) {
  constexpr int64_t kShare = 1 << 14;
  const int64_t tasks = slices == 0 ? 0 : (numbers + kShare - 1) / kShare;
  return {tasks, [=, &partial](int64_t task) {
            const int64_t end = std::min(numbers, (task + 1) * kShare);
            for (int64_t slice = 0; slice < slices; ++slice)
              for (int64_t i = task * kShare; i < end; ++i)
                to[i] += partial.data()[slice * numbers + i];
          }};
}

// The kernel's array is (kh, kw, channels, features).
template <typename T>
void kernel_gradient_dense(ThreadPool& pool, const Array<const T>& images,
                           const Array<const T>& outputs, const Array<T>& kernel,
                           const Axis axes[2]) {
  const Phase rows = phases(axes[0], false)[0], columns = phases(axes[1], false)[0];
  const std::vector<Chunk> parts = chunks<T>(kernel.c, true);
  const int64_t numbers = kernel.n * kernel.h * kernel.w, all = outputs.n * outputs.h;
  // Tasks have a share of the numbers or, of a small kernel, a slice of the pixels; slices are then
  // added up.
  const int64_t tasks = 2 * std::max<int64_t>(pool.num_threads(), 1);
  const bool shared =
      numbers * kernel.c >
      std::min<int64_t>(images.n * images.h * images.w * images.c / 4, kSecondCache / 16);
  const int64_t slices = shared ? 1 : std::clamp<int64_t>(tasks, 1, std::max<int64_t>(all, 1));
  const int64_t shares = shared ? std::min(tasks, numbers) : 1;
  const Buffer<T> partial((slices - 1) * numbers * kernel.c);
  const std::vector<Together> below = together(axes[0], pays(rows, images.h, numbers));
  const std::vector<Together> beside = together(axes[1], pays(columns, images.w, numbers));
  auto compute = [&](int64_t task) {
    const int64_t slice = shared ? 0 : task, share = shared ? task : 0;
    const int64_t begin = numbers * share / shares, stop = numbers * (share + 1) / shares;
    T* sums = slice > 0 ? partial.data() + (slice - 1) * numbers * kernel.c : kernel.data;
    std::fill(sums + begin * kernel.c, sums + stop * kernel.c, T(0));
    Tile<T> tile(images, rows, columns);
    std::vector<Taken<T>> all_taken;
    for (const Together& i : below)
      for (const Together& j : beside) {
        auto segments_of = segments(rows, columns, i.taps, j.taps, tile.row_step(), images.c);
        all_taken.push_back({i, j, segments_of, {}});
      }
    // Pixels that stay in the first cache, or nearly, from block to block.
    const int64_t size = std::max<int64_t>({1, (1 << 16) / tile.row_bytes(), 128 / outputs.w});
    Columns<T> side;
    const int64_t end = all * (slice + 1) / slices;
    for (int64_t first = all * slice / slices; first < end; first += size) {
      const int64_t last = std::min(end, first + size);
      tile.take(first, last);
      for (Taken<T>& taken : all_taken)
        taken.find(tile, outputs, columns.source_step * images.c, first, last);
      for (const Chunk& chunk : parts) {
        const T* g =
            side.take(outputs.at(0, first, 0), kernel.c, (last - first) * outputs.w, chunk);
        T* to = sums + chunk.offset;
        dispatch<T, true>(chunk, [&]<int L, int V>() {
          constexpr int kMost = kBlockNumbers<T, L, V>;
          for (const Taken<T>& taken : all_taken)
            in_blocks(taken.segments, begin, stop, kMost, [&](const Numbers& some) {
              with_count<kMost>(some.count, [&]<int B>() {
                gradient_block<T, L, V, B>(taken, some.offset, g, to + some.at * kernel.c, kernel.c,
                                           chunk.kept(kernel.c));
              });
            });
        });
      }
    }
  };
  parallel(pool, {{shares * slices, compute},
                  adding(partial, slices - 1, kernel.data, numbers * kernel.c)});
}

}  // namespace jaxcnn

#endif
