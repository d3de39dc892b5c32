// Targets by the taps of a kernel that they see inside of the source.
#ifndef JAXCNN_KINDS_H_
#define JAXCNN_KINDS_H_

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "blocks.h"
#include "phases.h"
#include "tiles.h"

namespace jaxcnn {

// An axis's targets by the taps that they see.
struct AxisKinds {
  std::vector<Taps> taps;  // of each kind
  std::vector<size_t> of;  // each target's kind

  AxisKinds(const Phase& phase, int64_t size) {
    for (int64_t target = 0; target < phase.count; ++target) {
      const Taps seen = phase.inside(target, size);
      of.push_back(std::find(taps.begin(), taps.end(), seen) - taps.begin());
      if (of.back() == taps.size()) taps.push_back(seen);
    }
  }
};

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
      : rows(down, height), columns(across, width) {
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

// The pixels of a tile's targets, kind by kind.
template <typename T>
class Targets {
 public:
  struct List {
    std::vector<const T*> from;
    std::vector<T*> to;
    int64_t count;

    // Give the last ones to another list.
    void give(int64_t pixels, List& other) {
      other.from.insert(other.from.end(), from.end() - pixels, from.end());
      other.to.insert(other.to.end(), to.end() - pixels, to.end());
      resize(from.size() - pixels);
    }

    void resize(int64_t pixels) {
      if (from.empty()) return;
      from.resize(pixels, from.back());
      to.resize(pixels, to.back());
    }
  };

  explicit Targets(const Kinds& kinds) : kinds_(kinds), lists_(kinds.all.size()) {}

  const List& of(size_t kind) const { return lists_[kind]; }

  // Find the pixels of the rows [first, last). They are computed in blocks of so many: what is left
  // of a kind goes into blocks of a wider one.
  void find(const Tile<T>& tile, const Array<T>& target, const Phase& down, const Phase& across,
            int64_t channels, int64_t first, int64_t last, int64_t block) {
    for (List& list : lists_) list.resize(0);
    for (int64_t at = first; at < last; ++at) {
      const int64_t row = at % down.count;
      const T* x = tile.start(at - first);
      T* y = target.at(at / down.count, down.first + row * down.step, across.first);
      const size_t* number = &kinds_.number[kinds_.rows.of[row] * kinds_.columns.taps.size()];
      for (int64_t i = 0; i < across.count; ++i) {
        List& list = lists_[number[kinds_.columns.of[i]]];
        list.from.push_back(x + i * across.source_step * channels);
        list.to.push_back(y + i * across.step * target.c);
      }
    }
    for (size_t i = 0; i < lists_.size(); ++i) {
      List& list = lists_[i];
      if (i < kinds_.wider.size()) list.give(list.from.size() % block, lists_[kinds_.wider[i]]);
      list.count = list.from.size();
      // Blocks are whole: the last of them computes the last pixel again.
      list.resize(list.count + 7);
    }
  }

 private:
  const Kinds& kinds_;
  std::vector<List> lists_;
};

}  // namespace jaxcnn

#endif
