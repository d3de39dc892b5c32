// Targets, outputs or, backward, the images' pixels, that all take the same taps of a kernel.
#ifndef JAXCNN_PHASES_H_
#define JAXCNN_PHASES_H_

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "geometry.h"

namespace jaxcnn {

// The taps [first, second) of a phase, along one axis.
using Taps = std::pair<int64_t, int64_t>;

// Along one axis: target first + i step takes kernel[taps[j]] of source
// origin + i source_step + j tap_step, which may lie outside of the source.
struct Phase {
  int64_t first, step, count;
  int64_t origin, source_step, tap_step;
  std::vector<int64_t> taps;

  // Source pixels from the first that a target takes to the last, of so many targets.
  int64_t span(int64_t targets) const {
    return (targets - 1) * source_step + (static_cast<int64_t>(taps.size()) - 1) * tap_step + 1;
  }

  // The taps of a target that are inside of the source.
  Taps inside(int64_t target, int64_t size) const {
    const int64_t at = origin + target * source_step, count = taps.size();
    int64_t first = 0, second = count;
    while (first < count && at + first * tap_step < 0) ++first;
    while (second > first && at + (second - 1) * tap_step >= size) --second;
    return {first, second};
  }

  Taps all() const { return {0, static_cast<int64_t>(taps.size())}; }
};

// All outputs take all taps. Backward the pixels fall into as many phases as the stride has steps.
inline std::vector<Phase> phases(const Axis& axis, bool backward) {
  std::vector<Phase> found;
  if (!backward) {
    std::vector<int64_t> taps(axis.taps);
    std::iota(taps.begin(), taps.end(), 0);
    return {{0, 1, axis.outputs, -axis.before, axis.stride, axis.dilation, taps}};
  }
  for (int64_t first = 0; first < std::min(axis.stride, axis.images); ++first) {
    const int64_t count = (axis.images - first + axis.stride - 1) / axis.stride;
    Phase phase{first, axis.stride, count, 0, 1, 0, {}};
    // The larger the tap, the earlier the output.
    for (int64_t tap = axis.taps - 1; tap >= 0; --tap) {
      const int64_t ahead = first + axis.before - tap * axis.dilation;
      if (ahead % axis.stride != 0) continue;
      if (phase.taps.empty()) phase.origin = ahead / axis.stride;
      phase.taps.push_back(tap);
    }
    if (!phase.taps.empty()) phase.tap_step = axis.dilation / std::gcd(axis.dilation, axis.stride);
    found.push_back(phase);
  }
  return found;
}

}  // namespace jaxcnn

#endif
