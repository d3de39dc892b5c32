// Targets by the taps of a kernel that they see inside of the source.
#ifndef JAXCNN_KINDS_H_
#define JAXCNN_KINDS_H_

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "blocks.h"
#include "buffer.h"
#include "phases.h"
#include "tiles.h"

namespace jaxcnn {

// An axis's targets by the taps that they see.
struct AxisKinds {
  // Targets of the same kind side by side.
  struct Run {
    int64_t first, count;
    size_t kind;
  };
  std::vector<Taps> taps;  // of each kind
  std::vector<size_t> of;  // each target's kind
  std::vector<Run> runs;

  AxisKinds(const Phase& phase, int64_t size, bool apart) {
    for (int64_t target = 0; target < phase.count; ++target) {
      const Taps seen = apart ? phase.inside(target, size) : phase.all();
      of.push_back(std::find(taps.begin(), taps.end(), seen) - taps.begin());
      if (of.back() == taps.size()) taps.push_back(seen);
      if (runs.empty() || runs.back().kind != of.back()) runs.push_back({target, 0, of.back()});
      ++runs.back().count;
    }
  }
};

// Whether it pays to leave out what an axis's targets take outside of the source, where they take
// so many numbers each: pixels are not computed in the memory's order then.
inline bool pays(const Phase& phase, int64_t size, int64_t numbers) {
  const int64_t all = phase.count * phase.taps.size();
  int64_t out = all;
  for (int64_t target = 0; target < phase.count; ++target) {
    const Taps seen = phase.inside(target, size);
    out -= seen.second - seen.first;
  }
  return 16 * out >= all && numbers >= 1024;
}

// Pixels that take the same taps.
struct Kind {
  Taps rows, columns;
  std::vector<Segment> taken;

  int64_t size() const { return (rows.second - rows.first) * (columns.second - columns.first); }

  bool has(const Kind& other) const {
    return other.size() == 0 ||
           (rows.first <= other.rows.first && rows.second >= other.rows.second &&
            columns.first <= other.columns.first && columns.second >= other.columns.second);
  }
};

// The kinds of a phase's pixels, those that take more behind those that take less. The last one
// takes all taps, which is right for every pixel: outside of the source are zeros.
struct Kinds {
  AxisKinds rows, columns;
  std::vector<Kind> all;
  std::vector<size_t> wider;   // of each but the last: another that has its taps too
  std::vector<size_t> number;  // of a kind of rows, and of columns

  Kinds(const Phase& down, const Phase& across, int64_t height, int64_t width, int64_t row_step,
        int64_t channels)
      : rows(down, height, true),
        columns(across, width,
                pays(across, width, down.taps.size() * across.taps.size() * channels)) {
    auto add = [&](Taps below, Taps beside) {
      all.push_back({below, beside, segments(down, across, below, beside, row_step, channels)});
    };
    for (Taps below : rows.taps)
      for (Taps beside : columns.taps) add(below, beside);
    std::vector<size_t> order(all.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return all[a].size() < all[b].size(); });
    std::vector<Kind> sorted;
    number.resize(order.size());
    for (size_t i : order) {
      number[i] = sorted.size();
      sorted.push_back(std::move(all[i]));
    }
    all = std::move(sorted);
    const Kind whole{down.all(), across.all(), {}};
    if (all.empty() || !all.back().has(whole)) add(whole.rows, whole.columns);
    for (size_t i = 0; i + 1 < all.size(); ++i) {
      wider.push_back(i + 1);
      while (!all[wider.back()].has(all[i])) ++wider.back();
    }
  }
};

// Pixels: where they come from and where they go to.
template <typename T, typename To>
struct PixelList {
  Buffer<const T*> from;
  Buffer<To> to;
  int64_t count = 0;

  // Be empty, with room for so many.
  void clear(int64_t room) {
    from.reserve(room);
    to.reserve(room);
    count = 0;
  }

  void add(const T* x, int64_t x_step, To y, int64_t y_step, int64_t pixels) {
    for (int64_t i = 0; i < pixels; ++i) {
      from[count + i] = x + i * x_step;
      to[count + i] = y + i * y_step;
    }
    count += pixels;
  }
};

// The pixels of a tile's targets, kind by kind.
template <typename T>
class Targets {
 public:
  using List = PixelList<T, T*>;

  explicit Targets(const Kinds& kinds) : kinds_(kinds), lists_(kinds.all.size()) {}

  const List& of(size_t kind) const { return lists_[kind]; }

  // Find the pixels of the rows [first, last). They are computed in blocks of so many: what is left
  // of a kind goes into blocks of a wider one.
  void find(const Tile<T>& tile, const Array<T>& target, const Phase& down, const Phase& across,
            int64_t channels, int64_t first, int64_t last, int64_t block) {
    for (List& list : lists_) list.clear((last - first) * across.count + kSpare);
    const int64_t x_step = across.source_step * channels, y_step = across.step * target.c;
    for (int64_t at = first; at < last; ++at) {
      const int64_t row = at % down.count;
      const T* x = tile.start(at - first);
      T* y = target.at(at / down.count, down.first + row * down.step, across.first);
      const size_t* number = &kinds_.number[kinds_.rows.of[row] * kinds_.columns.taps.size()];
      for (const AxisKinds::Run& run : kinds_.columns.runs)
        lists_[number[run.kind]].add(x + run.first * x_step, x_step, y + run.first * y_step, y_step,
                                     run.count);
    }
    for (size_t i = 0; i < lists_.size(); ++i) {
      List& list = lists_[i];
      for (; i < kinds_.wider.size() && list.count % block != 0; --list.count)
        lists_[kinds_.wider[i]].add(list.from[list.count - 1], 0, list.to[list.count - 1], 0, 1);
      if (list.count == 0) continue;
      // Blocks are whole: the last of them computes the last pixel again.
      list.add(list.from[list.count - 1], 0, list.to[list.count - 1], 0, kSpare);
      list.count -= kSpare;
    }
  }

 private:
  static constexpr int64_t kSpare = 7;  // pixels of a block, but one

  const Kinds& kinds_;
  std::vector<List> lists_;
};

}  // namespace jaxcnn

#endif
