// Blocks of targets side by side that share what their three taps across take.
#ifndef JAXCNN_TRIPLES_H_
#define JAXCNN_TRIPLES_H_

#include <algorithm>
#include <optional>
#include <vector>

#include "blocks.h"
#include "geometry.h"
#include "phases.h"

namespace jaxcnn {

// An axis each of whose targets takes three sources side by side, one or two further on from target
// to target. At either end one of them may be outside of the sources.
struct Triples {
  Phase phase;
  bool cut_left, cut_right;
  int64_t block;  // targets
};

// Those of an axis, unless its targets take others, or blocks would compute many of them twice: one
// that has no room behind the last one takes targets of that.
inline std::optional<Triples> find_triples(const Axis& axis, bool backward) {
  const std::vector<Phase> all = phases(axis, backward);
  if (all.size() != 1) return {};
  const Phase& phase = all[0];
  const int64_t end = backward ? axis.outputs : axis.images;
  const int64_t last = phase.origin + phase.span(phase.count);
  if (phase.taps.size() != 3 || phase.tap_step != 1 || phase.source_step > 2) return {};
  if (phase.origin < -1 || last > end + 1) return {};
  auto computed = [&](int64_t block) { return (phase.count + block - 1) / block * block; };
  const int64_t block = computed(7) < computed(8) ? 7 : 8;
  if (phase.count < block || 5 * computed(block) > 6 * phase.count) return {};
  return Triples{phase, phase.origin == -1, last == end + 1, block};
}

// A row of sources, at what the first target takes first, and where its weights begin among those
// of [row of taps][channel][three][target channel].
template <typename T>
struct SourceRow {
  const T* from;
  int64_t weights;
};

// Rows of targets, and how far it is from one of their pixels to the next.
template <typename T>
struct TripleRows {
  struct Row {
    int64_t begin, end;  // of what it takes
    T* to;
  };
  std::vector<SourceRow<T>> taken;
  std::vector<Row> rows;
  int64_t step, to_step;
};

// Some of the channels that the rows take, and the weights for them.
template <typename T>
struct TripleChannels {
  int64_t first, count;
  Panel<T> panel;
};

// to[p] = bias + sum over a row's sources and their channels k of from[S p + j][k] weights[k][j], j
// = 0, 1, 2, from the target `at` on; what the first one takes first (`left`) or the last one last
// (`right`) may be left out.
template <typename T, int L, int P, int S>
JAXCNN_BLOCK void triple_block(const TripleRows<T>& all, const typename TripleRows<T>::Row& row,
                               int64_t at, const TripleChannels<T>& channels, bool left,
                               bool right) {
  constexpr int kSources = (P - 1) * S + 3;
  const int64_t step = all.step, count = channels.count;
  const Panel<T>& panel = channels.panel;
  Vec<T, L> sums[P];
  unrolled<P>([&](auto p) { sums[p] = panel.bias ? load<T, L>(panel.bias) : Vec<T, L>(); });
  for (int64_t taken = row.begin; taken < row.end; ++taken) {
    const T* x = all.taken[taken].from + at * S * step + channels.first;
    const T* weights = panel.weights + all.taken[taken].weights;
    for (int64_t k = 0; k < count; ++k, ++x, weights += 3 * L) {
      Vec<T, L> w[3];
      unrolled<3>([&](auto j) { w[j] = load<T, L>(weights + j * L); });
      unrolled<kSources>([&](auto i) {
        if ((i == 0 && left) || (i == kSources - 1 && right)) return;
        const Vec<T, L> number = x[i * step] - Vec<T, L>();  // + would lose the sign of a zero
        unrolled<3>([&](auto j) {
          if constexpr (i >= j && (i - j) % S == 0 && (i - j) / S < P)
            sums[(i - j) / S] += number * w[j];
        });
      });
    }
  }
  T* const to = row.to + at * all.to_step + panel.chunk.offset;
  unrolled<P>([&](auto p) { store<T, L>(to + p * all.to_step, sums[p]); });
}

// All rows, block by block.
template <typename T, int L>
void sweep_triples(const Triples& triples, const TripleRows<T>& all,
                   const TripleChannels<T>& channels) {
  const int64_t last = triples.phase.count - triples.block;
  auto sweep = [&]<int P, int S>() {
    for (const auto& row : all.rows)
      for (int64_t end = P; end < last + 2 * P; end += P) {
        const int64_t at = std::min(end - P, last);
        triple_block<T, L, P, S>(all, row, at, channels, at == 0 && triples.cut_left,
                                 at == last && triples.cut_right);
      }
  };
  if (triples.phase.source_step == 1)
    triples.block == 7 ? sweep.template operator()<7, 1>() : sweep.template operator()<8, 1>();
  else
    triples.block == 7 ? sweep.template operator()<7, 2>() : sweep.template operator()<8, 2>();
}

}  // namespace jaxcnn

#endif
