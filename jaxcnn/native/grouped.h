// Outputs of images, and the images' gradient of the outputs', of a kernel for each group of
// channels.
#ifndef JAXCNN_GROUPED_H_
#define JAXCNN_GROUPED_H_

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "blocks.h"
#include "buffer.h"
#include "chunks.h"
#include "geometry.h"
#include "narrow_blocks.h"
#include "parallel.h"
#include "triples.h"

namespace jaxcnn {

// A group's weights for a chunk of its target channels.
template <typename T>
struct Part {
  Panel<T> panel;
  int64_t source;  // the group's first channel there
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

// Rows of targets [first, last), counted over all images, whose every row of taps has so many
// weights in a part.
template <typename T>
TripleRows<T> find_rows(const Triples& triples, const Array<const T>& source,
                        const Array<T>& target, const std::vector<std::vector<Source>>& row_taps,
                        int64_t weights, int64_t first, int64_t last) {
  TripleRows<T> found{{}, {}, source.c, target.c};
  for (int64_t at = first; at < last; ++at) {
    const int64_t image = at / target.h, y = at % target.h, begin = found.taken.size();
    for (Source tap : row_taps[y])
      found.taken.push_back(
          {source.at(image, tap.second, triples.phase.origin), tap.first * weights});
    found.rows.push_back({begin, std::ssize(found.taken), target.at(image, y, 0)});
  }
  return found;
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

// A kernel's parts, in the order in which the blocks read them: tap by tap, or those taps of
// `across` side by side for each channel.
template <typename T>
class Parts {
 public:
  Parts(const Array<const T>& kernel, const T* bias, const std::vector<int64_t>& across,
        int64_t groups, bool backward)
      : packed_(kernel.n * kernel.h * kernel.w * kernel.c) {
    const int64_t inputs = kernel.w, outputs = kernel.c / groups;
    const int64_t channels = backward ? outputs : inputs, targets = backward ? inputs : outputs;
    T* to = packed_.data();
    for (int64_t group = 0; group < groups; ++group)
      for (Chunk chunk : chunks<T>(targets)) {
        const T* const begin = to;
        const T* const from =
            kernel.data + group * outputs + chunk.offset * (backward ? kernel.c : 1);
        for (int64_t tap = 0; tap < kernel.n * kernel.h; tap += across.size())
          for (int64_t k = 0; k < channels; k += beside<T>(chunk, channels))
            for (int64_t j : across)
              to = copy(from + (tap + j) * inputs * kernel.c, kernel.c, chunk, k, channels,
                        backward, to);
        chunk.offset += group * targets;
        const Panel<T> panel{chunk, chunk.channels(), begin, bias ? bias + chunk.offset : nullptr};
        all_.push_back({panel, group * channels});
      }
  }

  const std::vector<Part<T>>& all() const { return all_; }

 private:
  // Copy a tap's weights for a chunk, of the source channel k and those beside it.
  static T* copy(const T* from, int64_t outputs, const Chunk& chunk, int64_t k, int64_t channels,
                 bool backward, T* to) {
    // Steps between the source channels and between the target channels.
    const int64_t source = backward ? 1 : outputs, target = backward ? outputs : 1;
    const int64_t side = beside<T>(chunk, channels);
    from += k * source;
    if (side == 1 && target == 1 && chunk.lanes == kLanes<T>) {
      for (int v = 0; v < chunk.vectors; ++v, from += chunk.lanes, to += chunk.lanes)
        store<T, kLanes<T>>(to, load<T, kLanes<T>>(from));
      return to;
    }
    for (int64_t c = 0; c < chunk.channels(); ++c)
      for (int64_t r = 0; r < side; ++r) *to++ = from[r * source + c * target];
    return to;
  }

  Buffer<T> packed_;
  std::vector<Part<T>> all_;
};

template <typename T>
void convolve_grouped(ThreadPool& pool, const Array<const T>& source, const Array<const T>& kernel,
                      const T* bias, const Array<T>& target, const Axis axes[2], int64_t groups,
                      bool backward) {
  const int64_t from = source.c / groups, to = target.c / groups;
  const std::vector<std::vector<Source>> row_taps = taps_by_target(axes[0], backward);
  const int64_t all = target.n * target.h, tasks = tasks_of_rows(pool, source, target);
  const std::optional<Triples> triples =
      to == kLanes<T> ? find_triples(axes[1], backward) : std::nullopt;
  const std::vector<int64_t> across = triples ? triples->phase.taps : std::vector<int64_t>{0};
  const std::vector<Run> row_runs = runs(axes[0], backward), column_runs = runs(axes[1], backward);
  std::vector<Alike<T>> alike;
  if (!triples)
    for (const Run& rows : row_runs)
      for (const Run& columns : column_runs)
        alike.emplace_back(rows, columns, source, axes[1].taps, from);
  // Each thread has a copy of the kernel: to read what another one wrote into its caches, after
  // waiting for that, takes longer than to copy.
  auto begin = [&] {
    auto parts = std::make_shared<Parts<T>>(kernel, bias, across, groups, backward);
    return [&, parts, pixels = alike](int64_t task) mutable {
      const int64_t first = all * task / tasks, last = all * (task + 1) / tasks;
      if (triples) {
        const TripleRows<T> rows =
            find_rows(*triples, source, target, row_taps, axes[1].taps * from * to, first, last);
        for (const Part<T>& part : parts->all())
          sweep_triples<T, kLanes<T>>(*triples, rows, {part.source, from, part.panel});
        return;
      }
      fetch_rows(source, target, row_taps, first, last);
      fetch<1>(target.at(0, first, 0), target.at(0, last, 0));
      for (Alike<T>& some : pixels) some.find(source, target, first, last);
      for (const Part<T>& part : parts->all())
        dispatch<T>(part.panel.chunk, [&]<int L, int V>() {
          for (const Alike<T>& some : pixels) sweep_group<T, L, V>(some, part);
        });
    };
  };
  parallel(pool, {{tasks, begin}});
}

}  // namespace jaxcnn

#endif
