// A kernel's gradient: sums over pixels of what a tap sees times the outputs' gradient.
#ifndef JAXCNN_KERNEL_GRADIENT_H_
#define JAXCNN_KERNEL_GRADIENT_H_

#include <algorithm>
#include <vector>

#include "blocks.h"
#include "chunks.h"
#include "dense_gradient.h"
#include "geometry.h"
#include "narrow_blocks.h"
#include "parallel.h"
#include "product.h"

namespace jaxcnn {

// Rows [first, last) of all images' outputs, few enough to stay in the second cache from tap to
// tap. They are added to a kernel's gradient of its own.
template <typename T>
struct Set {
  const Array<const T>& images;
  const Array<const T>& outputs;
  const Axis* axes;
  int64_t first, last;

  // Read in the order of the memory what the parts of a kernel then take in small pieces.
  void fetch_rows() const {
    const T* done = nullptr;
    for (int64_t at = first; at < last; ++at) {
      const int64_t image = at / outputs.h, row = at % outputs.h;
      fetch(outputs.at(image, row, 0), outputs.at(image, row + 1, 0));
      for (int64_t i = 0; i < axes[0].taps; ++i) {
        const int64_t y = axes[0].pixel(row, i);
        if (y < 0 || y >= images.h) continue;
        const T* from = images.at(image, y, 0);
        if (from >= done) fetch(from, from + images.w * images.c);
        done = std::max(done, from + images.w * images.c);
      }
    }
  }

  // Where the rows meet row i of the kernel, and their outputs from `begin` on its tap j.
  void meet(int64_t i, int64_t j, int64_t begin, std::vector<Rows<T>>& rows) const {
    rows.clear();
    for (int64_t at = first; at < last; ++at) {
      const int64_t image = at / outputs.h, row = at % outputs.h, y = axes[0].pixel(row, i);
      if (0 <= y && y < images.h)
        rows.push_back(
            {images.at(image, y, axes[1].pixel(begin, j)), outputs.at(image, row, begin)});
    }
  }
};

// Row i of a depthwise kernel: outputs that see the whole row in one pass, the others tap by tap.
template <typename T>
void add_depthwise_row(const Set<T>& set, int64_t i, const Array<T>& kernel,
                       const std::vector<Chunk>& parts, std::vector<Rows<T>>& rows) {
  const Axis& axis = set.axes[1];
  auto add = [&]<int J>(int64_t j, int64_t begin, int64_t end) {
    if (begin >= end) return;
    set.meet(i, j, begin, rows);
    for (const Chunk& chunk : parts)
      dispatch<T>(chunk, [&]<int L, int V>() {
        const Pixels<T> pixels{rows,     end - begin,  axis.stride * kernel.c,
                               kernel.c, chunk.offset, chunk.offset};
        depthwise_kernel_block<T, L, V, J>(pixels, axis.dilation * kernel.c,
                                           kernel.at(i, j, 0) + chunk.offset, kernel.c);
      });
  };
  int64_t begin = axis.outputs, end = axis.outputs;  // of those that see the whole row
  if (axis.taps == 3) {
    begin = axis.inside(0).first;
    end = std::max(begin, axis.inside(2).second);
    add.template operator()<3>(0, begin, end);
  }
  for (int64_t j = 0; j < axis.taps; ++j) {
    const std::pair<int64_t, int64_t> inside = axis.inside(j);
    add.template operator()<1>(j, inside.first, std::min(inside.second, begin));
    add.template operator()<1>(j, std::max(inside.first, end), inside.second);
  }
}

// A tap of a chunk of a group's outputs, for all channels of the group.
template <typename T, int L, int V>
void add_tile(Pixels<T> pixels, int64_t inputs, T* to) {
  const int64_t to_step = pixels.output_step;
  auto channels = [&]<int B>() {
    for (; inputs >= B; inputs -= B, pixels.image_channel += B, to += B * to_step) {
      if constexpr (kNarrow<T, L> && B % 2 == 0)
        narrow_kernel_block<T, L, B>(pixels, to, to_step);
      else
        kernel_block<T, L, V, B>(pixels, to, to_step);
    }
  };
  channels.template operator()<kPixels<V>>();
  channels.template operator()<4>();
  channels.template operator()<2>();
  channels.template operator()<1>();
}

template <typename T>
void add_row(const Set<T>& set, int64_t i, int64_t groups, const Array<T>& kernel,
             const std::vector<Chunk>& parts, std::vector<Rows<T>>& rows) {
  const Axis& axis = set.axes[1];
  for (int64_t j = 0; j < kernel.h; ++j) {
    const std::pair<int64_t, int64_t> inside = axis.inside(j);
    set.meet(i, j, inside.first, rows);
    for (int64_t group = 0; group < groups; ++group)
      for (const Chunk& chunk : parts)
        dispatch<T>(chunk, [&]<int L, int V>() {
          const int64_t feature = group * (kernel.c / groups) + chunk.offset;
          const Pixels<T> pixels{rows,
                                 inside.second - inside.first,
                                 axis.stride * set.images.c,
                                 kernel.c,
                                 group * kernel.w,
                                 feature};
          add_tile<T, L, V>(pixels, kernel.w, kernel.at(i, j, 0) + feature);
        });
  }
}

// The kernel's array is (kh, kw, channels a group, features).
template <typename T>
void kernel_gradient(ThreadPool& pool, const Array<const T>& images, const Array<const T>& outputs,
                     const Array<T>& kernel, const Axis axes[2], int64_t groups) {
  if (is_product(images, kernel, outputs, axes, groups))
    return multiply<T>(pool, pixels_of(images).transposed(), pixels_of(outputs), nullptr,
                       numbers_of(kernel));
  if (groups == 1) return kernel_gradient_dense(pool, images, outputs, kernel, axes);
  const int64_t group = kernel.c / groups, rows = outputs.n * outputs.h;
  const bool depthwise = kernel.w == 1 && group == 1;
  const int64_t numbers = kernel.n * kernel.h * kernel.w * kernel.c;
  const int64_t bytes = (images.w * images.c * axes[0].stride + outputs.w * outputs.c) * sizeof(T);
  const int64_t size = std::max<int64_t>(1, (1 << 19) / std::max<int64_t>(bytes, 1));
  const int64_t threads = std::max<int64_t>(pool.num_threads(), 1);
  // Slices of the rows are added up apart, and then together.
  const int64_t slices = std::max<int64_t>(1, std::min((rows + size - 1) / size, 2 * threads));
  const Buffer<T> partial((slices - 1) * numbers);
  const std::vector<Chunk> parts = chunks<T>(depthwise ? kernel.c : group);
  auto compute = [&](int64_t slice) {
    Array<T> sums = kernel;
    if (slice > 0) sums.data = partial.data() + (slice - 1) * numbers;
    std::fill_n(sums.data, numbers, T(0));
    std::vector<Rows<T>> met;
    const int64_t end = rows * (slice + 1) / slices;
    for (int64_t first = rows * slice / slices; first < end; first += size) {
      const Set<T> set{images, outputs, axes, first, std::min(end, first + size)};
      set.fetch_rows();
      for (int64_t i = 0; i < kernel.n; ++i) {
        if (depthwise)
          add_depthwise_row(set, i, sums, parts, met);
        else
          add_row(set, i, groups, sums, parts, met);
      }
    }
  };
  parallel(pool, {{slices, compute}, adding(partial, slices - 1, kernel.data, numbers)});
}

}  // namespace jaxcnn

#endif
