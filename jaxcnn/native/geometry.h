// Which taps of a kernel see which pixels, along one axis.
#ifndef JAXCNN_GEOMETRY_H_
#define JAXCNN_GEOMETRY_H_

#include <cstdint>
#include <utility>
#include <vector>

namespace jaxcnn {

// Numbers (n, h, w, c), the channels side by side.
template <typename T>
struct Array {
  T* data;
  int64_t n, h, w, c;

  T* at(int64_t image, int64_t y, int64_t x) const { return data + ((image * h + y) * w + x) * c; }
};

struct Axis {
  int64_t images, outputs, taps, stride, dilation, before;

  // The pixel that an output's window has under a tap, perhaps outside the image.
  int64_t pixel(int64_t output, int64_t tap) const {
    return output * stride - before + tap * dilation;
  }

  // Outputs [first, second) whose windows have the tap inside the image.
  std::pair<int64_t, int64_t> inside(int64_t tap) const {
    int64_t begin = 0, end = outputs;
    while (begin < end && pixel(begin, tap) < 0) ++begin;
    while (end > begin && pixel(end - 1, tap) >= images) --end;
    return {begin, end};
  }
};

// A tap, and the pixel or output that it takes for some target.
using Source = std::pair<int64_t, int64_t>;

// The targets start, start + step, ... all take the same taps, each from a source that moves on by
// source_step.
struct Run {
  int64_t start, step, count, source_step;
  std::vector<Source> taps;  // of the first target
};

// Group an axis's targets, its outputs or, backward, the images' pixels, into runs.
inline std::vector<Run> runs(const Axis& axis, bool backward) {
  auto taps_of = [&](int64_t target) {
    std::vector<Source> found;
    for (int64_t tap = 0; tap < axis.taps; ++tap) {
      int64_t source = axis.pixel(target, tap);
      bool taken = 0 <= source && source < axis.images;
      if (backward) {  // the output whose window has the pixel under the tap
        const int64_t ahead = target + axis.before - tap * axis.dilation;
        source = ahead / axis.stride;
        taken = ahead >= 0 && ahead % axis.stride == 0 && source < axis.outputs;
      }
      if (taken) found.emplace_back(tap, source);
    }
    return found;
  };
  const int64_t step = backward ? axis.stride : 1, source_step = backward ? 1 : axis.stride;
  const int64_t targets = backward ? axis.images : axis.outputs;
  std::vector<Run> found;
  for (int64_t phase = 0; phase < step; ++phase)
    for (int64_t at = phase; at < targets; at += step) {
      std::vector<Source> taps = taps_of(at);
      if (at != phase) {
        Run& last = found.back();
        std::vector<Source> next = last.taps;
        for (Source& tap : next) tap.second += last.count * source_step;
        if (taps == next) {
          ++last.count;
          continue;
        }
      }
      found.push_back({at, step, 1, source_step, std::move(taps)});
    }
  return found;
}

// The taps of each of an axis's targets.
inline std::vector<std::vector<Source>> taps_by_target(const Axis& axis, bool backward) {
  std::vector<std::vector<Source>> found(backward ? axis.images : axis.outputs);
  for (const Run& run : runs(axis, backward))
    for (int64_t i = 0; i < run.count; ++i)
      for (Source tap : run.taps)
        found[run.start + i * run.step].emplace_back(tap.first, tap.second + i * run.source_step);
  return found;
}

}  // namespace jaxcnn

#endif
