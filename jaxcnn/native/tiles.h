// Source pixels with zeros around them.
#ifndef JAXCNN_TILES_H_
#define JAXCNN_TILES_H_

#include <algorithm>
#include <vector>

#include "blocks.h"
#include "buffer.h"
#include "phases.h"

namespace jaxcnn {

// Rows [first, last) of targets, counted over all images; rows of one phase and columns of another.
template <typename T>
class Tile {
 public:
  Tile(const Array<const T>& source, const Phase& rows, const Phase& columns)
      : source_(source), rows_(rows), columns_(columns), width_(columns.span(columns.count)) {
    whole_ = columns.origin >= 0 && columns.origin + width_ <= source.w && rows.origin >= 0 &&
             rows.origin + rows.span(rows.count) <= source.h;
    if (whole_) width_ = source.w;
  }

  // Numbers from a pixel to the one below it.
  int64_t row_step() const { return width_ * source_.c; }

  // Bytes that a row of targets adds.
  int64_t row_bytes() const { return rows_.source_step * row_step() * sizeof(T); }

  // Copy what the targets take, if any of it lies outside; then find each target row's first pixel.
  void take(int64_t first, int64_t last) {
    starts_.clear();
    int64_t size = 0;
    for (int64_t at = first; at < last; at = next(at, last))
      size += rows_.span(next(at, last) - at) * row_step();
    T* to = whole_ ? nullptr : copy_.reserve(size);
    for (int64_t at = first; at < last; at = next(at, last)) {
      const int64_t image = at / rows_.count, row = at % rows_.count;
      const int64_t top = rows_.origin + row * rows_.source_step;
      const int64_t span = rows_.span(next(at, last) - at);
      const T* from = whole_ ? source_.at(image, top, columns_.origin) : to;
      for (int64_t i = at; i < next(at, last); ++i)
        starts_.push_back(from + (i - at) * rows_.source_step * row_step());
      if (whole_) continue;
      for (int64_t y = top; y < top + span; ++y, to += row_step()) copy(image, y, to);
    }
  }

  // The first target's first pixel of a row, counted from the first row taken.
  const T* start(int64_t row) const { return starts_[row]; }

 private:
  // The end of the rows that belong to the same image.
  int64_t next(int64_t at, int64_t last) const {
    return std::min(last, (at / rows_.count + 1) * rows_.count);
  }

  void copy(int64_t image, int64_t y, T* to) const {
    const int64_t c = source_.c;
    if (y < 0 || y >= source_.h) {
      std::fill_n(to, width_ * c, T(0));
      return;
    }
    // All of the columns may lie on one side of the source.
    const int64_t begin = std::clamp<int64_t>(columns_.origin, 0, source_.w);
    const int64_t end = std::clamp<int64_t>(columns_.origin + width_, 0, source_.w);
    const int64_t before = std::clamp<int64_t>(-columns_.origin, 0, width_);
    to = std::fill_n(to, before * c, T(0));
    to = std::copy_n(source_.at(image, y, begin), (end - begin) * c, to);
    std::fill_n(to, (width_ - before - (end - begin)) * c, T(0));
  }

  const Array<const T>& source_;
  const Phase& rows_;
  const Phase& columns_;
  int64_t width_;
  bool whole_;
  Buffer<T> copy_;
  std::vector<const T*> starts_;
};

// The channels that a target takes, tap by tap of some of its phase's; taps side by side are one
// segment.
inline std::vector<Segment> segments(const Phase& rows, const Phase& columns, Taps below,
                                     Taps beside, int64_t row_step, int64_t channels) {
  std::vector<Segment> found;
  const int64_t across = columns.taps.size(), span = beside.second - beside.first;
  const int64_t parts = columns.tap_step == 1 ? std::min<int64_t>(span, 1) : span;
  for (int64_t i = below.first; i < below.second; ++i)
    for (int64_t j = beside.first; j < beside.first + parts; ++j) {
      const int64_t offset = i * rows.tap_step * row_step + j * columns.tap_step * channels;
      found.push_back({offset, (i * across + j) * channels, span / parts * channels});
    }
  return found;
}

}  // namespace jaxcnn

#endif
